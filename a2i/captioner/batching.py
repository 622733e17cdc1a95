"""Sounds on their way through the pipeline: read a few at a time, captioned beside others of similar length.

A captioner learns from clips of up to half a minute, and one sentence says what is in one. A long recording is therefore
heard in parts of `PART` seconds, the last two of equal length so that none is tiny. It is read once, two parts in memory at
a time: memory does not grow with its length, which need not be known before its end; and the decoder never attends to more
states than it could have learnt to.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from a2i import audio
from a2i.audio.waveforms import from_array
from a2i.captioner.candidates import Candidate
from a2i.diffusion import Drawing

# A sound file, or an array of samples with its sampling rate in Hz; see `a2i.audio.waveforms.from_array`.
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
    """A sound on its way; a long one has no `waveform` but a `source`, which gives its blocks once."""

    waveform: np.ndarray
    error: Exception | None = None
    candidates: list[Candidate] = field(default_factory=list)
    drawing: Drawing | None = None
    seconds: float = 0.0
    source: Iterator[np.ndarray] | None = None
    waiting: int = 0  # samples of the source that are in memory
    recording: audio.Recording | None = None
    parts: tuple[Part, ...] = ()

    @property
    def held(self) -> int:
        """Samples in memory."""
        return self.waveform.size + self.waiting

    @property
    def warning(self) -> str | None:
        """What was wrong with the file though it could be read, once it is read."""
        return None if self.recording is None else self.recording.warning

    def spans(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """Parts of the source: start and end in seconds, and the waveform."""
        size, start, held = round(PART * audio.SAMPLE_RATE), 0, np.zeros(0, np.float32)
        for block in _filled(self.source or iter(()), size):
            held = np.concatenate([held, block])
            if len(held) > 2 * size:
                yield _span(start, held[:size])
                held, start = held[size:], start + size
        half = (len(held) + 1) // 2
        for piece in (held,) if len(held) <= size else (held[:half], held[half:]):
            yield _span(start, piece)
            start += len(piece)


def _span(start: int, samples: np.ndarray) -> tuple[float, float, np.ndarray]:
    return start / audio.SAMPLE_RATE, (start + len(samples)) / audio.SAMPLE_RATE, samples


def _filled(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of about `size`, so that few have to be put together."""
    some: list[np.ndarray] = []
    for block in blocks:
        some += [block[first : first + size] for first in range(0, len(block), size)]
        while sum(map(len, some)) >= size:
            joined = np.concatenate(some)
            yield joined[:size]
            some = [joined[size:]]
    yield from some


def read(sound: Sound) -> Heard:
    """Read a sound, or the beginning of a long one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sound can't be used.
    """
    size = round(PART * audio.SAMPLE_RATE)
    if not isinstance(sound, str | os.PathLike):
        waveform = from_array(*(sound if isinstance(sound, tuple) and len(sound) == 2 else (sound, None)))
        if len(waveform) <= size:
            return Heard(waveform)
        return Heard(np.zeros(0, np.float32), source=iter([waveform]), waiting=len(waveform))
    recording = audio.Recording(Path(sound))
    blocks, begun, count = recording.blocks(), [], 0
    for block in blocks:
        begun.append(block)
        count += len(block)
        if count > size:
            source = chain(begun, blocks)
            return Heard(np.zeros(0, np.float32), source=source, waiting=count, recording=recording)
    return Heard(np.concatenate(begun), recording=recording)


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
