"""The Transformer's decoder (Vaswani et al. 2017), as ACT (Mei et al. 2021) and Chen et al. (2020) write captions with it.

The layers are `transformers.TrOCRForCausalLM`'s: those of the original paper, with layer normalisation after each part. Trained
from nothing.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, TrOCRConfig, TrOCRForCausalLM
from transformers.activations import ACT2FN

from a2i.captioner.attention import Sharing, cache
from a2i.captioner.decoders import register, search
from a2i.captioner.decoding import Decoding


@register
class TransformerDecoder(nn.Module):
    """States + token ids → logits over the next token."""

    name = "transformer"

    def __init__(
        self,
        vocab_size: int,
        layers: int = 2,
        width: int = 192,
        heads: int = 4,
        feedforward: int | None = None,
        activation: str = "relu",
        dropout: float = 0.2,
        positions: int = 128,
        tied: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Build with random weights.

        Args:
            vocab_size: tokens that the tokenizer knows.
            layers: each of self-attention, cross-attention and feed-forward network.
            width: D, of a token's state and of the states that it attends to.
            heads: of each attention.
            feedforward: inner size of the feed-forward networks; None for four times the width.
            activation: within them, by `transformers`' name: `relu`, `gelu` …
            dropout: rate within the layers and on the embeddings.
            positions: tokens of the longest caption, BOS and EOS among them.
            tied: whether words are written with the weights that read them.
            gradient_checkpointing: trade time for memory when training.

        Raises:
            ValueError: the heads don't divide the width, or a number is below 1.
        """
        super().__init__()
        feedforward = feedforward or 4 * width
        if min(layers, width, heads, feedforward, positions) < 1 or width % heads or width % 2:
            raise ValueError(
                f"got {layers} layers of width {width} with {heads} heads and {positions} positions; expected at least one of"
                " each, and an even width that the heads divide"
            )
        if activation not in ACT2FN:
            raise ValueError(f"got activation {activation!r}; expected one of {', '.join(sorted(ACT2FN))}")
        self.settings: dict[str, Any] = {
            **{"layers": layers, "width": width, "heads": heads, "feedforward": feedforward},
            **{"activation": activation, "dropout": dropout, "positions": positions, "tied": tied},
        }
        self.width, self.vocab_size = width, vocab_size
        config = TrOCRConfig(
            vocab_size=vocab_size,
            d_model=width,
            decoder_layers=layers,
            decoder_attention_heads=heads,
            decoder_ffn_dim=feedforward,
            activation_function=activation,
            dropout=dropout,
            max_position_embeddings=positions,
            scale_embedding=True,
            layernorm_embedding=False,
            tie_word_embeddings=tied,
            # Padding is known by its mask: no token means it, none has an embedding that stays zero.
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),  # type: ignore[arg-type]
        )
        self.model = TrOCRForCausalLM(config)
        # BOS and EOS are the tokenizer's, given to every generation.
        self.model.generation_config = GenerationConfig()
        # transformers' own sinusoids need a padding token that is none of the vocabulary's.
        table = self.model.model.decoder.embed_positions
        table.weight.data = _sinusoids(*table.weight.shape)
        table.requires_grad_(False)
        attentions = [layer.encoder_attn for layer in self.model.model.decoder.layers]
        self.sharing = Sharing(self.model, (part for one in attentions for part in (one.k_proj, one.v_proj)))
        if gradient_checkpointing:
            self.model.activation_checkpointing_enable()

    def new_parameters(self) -> list[str]:
        """All of it: no pretraining has seen any."""
        return [name for name, _ in self.named_parameters()]

    def forward(
        self, inputs: Tensor, mask: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None = None
    ) -> Tensor:
        """Teacher forcing.

        Args:
            inputs: (C, L) token ids, BOS first.
            mask: (C, L) bool, True for real tokens.
            states: (B, S, D).
            states_mask: (B, S) bool, True for real states.
            clip_index: (C,) which of the B clips each caption is of; None where B = C and each has its own.

        Returns:
            logits (C, L, vocabulary); those at position i see `inputs[:, : i + 1]` and all real states.

        Raises:
            ValueError: more tokens than `positions`.
        """
        if inputs.shape[1] > self.settings["positions"]:
            raise ValueError(
                f"got captions of {inputs.shape[1]} tokens; this decoder has {self.settings['positions']} positions: set"
                " model.tokenizer.max_tokens to fewer, or model.decoder.positions to more"
            )
        attended = self.sharing.captions(inputs, states, states_mask, clip_index)
        output = self.model(
            input_ids=inputs,
            attention_mask=mask,
            encoder_hidden_states=states,
            encoder_attention_mask=attended,
            use_cache=False,
        )
        logits: Tensor = output.logits
        return logits

    def generate(
        self, states: Tensor, states_mask: Tensor, bos_id: int, eos_id: int, decoding: Decoding, use_cache: bool = True
    ) -> Tensor:
        """Find captions; see `search`."""
        self.sharing.beams(decoding.rows)
        kept = {"past_key_values": cache()} if use_cache else {}
        positions = self.settings["positions"]
        return search(self.model, states, states_mask, bos_id, eos_id, decoding, positions, use_cache, **kept)


def _sinusoids(count: int, width: int) -> Tensor:
    """(count, width): sines of geometrically falling frequencies at even places, cosines at odd ones (section 3.5)."""
    angles = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
