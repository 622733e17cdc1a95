"""Recordings joined from known pieces, with the times at which one piece gives way to the next.

Of each data set (`esc10`, `esc50`, `sounds`, `urban` below A2I_REAL_DATA) half of the kinds are for choosing settings, the
other half for reporting. A recording takes its pieces from one data set: where they come from tells no boundary.
"""

import csv
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from a2i import audio

RATE = 44_100  # Hz
SECONDS = (3.0, 20.0)  # of a piece
CROSS_FADE = (0.25, 1.0)  # seconds
BACKGROUND = (10.0, 20.0)  # dB that the background is below the pieces
BACKGROUNDS = ("Rain", "Sea waves", "rain", "wind", "air conditioner", "crickets", "street music", "traffic", "crowd")
LEVEL = -25.0  # dBFS, RMS of a piece, give or take
SPREAD = 6.0  # dB
QUIET = -60.0  # dBFS, RMS of 0.1 s: silence
LONGEST_SILENCE = 1.0  # seconds within a piece; longer silence would be a scene of its own


@dataclass(frozen=True)
class Source:
    """A recording that is cut into excerpts: its kind, and the files in their order."""

    kind: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Joined:
    """A recording made of pieces.

    Attributes:
        samples: (N,) float32 at `RATE`.
        boundaries: seconds at which the next piece begins; the middle of a cross-fade.
        kinds: of the pieces.
        background: whether a noise lies under all of them.
    """

    samples: np.ndarray
    boundaries: tuple[float, ...]
    kinds: tuple[str, ...]
    background: bool


def sources(root: Path, half: str) -> dict[str, list[Source]]:
    """The sources of each data set whose kinds belong to a half, `choosing` or `reporting`."""
    found = {}
    for name in ("esc10", "esc50", "sounds", "urban"):
        by_recording: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for kind, recording, path in _files(root, name):
            by_recording[kind, recording].append(path)
        kinds = sorted({kind for kind, _ in by_recording})
        random.Random(name).shuffle(kinds)
        ours = set(kinds[::2] if half == "choosing" else kinds[1::2])
        found[name] = [Source(kind, tuple(files)) for (kind, _), files in sorted(by_recording.items()) if kind in ours]
    return found


def _files(root: Path, name: str) -> Iterator[tuple[str, str, Path]]:
    if name == "esc10":
        for path in sorted((root / name).glob("*/*.ogg")):
            yield path.parent.name.split(" - ")[1], path.name.split("-")[1], path
        return
    with (root / name / f"{name}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["kind"], row["recording"], root / name / row["file"]


def joined(found: dict[str, list[Source]], seed: int, pieces: int = 12) -> Joined:
    """One recording of so many pieces: neighbours differ in kind. A third of the boundaries are cross-fades; half of the
    recordings have a background."""
    draw = random.Random(seed)
    some = found[list(found)[seed % len(found)]]
    by_kind: dict[str, list[Source]] = defaultdict(list)
    for source in some:
        by_kind[source.kind].append(source)
    samples = np.zeros(0, np.float32)
    kinds: list[str] = []
    boundaries: list[float] = []
    while len(kinds) < pieces:
        kind = draw.choice([kind for kind in by_kind if kinds[-1:] != [kind]])
        piece = _piece(draw.choice(by_kind[kind]), draw)
        if piece is None:
            continue
        if kinds:
            fade = round(draw.uniform(*CROSS_FADE) * RATE) if draw.random() < 1 / 3 else 0
            boundaries.append((len(samples) - fade / 2) / RATE)
            samples = _faded(samples, piece, fade)
        else:
            samples = piece
        kinds.append(kind)
    under = draw.random() < 0.5
    if under:
        samples = _with_background(samples, found, draw)
    return Joined(np.clip(samples, -1, 1), tuple(boundaries), tuple(kinds), under)


def _piece(source: Source, draw: random.Random) -> np.ndarray | None:
    """Some seconds of a source, its excerpts in a row; None where it is shorter than a piece."""
    whole = _without_silence(np.concatenate([audio.load(path, RATE) for path in source.files[:4]]))
    if len(whole) < SECONDS[0] * RATE:
        return None
    length = round(draw.uniform(SECONDS[0], min(SECONDS[1], len(whole) / RATE)) * RATE)
    start = draw.randrange(len(whole) - length + 1)
    piece = whole[start : start + length]
    level = 10 ** ((LEVEL + draw.uniform(-SPREAD, SPREAD)) / 20)
    return (piece * level / max(float(np.sqrt(np.mean(piece**2))), 1e-6)).astype(np.float32)


def _without_silence(samples: np.ndarray) -> np.ndarray:
    """Silence at both ends left out, and shortened to `LONGEST_SILENCE` where it is longer."""
    step = RATE // 10
    frames = [samples[first : first + step] for first in range(0, len(samples), step)]
    quiet = [float(np.mean(frame**2)) < 10 ** (QUIET / 10) for frame in frames]
    kept: list[np.ndarray] = []
    place = 0
    for silent, run in groupby(quiet):
        count = len(list(run))
        if not silent:
            kept += frames[place : place + count]
        elif 0 < place < len(frames) - count:
            kept += frames[place : place + min(count, round(LONGEST_SILENCE * 10))]
        place += count
    return np.concatenate(kept) if kept else np.zeros(0, np.float32)


def _faded(before: np.ndarray, after: np.ndarray, fade: int) -> np.ndarray:
    """One after the other, over so many samples at equal power."""
    if not fade:
        return np.concatenate([before, after])
    angle = np.linspace(0, np.pi / 2, fade, dtype=np.float32)
    over = before[-fade:] * np.cos(angle) + after[:fade] * np.sin(angle)
    return np.concatenate([before[:-fade], over, after[fade:]])


def _with_background(samples: np.ndarray, found: dict[str, list[Source]], draw: random.Random) -> np.ndarray:
    """A steady noise, drawn from the same half's sources, under all of it."""
    noises = [source for some in found.values() for source in some if source.kind in BACKGROUNDS]
    noise = np.concatenate([audio.load(path, RATE) for path in draw.choice(noises).files[:4]])
    noise = np.resize(noise, len(samples))
    decibels = LEVEL - draw.uniform(*BACKGROUND)
    return samples + noise * 10 ** (decibels / 20) / max(float(np.sqrt(np.mean(noise**2))), 1e-6)


def real_data() -> Path:
    """The folder of the recordings."""
    if not os.environ.get("A2I_REAL_DATA"):
        raise SystemExit("needs real recordings: set A2I_REAL_DATA to their folder")
    return Path(os.environ["A2I_REAL_DATA"])
