"""A recurrent decoder with attention, as Drossos et al. (2017) and Xu et al. (2021) write captions with it.

At each step an alignment model (Bahdanau et al. 2015) weighs the sound's states by what was said so far; gated recurrent units
read their mean and the last word, and a linear layer names the next one. Trained from nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from a2i.captioner.decoders import register, search
from a2i.captioner.decoding import Decoding


@register
class GRUDecoder(nn.Module):
    """States + token ids → logits over the next token."""

    name = "gru"

    def __init__(
        self,
        vocab_size: int,
        layers: int = 1,
        hidden: int = 512,
        embedding: int = 512,
        width: int = 256,
        attention: int | None = None,
        dropout: float = 0.3,
        positions: int = 256,
    ) -> None:
        """Build with random weights.

        Args:
            vocab_size: tokens that the tokenizer knows.
            layers: of gated recurrent units.
            hidden: units of each.
            embedding: size of a word's embedding.
            width: D, of the states that it attends to.
            attention: inner size of the alignment model; None for `hidden`.
            dropout: rate on the embeddings and before the last layer.
            positions: tokens of the longest caption that it generates, BOS and EOS among them.

        Raises:
            ValueError: a number is below 1.
        """
        super().__init__()
        attention = attention or hidden
        if min(layers, hidden, embedding, width, attention, positions) < 1:
            raise ValueError(
                f"got layers={layers}, hidden={hidden}, embedding={embedding}, width={width}, attention={attention}; expected"
                " at least 1 of each"
            )
        self.settings: dict[str, Any] = {
            **{"layers": layers, "hidden": hidden, "embedding": embedding, "width": width},
            **{"attention": attention, "dropout": dropout, "positions": positions},
        }
        self.width, self.vocab_size = width, vocab_size
        self.model = _RecurrentModel(_RecurrentConfig(vocab_size=vocab_size, **self.settings))
        # BOS and EOS are the tokenizer's, given to every generation.
        self.model.generation_config = GenerationConfig()

    def new_parameters(self) -> list[str]:
        """All of it: no pretraining has seen any."""
        return [name for name, _ in self.named_parameters()]

    def forward(
        self, inputs: Tensor, mask: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None = None
    ) -> Tensor:
        """Teacher forcing.

        Args:
            inputs: (C, L) token ids, BOS first.
            mask: (C, L) bool, True for real tokens; padding stands at the end, where nothing real comes after it.
            states: (B, S, D).
            states_mask: (B, S) bool, True for real states.
            clip_index: (C,) which of the B clips each caption is of; None where B = C and each has its own.

        Returns:
            logits (C, L, vocabulary); those at position i see `inputs[:, : i + 1]` and all real states.
        """
        logits: Tensor = self.model(inputs, mask, states, states_mask, clip_index=clip_index).logits
        return logits

    def generate(
        self, states: Tensor, states_mask: Tensor, bos_id: int, eos_id: int, decoding: Decoding, use_cache: bool = True
    ) -> Tensor:
        """Find captions; see `search`."""
        cache = {"past_key_values": _Memory()} if use_cache else {}
        positions = self.settings["positions"]
        return search(self.model, states, states_mask, bos_id, eos_id, decoding, positions, use_cache, **cache)


class _RecurrentConfig(PretrainedConfig):
    """What `GRUDecoder` was given, as `transformers` wants it."""

    model_type = "a2i_gru_decoder"

    vocab_size: int = 2
    layers: int = 1
    hidden: int = 1
    embedding: int = 1
    width: int = 1
    attention: int = 1
    dropout: float = 0.0
    positions: int = 1


class _Memory(Cache):
    """The units' activations after the tokens so far: all that a recurrent decoder has to keep."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.activations: Tensor | None = None  # (layers, C, hidden)
        self.tokens = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on from other beams."""
        if self.activations is not None:
            self.activations = self.activations.index_select(1, beam_idx)


class _RecurrentModel(PreTrainedModel, GenerationMixin):
    """The layers, under the interface that `transformers`' generation calls."""

    config_class = _RecurrentConfig
    main_input_name = "input_ids"

    def __init__(self, config: _RecurrentConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.embedding)
        self.query = nn.Linear(config.hidden, config.attention, bias=False)
        self.key = nn.Linear(config.width, config.attention)
        self.energy = nn.Linear(config.attention, 1, bias=False)
        self.gru = nn.GRU(config.embedding + config.width, config.hidden, config.layers, batch_first=True)
        self.classify = nn.Linear(config.hidden, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave PyTorch's own initialisation."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: _Memory | None = None,
        clip_index: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """Token ids (C, L) → logits (C, L, vocabulary), one step after another; `attention_mask` changes nothing."""
        assert encoder_hidden_states is not None
        assert encoder_attention_mask is not None
        config, states = self.config, encoder_hidden_states
        embedded = nn.functional.dropout(self.embed(input_ids), config.dropout, self.training)
        keys, silent = self.key(states), ~encoder_attention_mask.bool()
        if clip_index is not None:
            states, keys, silent = states[clip_index], keys[clip_index], silent[clip_index]
        activations = None if past_key_values is None else past_key_values.activations
        if activations is None:
            activations = states.new_zeros(config.layers, len(states), config.hidden)
        said = []
        for word in embedded.unbind(dim=1):
            energies = self.energy(torch.tanh(self.query(activations[-1])[:, None] + keys))[:, :, 0]  # (C, S)
            weights = energies.float().masked_fill(silent, -torch.inf).softmax(dim=1)
            context = (weights.to(states.dtype)[:, None] @ states)[:, 0]  # (C, D)
            output, activations = self.gru(torch.cat((word, context), dim=1)[:, None], activations.to(word.dtype))
            said.append(output)
        if past_key_values is not None:
            past_key_values.activations = activations
            past_key_values.tokens += input_ids.shape[1]
        hidden = nn.functional.dropout(torch.cat(said, dim=1), config.dropout, self.training)
        return CausalLMOutputWithCrossAttentions(logits=self.classify(hidden), past_key_values=past_key_values)
