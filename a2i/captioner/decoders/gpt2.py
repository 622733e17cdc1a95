"""GPT-2 (Radford et al. 2019) with cross-attention to the sound.

The weights and the layers are `transformers.GPT2LMHeadModel`'s. A checkpoint brings everything but the cross-attention, which
starts random: 28 M weights in the base model.
"""

from typing import Any

from torch import Tensor, nn
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from a2i import hub
from a2i.captioner.attention import Sharing, cache
from a2i.captioner.decoders import register, search
from a2i.captioner.decoding import Decoding

NEW = ("crossattention", "ln_cross_attn")  # parts of the names of the weights that no GPT-2 checkpoint has


@register
class GPT2Decoder(nn.Module):
    """States + token ids → logits over the next token."""

    name = "gpt2"
    config_class = GPT2Config

    def __init__(
        self,
        vocab_size: int,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        revision: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Build from pretrained weights or from a configuration.

        Args:
            vocab_size: tokens that the tokenizer knows. Of a checkpoint that has more rows, as they are padded to a rounder
                number (50,304 for 50,257), the others are dropped: they stand for no token.
            pretrained: Hub id or local folder of a GPT-2 checkpoint; None for random weights after `config`.
            config: `transformers.GPT2Config`'s values, where they differ from GPT-2 base.
            revision: branch, tag or commit on the Hub.
            gradient_checkpointing: trade time for memory when training.

        Raises:
            ValueError: the checkpoint is not a GPT-2, lacks weights, or has another vocabulary.
        """
        super().__init__()
        if pretrained is not None and config is not None:
            raise ValueError("got both pretrained and config; expected one: a checkpoint brings its own configuration")
        if pretrained is None:
            ends = {"bos_token_id": None, "eos_token_id": None}  # GPT-2's own lie outside a smaller vocabulary
            values = {**ends, **(config or {}), "vocab_size": vocab_size, "add_cross_attention": True}
            self.model = GPT2LMHeadModel(GPT2Config(**values))
            if not len(self.model.transformer.h):
                raise ValueError(f"got config.n_layer={self.model.config.n_layer}; expected at least 1")
        else:
            self.model = _load(pretrained, revision)
            if self.model.config.vocab_size < vocab_size:
                raise ValueError(
                    f"{pretrained}: knows {self.model.config.vocab_size} tokens, the tokenizer {vocab_size}; expected a"
                    " tokenizer and a checkpoint that belong together"
                )
            if self.model.config.vocab_size > vocab_size:
                self.model.resize_token_embeddings(vocab_size)
        # BOS and EOS are the tokenizer's, given to every generation.
        self.model.generation_config = GenerationConfig()
        self.sharing = Sharing(self.model, _projections(self.model))
        if gradient_checkpointing:
            self.model.activation_checkpointing_enable()

    @property
    def settings(self) -> dict[str, Any]:
        values = self.model.config.to_diff_dict()
        return {"config": {key: value for key, value in values.items() if key not in ("vocab_size", "architectures")}}

    @property
    def width(self) -> int:
        """D, the size of the states that it attends to."""
        return int(self.model.config.n_embd)

    @property
    def vocab_size(self) -> int:
        """Tokens that it writes."""
        return int(self.model.config.vocab_size)

    def new_parameters(self) -> list[str]:
        """Names of the weights that no pretraining has seen."""
        return [name for name, _ in self.named_parameters() if any(part in name for part in NEW)]

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
            ValueError: more tokens than there are positions.
        """
        if inputs.shape[1] > (positions := self.model.config.n_positions):
            raise ValueError(
                f"got captions of {inputs.shape[1]} tokens; this decoder has {positions} positions: set"
                " model.tokenizer.max_tokens to fewer, or begin from a decoder that has more"
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
        positions = self.model.config.n_positions
        return search(self.model, states, states_mask, bos_id, eos_id, decoding, positions, use_cache, **kept)


def _projections(model: GPT2LMHeadModel) -> list[nn.Module]:
    """Of the states, to keys and values."""
    blocks: Any = model.transformer.h
    return [block.crossattention.c_attn for block in blocks]


def _load(pretrained: str, revision: str | None) -> GPT2LMHeadModel:
    try:
        hub.look_up(pretrained, revision, "config.json")
        load: Any = GPT2LMHeadModel.from_pretrained
        model, report = load(
            pretrained,
            revision=revision or "main",
            trust_remote_code=False,
            output_loading_info=True,
            add_cross_attention=True,
        )
    except (*hub.failures(), ValueError, RuntimeError) as error:
        raise ValueError(
            f"could not load a GPT-2 checkpoint from {pretrained} ({hub.why(error)}); expected a Hub id"
            " such as openai-community/gpt2 (needs the network once) or a local folder with config.json and model.safetensors"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in NEW))
    if missing:
        raise ValueError(
            f"{pretrained}: lacks {len(missing)} of GPT-2's weights, {missing[0]} among them; expected GPT-2"
        )
    return model
