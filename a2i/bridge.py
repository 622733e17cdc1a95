"""Encoder states → what the decoder attends to."""

from typing import Literal, get_args

from torch import Tensor, nn

BridgeKind = Literal["auto", "identity", "projection"]


class Bridge(nn.Module):
    """Fits the encoder's states (B, S, D_encoder) to the decoder's cross-attention (B, S, D_decoder)."""

    def __init__(self, encoder_width: int, decoder_width: int, kind: BridgeKind = "auto") -> None:
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
        if kind not in get_args(BridgeKind):
            raise ValueError(f"got bridge {kind!r}; expected one of {', '.join(get_args(BridgeKind))}")
        if kind == "auto":
            kind = "identity" if encoder_width == decoder_width else "projection"
        if kind == "identity" and encoder_width != decoder_width:
            raise ValueError(
                f"got bridge 'identity' between states of {encoder_width} and a decoder of {decoder_width}; set"
                " bridge: projection"
            )
        self.kind = kind
        self.projection = nn.Linear(encoder_width, decoder_width) if kind == "projection" else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        bridged: Tensor = self.projection(states)
        return bridged
