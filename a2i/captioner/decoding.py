"""The settings by which captions are found."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

CHOICES = {"cleaning": ("none", "published"), "precision": ("float32", "bfloat16")}
# What values lie within reason: more beams than that are a mistyped number, a lower temperature divides beyond what numbers of
# 16 bits hold.
RANGES: dict[str, tuple[float, float]] = {
    "num_beams": (1, 1_000),
    "temperature": (1e-3, 1e3),
    "num_candidates": (1, 1_000),
    "max_tokens": (1, 10_000),
    "length_penalty": (-10, 10),
    "no_repeat_ngram_size": (0, 10_000),
}


@dataclass(frozen=True)
class Decoding:
    """How captions are found: saved in the captioner folder, changed in a call.

    Attributes:
        num_beams: beams of beam search; 1 for greedy decoding, or for sampling.
        do_sample: sample instead of searching for the likeliest.
        temperature: of the distribution that is sampled from.
        top_p: sample from the likeliest tokens that together have this probability.
        num_candidates: captions for each clip; at most `num_beams` unless sampling.
        max_tokens: tokens of the longest caption.
        length_penalty: of beam search; above 0 favours longer captions.
        no_repeat_ngram_size: no sequence of so many tokens occurs twice in a caption; 0 for no limit.
        cleaning: of the caption's text: `none`, or `published` (see `a2i.captioner.cleaning`).
        precision: `float32`, or `bfloat16` for products and convolutions, faster on some processors, slower on others;
            where two captions are all but equally likely it may find the other.
    """

    num_beams: int = 4
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    num_candidates: int = 1
    max_tokens: int = 64
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    cleaning: str = "none"
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"got {name}={getattr(self, name)!r}; expected {' or '.join(choices)}")
        if not isinstance(self.do_sample, bool):
            raise ValueError(f"got do_sample={self.do_sample!r}; expected true or false")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            whole = self.__dataclass_fields__[name].type in (int, "int")
            # True and False are integers to Python; what is no number lies within no range.
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                kind = "whole number" if whole else "number"
                raise ValueError(f"got {name}={value!r}; expected a {kind} from {least:g} to {most:g}")
        if not isinstance(self.top_p, int | float) or isinstance(self.top_p, bool) or not 0 < self.top_p <= 1:
            raise ValueError(f"got top_p={self.top_p!r}; expected a number with 0 < top_p ≤ 1")
        if not self.do_sample and self.num_candidates > self.num_beams:
            raise ValueError(
                f"got num_candidates={self.num_candidates} with num_beams={self.num_beams}; expected no more candidates than"
                " beams, or do_sample=true"
            )

    @property
    def rows(self) -> int:
        """Rows of a batch that `transformers`' generation has for each clip."""
        return max(self.num_beams, self.num_candidates)

    def with_changes(self, **changes: Any) -> "Decoding":
        """The same with some values changed; None leaves one as it is.

        Raises:
            ValueError: a name is unknown or a value does not fit.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"got decoding setting {unknown[0]!r}; expected some of {', '.join(self.__dataclass_fields__)}"
            )
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


def check_changes(changes: Mapping[str, Any], prefix: str = "decoding.") -> None:
    """Check each change by itself, where the settings that it changes are not known yet: before a captioner is loaded.

    Args:
        changes: values by name; None leaves one as it is.
        prefix: of their names in the configuration.

    Raises:
        ValueError: one lies within no range.
    """
    for name, value in changes.items():
        if value is None:
            continue
        # So many beams that any number of candidates fits.
        given: dict[str, Any] = {"num_beams": int(RANGES["num_beams"][1]), name: value}
        try:
            Decoding(**given)
        except ValueError as error:
            raise ValueError(str(error).replace("got ", f"got {prefix}", 1)) from error
