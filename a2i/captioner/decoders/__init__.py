"""States + token ids → logits, and token ids by generation. One decoder is one file here, and adding one touches no other.

Every file offers its class under the name `Decoder`: a module with

* `Decoder(vocab_size, **settings)`: plain values only;
* `settings`: the dictionary, ready for JSON, from which the same decoder without its weights is built again;
* `width`: D, the size of the states that it attends to;
* `vocab_size`: tokens that it writes, for which it has weights;
* `forward(inputs (C, L), mask (C, L), states (B, S, D), states_mask (B, S), clip_index (C,)) -> logits (C, L, vocabulary)`:
  which clip each caption is of; None where every caption has states of its own;
* `generate(states, states_mask, bos_id, eos_id, decoding) -> token ids (C × num_candidates, L)`, BOS first;
* `new_parameters()`: names of the weights that no pretraining has seen.

One whose layers are a `transformers` model with `generate` need not search itself: `search` does it for all of them alike.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        cleaning: what is done to a caption's words afterwards: `none`, or `published` (see `a2i.captioner.cleaning`).
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


_registered: dict[str, type[nn.Module]] = {}
Registered = TypeVar("Registered", bound=type[nn.Module])


def register(decoder: Registered) -> Registered:
    """Make a plug-in's decoder known by its `name`, which captioner folders keep; a decorator of its class.

    Raises:
        ValueError: another decoder has that name.
    """
    name: str = decoder.name  # type: ignore[attr-defined]
    if name in names():
        raise ValueError(f"got a second decoder with the name {name!r}; expected another than {', '.join(names())}")
    _registered[name] = decoder
    return decoder


def names() -> list[str]:
    """The decoders there are: a2i's own by the name of their file, and those that plug-ins registered."""
    return sorted({*(module.name for module in iter_modules(__path__)), *_registered})


def build(name: str, vocab_size: int, settings: dict[str, Any]) -> nn.Module:
    """The decoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    if name not in names():
        raise ValueError(f"got decoder {name!r}; expected one of {', '.join(names())}")
    made = _registered[name] if name in _registered else import_module(f"{__name__}.{name}").Decoder
    decoder: nn.Module = made(vocab_size, **settings)
    return decoder


@torch.no_grad()
def search(
    model: "PreTrainedModel",
    states: Tensor,
    states_mask: Tensor,
    bos_id: int,
    eos_id: int,
    decoding: Decoding,
    positions: int,
    use_cache: bool = True,
    **more: Any,
) -> Tensor:
    """Find captions with `transformers`' greedy decoding, beam search or sampling.

    Args:
        model: takes `encoder_hidden_states` and `encoder_attention_mask`.
        states: (C, S, D).
        states_mask: (C, S) bool, True for real states.
        bos_id: of the token that begins captions.
        eos_id: of the token that ends them.
        decoding: how.
        positions: tokens that the model can tell the places of.
        use_cache: keep what the tokens so far amount to; without, each step begins anew.
        **more: for the model's `generate`.

    Returns:
        token ids (C × num_candidates, L), BOS first, filled up with EOS; a clip's candidates stand together.
    """
    from transformers import GenerationConfig

    config = GenerationConfig(
        bos_token_id=bos_id,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
        max_new_tokens=min(decoding.max_tokens + 1, positions - 1),
        num_beams=decoding.num_beams,
        num_return_sequences=decoding.num_candidates,
        do_sample=decoding.do_sample,
        min_new_tokens=1,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        use_cache=use_cache,
        **({"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.do_sample else {}),
        **({"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}),
    )
    start = torch.full((len(states), 1), bos_id, device=states.device)
    generate: Any = model.generate
    ids: Tensor = generate(
        start,
        attention_mask=torch.ones_like(start),
        generation_config=config,
        encoder_hidden_states=states,
        encoder_attention_mask=states_mask.to(states.dtype),
        **more,
    )
    return ids
