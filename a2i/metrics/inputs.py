"""What a metric is computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from a2i.metrics.counts import Counts, count_captions, lexicon
from a2i.metrics.parts import MissingError, Parts, Score, Tokens
from a2i.metrics.tokens import tokenize


@dataclass
class Inputs:
    """What a metric is computed from: the captions of N clips, and what the metrics of one call share.

    Attributes:
        captions: N, '' where there is none.
        references: N lists of reference captions.
        parts: where models and programs lie.
        models: that were loaded for the metrics that need them, by name; a string says why one can't be had.
        clips: N with `audio`, `start`, `end`, `image`, `human_image`; empty where only captions are known.
        scores: that are computed already, by name.

    Raises:
        ValueError: there is no caption, the lists differ in length, or something is not a string.
    """

    captions: Sequence[str]
    references: Sequence[Sequence[str]]
    parts: Parts = field(default_factory=Parts)
    models: Mapping[str, Any] = field(default_factory=dict)
    clips: Sequence[Any] = ()
    scores: dict[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.captions)
        if isinstance(self.captions, str) or count != len(self.references) or not count:
            raise ValueError(
                f"got {count} captions ({type(self.captions).__name__}) and {len(self.references)} lists of references; "
                "expected a list of captions, not empty, and as many lists of references"
            )
        for i, (caption, group) in enumerate(zip(self.captions, self.references, strict=True)):
            if isinstance(group, str) or not all(isinstance(text, str) for text in (caption, *group)):
                raise ValueError(
                    f"clip {i}: got {caption!r} with the references {group!r}; expected a string ('' where the caption is "
                    "missing) and a list of strings"
                )

    def model(self, name: str) -> Any:
        """A model.

        Raises:
            MissingError: it can't be had.
        """
        found = self.models.get(name)
        if found is None or isinstance(found, str):
            raise MissingError(found or f"no {name} model was loaded")
        return found

    @cached_property
    def tokens(self) -> Tokens:
        """The captions as the tokens that the caption metrics compare."""
        return tokenize(self.captions, self.references, self.parts)

    @cached_property
    def counts(self) -> Counts:
        return count_captions(self.captions, lexicon(self.references))
