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
        confidence: probability that it names what is heard, by the captioner's `Calibration` of the evidence; where it
            has none, the evidence as a probability.
        evidence: natural logarithm of the probability of the clip's keywords; where the captioner has none,
            `log_probability`, which says how sure the wording is as well.
    """

    caption: str
    log_probability: float
    confidence: float
    evidence: float


def best_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The likeliest first."""
    return sorted(candidates, key=lambda candidate: -candidate.log_probability)


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each caption once, where it first stands."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.caption, candidate)
    return list(seen.values())


@dataclass(frozen=True)
class Calibration:
    """`sigmoid(scale × evidence + offset)`: Platt's scaling.

    Platt 1999, "Probabilistic outputs for support vector machines". A model is surer of what it has learnt by heart than it
    should be, and a caption's own probability says how sure its wording is as well; both are fitted away on recordings that
    it was not trained on.

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
        right: whether each names what is heard.

    Raises:
        ValueError: nothing to fit, or not as many of one as of the other.
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
