"""The captions that a captioner proposes for a clip, and how sure it is of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """One caption that a clip could have.

    Attributes:
        caption: the sentence.
        log_probability: mean natural logarithm of its tokens' probabilities, the EOS among them.
        confidence: probability that the caption names the right source, by the captioner's `Calibration` of the
            evidence; without one, the evidence as a probability.
        evidence: natural logarithm of the probability of the clip's keywords; where the captioner has none,
            `log_probability`, in which the probability of the wording counts too.
    """

    caption: str
    log_probability: float
    confidence: float
    evidence: float


def best_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorted by log-probability, the largest first."""
    return sorted(candidates, key=lambda candidate: -candidate.log_probability)


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each caption once, in the order of the first of each."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.caption, candidate)
    return list(seen.values())


@dataclass(frozen=True)
class Calibration:
    """`sigmoid(scale × evidence + offset)`: Platt's scaling.

    Platt 1999, "Probabilistic outputs for support vector machines". A model is overconfident, and in a caption's own
    probability its wording counts too; a fit on recordings outside the training data corrects both.

    Attributes:
        scale: of the evidence, a natural logarithm; see `Candidate`.
        offset: the result's log-odds where that logarithm is 0.
    """

    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError(f"got {self}; expected finite numbers")

    def confidence(self, evidence: float) -> float:
        """In [0, 1]."""
        return 1 / (1 + math.exp(-min(max(self.scale * evidence + self.offset, -50.0), 50.0)))


def fit(evidence: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Fit a calibration by maximum likelihood, with Platt's smoothed targets: finite even where all captions are right.

    Args:
        evidence: `Candidate.evidence` of captions of recordings that the captioner was not trained on.
        right: whether each names the right source.

    Raises:
        ValueError: there is nothing to fit, or the lengths differ.
    """
    from scipy.optimize import minimize

    if not evidence or len(evidence) != len(right):
        raise ValueError(f"got {len(evidence)} pieces of evidence and {len(right)} verdicts; expected as many of both")
    x, good = np.asarray(evidence, float), np.asarray(right, bool)
    targets = np.where(good, (good.sum() + 1) / (good.sum() + 2), 1 / ((~good).sum() + 2))

    def loss(parameters: np.ndarray) -> float:
        logits = parameters[0] * x + parameters[1]
        return float(np.sum(np.logaddexp(0, logits) - targets * logits))

    scale, offset = minimize(loss, x0=[1.0, 0.0]).x
    return Calibration(float(scale), float(offset))
