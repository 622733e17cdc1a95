"""Many sounds → captions, the one way that the programs and `AudioToImage` share.

Sounds are read a few at a time and captioned in batches of similar length. One sentence describes one clip, and a captioner
hears no more than so many seconds as one: a longer recording is captioned part by part, the last two parts of equal length so
that none is tiny. It is read once, two parts in memory at a time: memory does not grow with its length, which need not be
known in advance.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from a2i import audio
from a2i.audio.waveforms import from_array
from a2i.captioner.candidates import Candidate
from a2i.captioner.protocols import CaptionModel
from a2i.machine import release

SAMPLING = threading.Lock()  # sampling draws from torch's random state, which all threads share

Caption = Callable[[Sequence[np.ndarray]], list[list[Candidate]]]  # a batch of waveforms → candidates of each

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Excerpt(Protocol):
    """A sound file from `start` to `end` in seconds, None for the file's beginning and end; `a2i.data.Clip` is one."""

    @property
    def path(self) -> Path | audio.Held: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...


# A sound file, some of one, or an array of samples with its sampling rate in Hz (see `a2i.audio.waveforms.from_array`).
Sound = str | os.PathLike[str] | Excerpt | tuple[Any, float]


@dataclass(frozen=True)
class Part:
    """The caption of a part of a long recording, `start` to `end` in seconds."""

    start: float
    end: float
    caption: str
    confidence: float


@dataclass(frozen=True)
class CaptionResult:
    """What `caption_many` finds for a sound.

    Attributes:
        candidates: the best first, at least one; of a recording in parts, those of the part with the highest confidence.
        parts: of a recording longer than the captioner's `longest`; else none.
        warning: what was wrong with the file though it could be read, in one line; None if nothing was.
        seconds: that reading and captioning took, this sound's share of its batch.
    """

    candidates: tuple[Candidate, ...]
    parts: tuple[Part, ...]
    warning: str | None
    seconds: float


def caption_many(
    captioner: CaptionModel, sounds: Iterable[Sound], batch_size: int = 1, seed: int = 0, **decoding: Any
) -> Iterator[CaptionResult | Exception]:
    """Caption sounds in their order. A sound that fails stops no other.

    Args:
        captioner: see `a2i.captioner.protocols.CaptionModel`.
        sounds: sound files, excerpts of files, and pairs of an array and its sampling rate; read as they are needed, no more
            than `batch_size` at a time.
        batch_size: clips that are captioned at once. Sampled captions are found clip by clip, since each clip starts from
            the seed.
        seed: of sampling; search needs none.
        **decoding: changes of the captioner's decoding settings, by name.

    Yields:
        for each sound its result, or the exception that captioning it alone raises. Batches change results by no more than
        the rounding of their sums.

    Raises:
        ValueError: a decoding setting does not fit.
    """
    sampled = captioner.decoding_with(**decoding).do_sample

    def caption(waveforms: Sequence[np.ndarray]) -> list[list[Candidate]]:
        if not sampled:
            return captioner.caption(waveforms, **decoding)
        with _seeded(seed, captioner.device):
            return captioner.caption(waveforms, **decoding)

    for group in _groups(sounds, captioner.sampling_rate, captioner.longest, 1 if sampled else batch_size):
        yield from _caption_group(caption, group)


def batch_or_each(work: Callable[[Sequence[T]], Iterable[R]], items: Sequence[T]) -> list[R | Exception]:
    """Do the work on a batch; on failure retry item by item, and give each that fails alone its error.

    The retry stands outside the `except`: inside it the error, and with it the failed batch, would stay in memory.
    """
    try:
        return list(work(items))
    except Exception as error:
        release(error)
        if len(items) == 1:
            return [error]
    return [found for item in items for found in batch_or_each(work, [item])]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random state from a seed, given back as it was; one thread at a time."""
    with SAMPLING, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# --- Reading


@dataclass(frozen=True)
class Opened:
    """A short sound, or the beginning of a long one.

    Attributes:
        begun: (samples,) all of a short sound; of a long one what is read so far, more than a part.
        rate: of the samples, in Hz.
        part: samples of the longest part.
        seconds: that reading took so far.
        rest: of a long one, the blocks that follow, once; None of a short one.
        recording: of a file.
    """

    begun: np.ndarray
    rate: int
    part: int
    seconds: float
    rest: Iterator[np.ndarray] | None = None
    recording: audio.Recording | None = None

    def parts(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """Start and end in seconds, and the waveform, of each part."""
        start, size, held = 0, self.part, np.zeros(0, np.float32)
        for block in _in_blocks(chain([self.begun], self.rest or ()), size):
            held = np.concatenate([held, block])
            if len(held) > 2 * size:
                yield self._part(start, held[:size])
                held, start = held[size:], start + size
        half = (len(held) + 1) // 2
        for piece in (held,) if len(held) <= size else (held[:half], held[half:]):
            yield self._part(start, piece)
            start += len(piece)

    def _part(self, start: int, samples: np.ndarray) -> tuple[float, float, np.ndarray]:
        return start / self.rate, (start + len(samples)) / self.rate, samples


def _in_blocks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of `size`, the last ones shorter, so that few have to be put together."""
    some: list[np.ndarray] = []
    for block in blocks:
        some += [block[first : first + size] for first in range(0, len(block), size)]
        while sum(map(len, some)) >= size:
            joined = np.concatenate(some)
            yield joined[:size]
            some = [joined[size:]]
    yield from some


