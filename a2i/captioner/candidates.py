"""What a captioner proposes for a clip."""

from collections.abc import Iterable
from dataclasses import dataclass


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
