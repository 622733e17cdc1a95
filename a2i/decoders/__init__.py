"""States + token ids → logits, and token ids by generation. One decoder is one file here, and adding one touches no other.

Every file offers its class under the name `Decoder`: a module with

* `Decoder(vocab_size, **settings)`: plain values only;
* `settings`: the dictionary, ready for JSON, from which the same decoder without its weights is built again;
* `width`: D, the size of the states that it attends to;
* `forward(inputs (C, L), mask (C, L), states (C, S, D), states_mask (C, S)) -> logits (C, L, vocabulary)`;
* `generate(states, states_mask, bos_id, eos_id, decoding) -> token ids (C × num_candidates, L)`, BOS first;
* `new_parameters()`: names of the weights that no pretraining has seen.
"""

from dataclasses import dataclass, fields, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Decoding:
    """How a caption is found; saved in the captioner's folder, changed in a call.

    Attributes:
        num_beams: beams of beam search; 1 for greedy decoding, or for sampling.
        do_sample: draw from the distribution.
        temperature: of the distribution that is drawn from.
        top_p: draw from the likeliest tokens that together hold this probability.
        num_candidates: captions for each clip; at most `num_beams` unless sampling.
        max_tokens: tokens of the longest caption.
        length_penalty: of beam search; above 0 favours longer captions.
        no_repeat_ngram_size: so many tokens in a row are never said twice; 0 for no limit.
        cleaning: what is done to a caption's words afterwards: `none`, or `published` (see `a2i.cleaning`).
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

    def __post_init__(self) -> None:
        if self.cleaning not in ("none", "published"):
            raise ValueError(f"got cleaning={self.cleaning!r}; expected none or published")
        for field in fields(self):
            if field.name == "cleaning":
                continue
            value = getattr(self, field.name)
            whole = field.type in (int, bool, "int", "bool")
            if not isinstance(value, int if whole else int | float):
                raise ValueError(f"got {field.name}={value!r}; expected a {'whole ' if whole else ''}number")
        if self.num_beams < 1 or self.num_candidates < 1 or self.max_tokens < 1:
            raise ValueError(f"got {self}; expected num_beams, num_candidates and max_tokens of at least 1")
        if not self.do_sample and self.num_candidates > self.num_beams:
            raise ValueError(
                f"got num_candidates={self.num_candidates} with num_beams={self.num_beams}; expected no more candidates than"
                " beams, or do_sample=true"
            )
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"got temperature={self.temperature}, top_p={self.top_p}; expected > 0 and 0 < top_p ≤ 1")

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


def names() -> list[str]:
    """The decoders there are, by the name of their file."""
    return sorted(module.name for module in iter_modules(__path__))


def build(name: str, vocab_size: int, settings: dict[str, Any]) -> nn.Module:
    """The decoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    if name not in names():
        raise ValueError(f"got decoder {name!r}; expected one of {', '.join(names())}")
    decoder: nn.Module = import_module(f"{__name__}.{name}").Decoder(vocab_size, **settings)
    return decoder
