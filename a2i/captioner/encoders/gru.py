"""Gated recurrent units in both directions, as in the first audio captioner (Drossos, Adavanne and Virtanen 2017)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from a2i.captioner.encoders import BidirectionalGRU, load_weights, register


@register
class GRUEncoder(nn.Module):
    """Log-mel → a state for every frame, or for every few of them."""

    name = "gru"

    def __init__(
        self,
        layers: int = 3,
        hidden: int = 256,
        num_mel_bins: int = 64,
        subsample: int = 1,
        dropout: float = 0.25,
        pretrained: str | None = None,
    ) -> None:
        """Build with random weights, or from another captioner's.

        Args:
            layers: one over another; from the second on, each adds its output to its input.
            hidden: units of a layer in each direction.
            num_mel_bins: mel bins of the input.
            subsample: after each layer but the last, one state of so many goes on (Nguyen, Drossos and Virtanen 2020).
            dropout: rate between layers.
            pretrained: captioner folder with such an encoder, or a `.pth` file of this one's weights; None for random ones.

        Raises:
            ValueError: a number is below 1, or the weights are of another network.
        """
        super().__init__()
        if min(layers, hidden, num_mel_bins, subsample) < 1:
            raise ValueError(
                f"got layers={layers}, hidden={hidden}, num_mel_bins={num_mel_bins}, subsample={subsample}; expected at least 1"
            )
        self.settings: dict[str, Any] = {
            **{"layers": layers, "hidden": hidden, "num_mel_bins": num_mel_bins},
            **{"subsample": subsample, "dropout": dropout},
        }
        self.width = 2 * hidden
        self.layers = nn.ModuleList(
            BidirectionalGRU(self.width if index else num_mel_bins, hidden) for index in range(layers)
        )
        if pretrained is not None:
            load_weights(self, pretrained)

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins).
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, 2 × hidden), and mask (B, S) bool; with subsample=2 and three layers S = T / 4, rounded up.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames, step, states = mask.sum(dim=1), self.settings["subsample"], log_mel
        for index, layer in enumerate(self.layers):
            if index:
                states, frames = states[:, ::step], -(-frames // step)
                states = dropout(states, self.settings["dropout"], self.training)
            output = layer(states, frames)
            states = output + states if index else output
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]
