"""Cross-attention's keys and values of a clip's states, computed once for all that attend to them.

A clip's five captions attend to the same states, and so do its four beams; `transformers` has a row of states for each and
projects every row. Here the states are projected a clip at a time. Of a base model's step on five captions with 1,214 states
that saves two thirds of the decoder's arithmetic, and of its beams' memory three quarters (experiments/benchmarks).
"""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "a2i_grouped_sdpa"


class _Call(NamedTuple):
    """Which rows of states a decoder's call projects, and which rows of keys and values it returns; see `Sharing`."""

    clip_index: Tensor | None = None
    rows: int = 1


class _ThreadCalls(threading.local):
    """The call that each decoder is in, of this thread."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Sharing, _Call] = WeakKeyDictionary()


_calls = _ThreadCalls()


class Sharing:
    """Hooks before and behind the layers that project states to keys and values.

    A decoder announces each call by `captions` or `beams`. Every thread has a call of its own, so that threads can share a
    decoder. Training is the exception: with checkpointed activations, PyTorch runs the layers again in threads of its own, as
    the last call with gradients did; so gradients must be computed before the next such call.
    """

    def __init__(self, model: PreTrainedModel, projections: Iterable[nn.Module]) -> None:
        """Set up for a decoder.

        Args:
            model: whose attention is taken over if it is PyTorch's: it then needs no copy of keys and values for each row.
            projections: the layers.
        """
        self.grouped = model.config._attn_implementation == "sdpa"
        if self.grouped:
            model.set_attn_implementation(GROUPED)
        self._last_with_gradients = _Call()
        for projection in projections:
            projection.register_forward_pre_hook(self._gather)
            projection.register_forward_hook(self._hand_out)

    def captions(self, inputs: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None) -> Tensor | None:
        """Begin a call with states (B, S, D), in which caption i attends to those of clip `clip_index[i]`.

        Args:
            inputs: (C, L) token ids.
            states: (B, S, D).
            states_mask: (B, S) bool.
            clip_index: (C,); None where each caption has a row of states.

        Returns:
            the `encoder_attention_mask` to go with them; None where no state is masked, for which attention is faster.
        """
        if clip_index is None:
            self._begin(_Call())
            return states_mask.to(states.dtype)
        clip_index = clip_index.to(states.device)
        each = torch.arange(len(states), device=states.device).repeat_interleave(max(1, len(inputs) // len(states)))
        grouped = self.grouped and torch.equal(clip_index, each)
        self._begin(_Call() if grouped else _Call(clip_index))
        if bool(states_mask.all()):
            return None
        # `transformers` takes a mask as it is if it has four dimensions: (B, 1, 1, S), or added to energies (C, 1, L, S).
        if grouped:
            return states_mask[:, None, None]
        silent = ~states_mask[clip_index][:, None, None].expand(-1, 1, inputs.shape[1], -1)
        return states.new_zeros(silent.shape).masked_fill(silent, torch.finfo(states.dtype).min)

    def beams(self, rows: int) -> None:
        """Begin a call in which each clip's row of states stands `rows` times in succession."""
        self._begin(_Call(rows=rows))

    def _begin(self, call: _Call) -> None:
        _calls.of[self] = call
        if torch.is_grad_enabled():
            self._last_with_gradients = call

    @property
    def _call(self) -> _Call:
        return _calls.of.get(self, self._last_with_gradients)

    def _gather(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows = self._call.rows
        return arguments if rows == 1 else (arguments[0][::rows].contiguous(), *arguments[1:])

    def _hand_out(self, _: nn.Module, __: tuple[Tensor, ...], projected: Tensor) -> Tensor:
        clip_index, rows = self._call
        if clip_index is not None:
            return projected[clip_index]
        return projected if rows == 1 or self.grouped else projected.repeat_interleave(rows, dim=0)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """`transformers`' attention by PyTorch, where several rows of queries in a row may belong to one of keys and values.

    Args:
        module: the layer.
        query: (C, heads, L, d).
        key: (B, heads, S, d), where B divides C.
        value: likewise.
        attention_mask: for the rows of the queries, or where B < C for those of the keys: alike for all L.
        dropout: rate on the weights.
        scaling: of the energies.
        **more: for `transformers`.

    Returns:
        (C, L, heads, d), and no weights.
    """
    rows = len(query) // len(key)
    if rows == 1:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return attended
    if attention_mask is not None:
        attention_mask = attention_mask[:: len(attention_mask) // len(key), :, :1]
    together = query.unflatten(0, (-1, rows)).transpose(1, 2).flatten(2, 3)  # (B, heads, rows × L, d)
    output = nn.functional.scaled_dot_product_attention(together, key, value, attention_mask, dropout, scale=scaling)
    return output.unflatten(2, (rows, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1), None


AttentionInterface.register(GROUPED, _attend)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


class _OfClips(DynamicCache):
    """Keys and values of the sound. A beam goes on from another of the same clip: there is nothing to reorder."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Leave it all where it is."""


def cache() -> EncoderDecoderCache:
    """Empty, for the tokens so far and the sound; copies the former alone when beams change places."""
    return EncoderDecoderCache(DynamicCache(), _OfClips())
