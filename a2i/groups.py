"""Sounds on their way through the pipeline: read a few at a time, captioned beside others of similar length.

A captioner learns from clips of up to half a minute, and one sentence says what is in one. A long recording is therefore
heard in equal parts of at most `PART` seconds, one in memory at a time: memory does not grow with its length, and the decoder
never attends to more states than it could have learnt to.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from a2i import audio
from a2i.candidates import Candidate
from a2i.diffusion import Drawing
from a2i.waveforms import from_array

# A sound file, or an array of samples with its sampling rate in Hz; see `a2i.waveforms.from_array`.
Sound = str | os.PathLike[str] | tuple[Any, float]

PART = 60.0  # seconds
GROUP_SAMPLES = 600 * audio.SAMPLE_RATE  # ten minutes: beyond that, sounds that wait for others only take room


@dataclass(frozen=True)
class Part:
    """What is heard in a part of a long recording, `start` to `end` in seconds."""

    start: float
    end: float
    caption: str
    confidence: float


@dataclass
class Heard:
    """A sound on its way; a long one has no `waveform` but a `source` to read parts of."""

    waveform: np.ndarray
    error: Exception | None = None
    candidates: list[Candidate] = field(default_factory=list)
    drawing: Drawing | None = None
    seconds: float = 0.0
    source: Path | np.ndarray | None = None
    length: float = 0.0  # of the source, in seconds
    parts: tuple[Part, ...] = ()

    @property
    def held(self) -> int:
        """Samples in memory."""
        return self.waveform.size + (self.source.size if isinstance(self.source, np.ndarray) else 0)

    def spans(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """Equal parts of the source: start and end in seconds, and the waveform."""
        count = math.ceil(self.length / PART)
        for index in range(count):
            start, end = self.length * index / count, self.length * (index + 1) / count
            if isinstance(self.source, Path):
                yield start, end, audio.load(self.source, start, end if index + 1 < count else None)
            elif self.source is not None:
                yield start, end, self.source[round(start * audio.SAMPLE_RATE) : round(end * audio.SAMPLE_RATE)]


def read(sound: Sound) -> Heard:
    """Read a sound, or if it is long see how long it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sound can't be used.
    """
    if isinstance(sound, str | os.PathLike):
        if (length := _header_seconds(Path(sound))) > PART:
            return Heard(np.zeros(0, np.float32), source=Path(sound), length=length)
        waveform = audio.load(Path(sound))
    else:
        waveform = from_array(*(sound if isinstance(sound, tuple) and len(sound) == 2 else (sound, None)))
    if (length := len(waveform) / audio.SAMPLE_RATE) > PART:
        return Heard(np.zeros(0, np.float32), source=waveform, length=length)
    return Heard(waveform)


def _header_seconds(path: Path) -> float:
    """By the header; 0 where soundfile can't tell."""
    import soundfile

    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, TypeError):
        return 0.0
    return float(info.duration) if 0 < info.frames < audio.UNKNOWN else 0.0


def read_groups(sounds: Iterable[Sound], size: int) -> Iterator[list[Heard]]:
    """So many sounds at a time, fewer where they are long: what is in memory stays bounded."""
    group: list[Heard] = []
    for sound in sounds:
        began = time.perf_counter()
        try:
            heard = read(sound)
        except Exception as error:
            heard = Heard(np.zeros(0, np.float32), error)
        heard.seconds = time.perf_counter() - began
        group.append(heard)
        if len(group) == size or sum(each.held for each in group) > GROUP_SAMPLES:
            yield group
            group = []
    if group:
        yield group


def batches_by_length(group: list[Heard], size: int) -> list[list[Heard]]:
    """Those that can be captioned whole, the shortest first, in batches in which padding takes no more room than sound."""
    batches: list[list[Heard]] = []
    whole = [each for each in group if each.error is None and each.source is None]
    for heard in sorted(whole, key=lambda each: each.waveform.size):
        last = batches[-1] if batches else []
        if last and len(last) < size and heard.waveform.size <= 2 * last[0].waveform.size:
            last.append(heard)
        else:
            batches.append([heard])
    return batches
