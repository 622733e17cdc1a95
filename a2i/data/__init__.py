"""Where recordings and their captions come from. No Lightning here.

A data set is any object with two methods: ``prepare()`` downloads or makes what is missing, and may be called again;
``clips(split)`` lists the clips of ``"train"``, ``"val"`` or ``"test"``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from a2i import audio

NAMELESS = frozenset({"silence", "noise", "unknown"})  # labels of what names no source


@dataclass(frozen=True)
class Clip:
    """One recording, or the part of one between `start` and `end`, and what people wrote about it.

    Attributes:
        name: identifies the clip within its split (the file's name as the metadata spells it).
        path: the sound file, or what holds its content, such as a shard's member.
        captions: one or more sentences.
        start: seconds from the file's beginning; None for the beginning.
        end: seconds from the file's beginning; None for the end.
        labels: names of the sources that sound in it; one of `NAMELESS`, or empty, if none has a name; None if the data
            set does not say.
        tags: (classes,) float32, the probabilities that a tagger gives to each of its classes; None where there are none. See
            `a2i.data.tags`.
        recording: what it was cut from, where others may be cut from the same; None where the data set does not say.

    Examples:
        >>> Clip("bell", Path("bell.wav"), ("A bell rings.",), start=0.5, end=2.0).seconds()
        1.5
    """

    name: str
    path: Path | audio.Held
    captions: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    labels: frozenset[str] | None = None
    tags: np.ndarray | None = field(default=None, compare=False, repr=False)
    recording: str | None = field(default=None, compare=False, repr=False)

    def seconds(self) -> float:
        """About how long it is, from `end` or the file's header, without decoding."""
        if self.end is not None:
            end = self.end
        else:
            end = self.path.seconds if isinstance(self.path, audio.Held) else audio.duration(self.path, exact=False)
        return end - (self.start or 0.0)


class DataSet(Protocol):
    """What every data set offers."""

    def prepare(self) -> None:
        """Download or make what is missing. Safe to call again, and after an interruption."""

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            FileNotFoundError: files are missing; the message lists them and says how to get them.
            ValueError: the split is unknown, or the metadata can't be read.
        """


@runtime_checkable
class Drawing(Protocol):
    """What a data set offers that chooses the clips of each epoch."""

    def drawn(self, epoch: int, seed: int) -> list[int] | None:
        """Indices of the training clips that an epoch has, as many in each; None for all of them."""
