"""What metrics share: where models and programs lie, tokens, scores, and why one is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from a2i.metrics.intervals import Interval

SENTENCE_MODEL = "sentence-transformers/paraphrase-TinyBERT-L6-v2"  # FENSE's own
INSTALL = 'pip install "a2i[eval]"'


@dataclass(frozen=True)
class Parts:
    """Where the metrics find what no package brings along."""

    java: str = "java"  # 8 or newer: a name on the PATH, or a file
    java_seconds: float = 1800.0  # a Java program that takes longer is ended, and its metric missing
    spice_folder: str | Path | None = None  # with spice-1.0.jar and lib/; None: the one in pycocoevalcap
    sentence_model: str = SENTENCE_MODEL  # for FENSE: a folder, or a Hub id that is in the Hub's cache
    # For FENSE and SPIDEr-FL. None: FLUENCY_FILE in $FENSE_DATA or torch's hub folder, where aac-metrics keeps it.
    fluency_model: str | Path | None = None
    device: str | None = None  # where FENSE's models run; None: CUDA if there is one, otherwise the CPU

    def __post_init__(self) -> None:
        if not self.java_seconds > 0:
            raise ValueError(f"got caption_metrics.java_seconds={self.java_seconds}; expected more than 0")


class MissingError(Exception):
    """A metric cannot be computed here; says why, and what to do. `settings` are those known by then."""

    def __init__(self, reason: str, settings: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.settings = settings or {}


class ReferencesError(ValueError):
    """A clip has no reference that captions can be scored against: the clips are at fault, and no metric."""


class Tokens(NamedTuple):
    """Captions in tokens with a space between."""

    predicted: list[str]
    references: list[list[str]]
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Tally:
    """A corpus score that adds up the counts of its clips before it divides, as BLEU's and METEOR's do."""

    counts: NDArray[np.float64]  # (N, K): a row a clip
    formula: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (S, K) sums of counts → (S,) scores

    def score(self, clips: NDArray[np.int64] | None = None) -> float:
        """The corpus score of some clips, by their indices, some perhaps several times; None for all."""
        counts = self.counts if clips is None else self.counts[clips]
        return float(self.formula(counts.sum(axis=0, keepdims=True))[0])


@dataclass(frozen=True)
class Score:
    """One value over N captions, or why there is none."""

    value: float | None
    clips: tuple[float, ...] | None = None  # N values, NaN for a clip without one; None for what has no value of a clip
    missing: str | None = None  # one line: why there is no value, and how to get one
    settings: dict[str, Any] = field(default_factory=dict)  # that made it: plain values for a report or a log
    tally: Tally | None = field(default=None, compare=False, repr=False)  # where the value is no mean of the clips
    interval: "Interval | None" = None
    details: dict[str, Any] = field(default_factory=dict)  # more that belongs to it, as plain values

    @classmethod
    def of(
        cls, clips: Any, settings: dict[str, Any] | None = None, value: Any = None, tally: Tally | None = None
    ) -> "Score":
        """A score of numbers, an array or a tensor of N clips; its value is their mean where none is given."""
        numbers = tuple(map(float, clips))
        whole = float(np.mean(numbers)) if value is None else float(value)
        return cls(whole, numbers, None, settings or {}, tally)


def library(package: str) -> dict[str, Any]:
    """A package and its version, for a metric's settings."""
    return {"library": package, "version": version(package)}