def read(sound: Sound, rate: int, longest: float) -> Opened:
    """Read a sound, or the beginning of one longer than `longest` seconds, at `rate` Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sound can't be used.
    """
    began, size = time.perf_counter(), round(longest * rate)
    if isinstance(sound, str | os.PathLike):
        recording, start, end = audio.Recording(Path(sound), rate), None, None
    elif isinstance(sound, Excerpt):
        recording, start, end = audio.Recording(sound.path, rate), sound.start, sound.end
    else:
        samples, given = sound if isinstance(sound, tuple) and len(sound) == 2 else (sound, None)
        waveform = from_array(samples, given, rate)
        rest = iter(()) if len(waveform) > size else None
        return Opened(waveform, rate, size, time.perf_counter() - began, rest)
    blocks, begun, count = recording.blocks(start, end), [], 0
    for block in blocks:
        begun.append(block)
        count += len(block)
        if count > size:
            return Opened(np.concatenate(begun), rate, size, time.perf_counter() - began, blocks, recording)
    return Opened(np.concatenate(begun), rate, size, time.perf_counter() - began, None, recording)


def _groups(sounds: Iterable[Sound], rate: int, longest: float, size: int) -> Iterator[list[Opened | Exception]]:
    """Read so many sounds at a time, fewer where arrays are long: what is in memory stays bounded."""
    group: list[Opened | Exception] = []
    held = 0
    for sound in sounds:
        try:
            group.append(read(sound, rate, longest))
        except Exception as error:
            release(error)
            group.append(error)
        held += len(group[-1].begun) if isinstance(group[-1], Opened) else 0
        if len(group) == size or held > size * round(longest * rate):
            yield group
            group, held = [], 0
    if group:
        yield group


# --- Captioning


def _caption_group(caption: Caption, group: Sequence[Opened | Exception]) -> list[CaptionResult | Exception]:
    """Caption the short sounds of a group in batches, then the long ones."""
    found: dict[int, CaptionResult | Exception] = {}
    found |= {index: each for index, each in enumerate(group) if isinstance(each, Exception)}
    opened = {index: each for index, each in enumerate(group) if isinstance(each, Opened)}
    for batch in _batches({index: len(each.begun) for index, each in opened.items() if each.rest is None}):
        began = time.perf_counter()
        captioned = batch_or_each(caption, [opened[index].begun for index in batch])
        seconds = (time.perf_counter() - began) / len(batch)
        for index, candidates in zip(batch, captioned, strict=True):
            found[index] = _result(opened[index], candidates, seconds)
    for index, each in opened.items():
        if each.rest is not None:
            found[index] = _caption_parts(caption, each)
    return [found[index] for index in range(len(group))]


def _batches(lengths: Mapping[int, int]) -> list[list[int]]:
    """Sounds by their lengths, the shortest first, in batches in which padding takes no more room than sound."""
    batches: list[list[int]] = []
    for index in sorted(lengths, key=lambda index: lengths[index]):
        if batches and lengths[index] <= 2 * lengths[batches[-1][0]]:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _result(opened: Opened, found: Sequence[Candidate] | Exception, seconds: float) -> CaptionResult | Exception:
    if isinstance(found, Exception):
        return found
    warning = opened.recording.warning if opened.recording else None
    return CaptionResult(tuple(found), (), warning, opened.seconds + seconds)


def _caption_parts(caption: Caption, long: Opened) -> CaptionResult | Exception:
    """Caption a long recording part by part; the candidates are those of the part with the highest confidence."""
    began = time.perf_counter()
    parts: list[Part] = []
    best: Sequence[Candidate] = ()
    try:
        for start, end, waveform in long.parts():
            (candidates,) = caption([waveform])
            parts.append(Part(start, end, candidates[0].caption, candidates[0].confidence))
            if not best or candidates[0].confidence > best[0].confidence:
                best = candidates
    except Exception as error:
        release(error)
        return error
    warning = long.recording.warning if long.recording else None
    return CaptionResult(tuple(best), tuple(parts), warning, long.seconds + time.perf_counter() - began)
