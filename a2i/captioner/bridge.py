"""Encoder states → what the decoder attends to."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

BridgeKind = Literal["auto", "identity", "projection", "resampler"]


def make_bridge(encoder_width: int, decoder_width: int, bridge: BridgeKind | dict[str, Any]) -> "Bridge | Resampler":
    """The bridge of a kind, or of a kind with settings of its own: `{"kind": "resampler", "queries": 64}`.

    Args:
        encoder_width: size of an encoder state.
        decoder_width: size that the decoder attends to.
        bridge: `identity`, `projection`, `auto` (see `Bridge`), or `resampler` (see `Resampler`).

    Raises:
        ValueError: an unknown kind or setting, or one that does not fit.
    """
    settings = {"kind": bridge} if isinstance(bridge, str) else dict(bridge)
    if settings.get("kind") not in get_args(BridgeKind):
        raise ValueError(f"got bridge {bridge!r}; expected one of {', '.join(get_args(BridgeKind))}")
    try:
        if settings["kind"] == "resampler":
            return Resampler(encoder_width, decoder_width, **{**settings, "kind": "resampler"})
        return Bridge(encoder_width, decoder_width, **settings)
    except TypeError as error:
        raise ValueError(f"got bridge {bridge!r}: {error}") from error


class Bridge(nn.Module):
    """Fits the encoder's states (B, S, D_encoder) to the decoder's cross-attention (B, S, D_decoder), each by itself."""

    def __init__(self, encoder_width: int, decoder_width: int, kind: str = "auto") -> None:
        """Choose how.

        Args:
            encoder_width: size of an encoder state.
            decoder_width: size that the decoder attends to.
            kind: `identity` (the published system: both are 768), `projection` (a linear layer), or `auto`: identity where
                the sizes are equal.

        Raises:
            ValueError: an unknown kind, or identity between different sizes.
        """
        super().__init__()
        if kind not in ("auto", "identity", "projection"):
            raise ValueError(f"got bridge {kind!r}; expected one of auto, identity, projection")
        if kind == "auto":
            kind = "identity" if encoder_width == decoder_width else "projection"
        if kind == "identity" and encoder_width != decoder_width:
            raise ValueError(
                f"got bridge 'identity' between states of {encoder_width} and a decoder of {decoder_width}; set"
                " bridge: projection"
            )
        self.kind = kind
        self.projection = nn.Linear(encoder_width, decoder_width) if kind == "projection" else nn.Identity()

    @property
    def settings(self) -> str:
        return self.kind

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, S, D_encoder) and mask (B, S) → (B, S, D_decoder) and the same mask."""
        return self.projection(states), mask


class Resampler(nn.Module):
    """A few learned queries look at all states, so that the decoder attends to as many for a long clip as for a short one.

    A Perceiver (Jaegle et al. 2021) as Flamingo uses it (Alayrac et al. 2022, section 3.1.1): in every layer the queries
    attend to the states and to themselves, then a feed-forward network; each with a residual and a norm before it. Unlike
    there, the states bring their own sense of time, from the encoder.
    """

    def __init__(
        self,
        encoder_width: int,
        decoder_width: int,
        kind: str = "resampler",
        queries: int = 32,
        width: int | None = None,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        """Set up.

        Args:
            encoder_width: size of an encoder state.
            decoder_width: size that the decoder attends to.
            kind: its name in the settings.
            queries: Q, how many states the decoder attends to.
            width: of the queries and layers; None for the decoder's.
            layers: how many.
            heads: of each attention; they divide `width`.

        Raises:
            ValueError: a number is out of range, or the heads don't divide the width.
        """
        super().__init__()
        width = decoder_width if width is None else width
        if min(queries, width, layers, heads) < 1 or width % heads:
            raise ValueError(
                f"got queries={queries}, width={width}, layers={layers}, heads={heads}; expected at least 1 each, and heads"
                " that divide the width"
            )
        self.kind = kind
        self.settings = {"kind": kind, "queries": queries, "width": width, "layers": layers, "heads": heads}
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.inward = nn.Linear(encoder_width, width)
        self.layers = nn.ModuleList(_ResamplerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, decoder_width)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, S, D_encoder) and mask (B, S), at least one real state a clip → (B, Q, D_decoder) and mask (B, Q)."""
        states = self.inward(states)
        queries = self.queries.expand(len(states), -1, -1)
        seen = torch.cat((mask, mask.new_ones(queries.shape[:2])), dim=1)
        for layer in self.layers:
            queries = layer(queries, states, seen)
        return self.outward(self.norm(queries)), seen[:, states.shape[1] :]


class _ResamplerLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries_norm, self.states_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, queries: Tensor, states: Tensor, seen: Tensor) -> Tensor:
        """Queries (B, Q, W), states (B, S, W), and which of both may be attended to (B, S + Q) bool."""
        asked = self.queries_norm(queries)
        values = torch.cat((self.states_norm(states), asked), dim=1)
        attended, _ = self.attention(asked, values, values, key_padding_mask=~seen, need_weights=False)
        queries = queries + attended
        after: Tensor = queries + self.feed_forward(queries)
        return after
