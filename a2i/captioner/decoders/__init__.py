"""States + token ids → logits, and token ids by generation. `a2i.captioner.protocols.Decoder` says what a decoder is and how
to add one.

Here are the registry of decoders, and the search that decoders share.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from a2i.captioner.decoding import Decoding
from a2i.captioner.protocols import Decoder
from a2i.captioner.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_decoders = Registry("decoder", __name__)
register, names, find, name_of = _decoders.register, _decoders.names, _decoders.find, _decoders.name_of


def build(name: str, vocab_size: int, settings: dict[str, Any]) -> Decoder:
    """The decoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    decoder: Decoder = find(name)(vocab_size, **settings)
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
        positions: number of position embeddings.
        use_cache: keep keys and values of the tokens so far; without, each step computes them again.
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
