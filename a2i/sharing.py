"""Cross-attention's keys and values of a clip's states, computed once for all that attend to them.

A clip's five captions attend to the same states, and so do its four beams; `transformers` has a row of states for each and
projects every row. Here the states are projected a clip at a time and the results handed out. Of a base model's step on five
captions with 1,214 states that saves two thirds of the decoder's arithmetic (experiments/benchmarks).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache


class Sharing:
    """Stands before and behind the layers that project states to keys and values."""

    def __init__(self, projections: Iterable[nn.Module]) -> None:
        self.clip_index: Tensor | None = None
        self.rows = 1
        for projection in projections:
            projection.register_forward_pre_hook(self._gather)
            projection.register_forward_hook(self._hand_out)

    def captions(self, inputs: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None) -> Tensor | None:
        """From now on the states are (B, S, D), and caption i attends to those of clip `clip_index[i]`.

        It holds until the next call: where activations are checkpointed, the layers run again when gradients are computed.

        Args:
            inputs: (C, L) token ids.
            states: (B, S, D).
            states_mask: (B, S) bool.
            clip_index: (C,); None where the states have a row for each caption already.

        Returns:
            the `encoder_attention_mask` to go with them; None where no state is masked, for which attention is faster.
        """
        self.clip_index, self.rows = clip_index, 1
        if clip_index is None or bool(states_mask.all()):
            return None if clip_index is not None else states_mask.to(states.dtype)
        # For `transformers` there are as many rows as there are states, unless it is given a finished mask (C, 1, L, S).
        silent = ~states_mask[clip_index][:, None, None].expand(-1, 1, inputs.shape[1], -1)
        return states.new_zeros(silent.shape).masked_fill(silent, torch.finfo(states.dtype).min)

    def beams(self, rows: int) -> None:
        """From now on so many rows of states in a row are alike."""
        self.clip_index, self.rows = None, rows

    def _gather(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return arguments if self.rows == 1 else (arguments[0][:: self.rows].contiguous(), *arguments[1:])

    def _hand_out(self, _: nn.Module, __: tuple[Tensor, ...], projected: Tensor) -> Tensor:
        if self.clip_index is not None:
            return projected[self.clip_index]
        return projected if self.rows == 1 else projected.repeat_interleave(self.rows, dim=0)


class _OfClips(DynamicCache):
    """Keys and values of the sound. A beam goes on from another of the same clip: there is nothing to reorder."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Leave it all where it is."""


def cache() -> EncoderDecoderCache:
    """Empty, for the tokens so far and the sound; copies the former alone when beams change places."""
    return EncoderDecoderCache(DynamicCache(), _OfClips())
