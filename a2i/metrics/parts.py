"""What all caption metrics are given and give back: tokens, where models and programs lie, and why one is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
            raise ValueError(f"got java_seconds {self.java_seconds}; expected more than 0")


class MissingError(Exception):
    """A metric cannot be computed here; says why, and what to do."""


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


class Result(NamedTuple):
    """What a metric gives: numbers, or tensors of them."""

    corpus: Any
    clips: Any  # N numbers
    settings: dict[str, Any]
    tally: Tally | None = None  # where the corpus score is no mean of the clips


def library(package: str) -> dict[str, Any]:
    """A package and its version, for a metric's settings."""
    return {"library": package, "version": version(package)}
