"""CRNN5 (Dinkel, Wu and Yu 2021, "Towards duration robust weakly supervised sound event detection").

Five convolutions with pooling by the fourth power, which lies between mean and maximum, and gated recurrent units in both
directions over their output. Xu et al. (2021) let it learn to tag sounds before it learns to caption: `pretrained` begins
from another captioner's encoder, and `training.labels_first` does both in one run.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, dropout, leaky_relu, pad

from a2i.captioner.encoders import BidirectionalGRU, load_weights, register, zero_padding


@register
class CRNNEncoder(nn.Module):
    """Log-mel → a state for every 4 frames (0.04 s).

    What does not fill a state at a clip's end is dropped; a clip too short for one is filled up.
    """

    name = "crnn"

    def __init__(
        self,
        channels: int = 128,
        hidden: int = 128,
        num_mel_bins: int = 64,
        dropout: float = 0.3,
        pretrained: str | None = None,
    ) -> None:
        """Build with random weights, or from another captioner's.

        Args:
            channels: of all convolutions but the first, which has a quarter of them.
            hidden: recurrent units in each direction.
            num_mel_bins: mel bins of the input, at least 64.
            dropout: rate on what the convolutions give.
            pretrained: captioner folder with such an encoder, or a `.pth` file of this one's weights; None for random ones.

        Raises:
            ValueError: sizes don't fit together, or the weights are of another network.
        """
        super().__init__()
        if channels < 4 or hidden < 1 or num_mel_bins < 64:
            raise ValueError(
                f"got channels={channels}, hidden={hidden}, num_mel_bins={num_mel_bins}; expected at least 4, 1 and 64: the"
                " frequencies are pooled by four, three times"
            )
        sizes = {"channels": channels, "hidden": hidden, "num_mel_bins": num_mel_bins}
        self.settings: dict[str, Any] = {**sizes, "dropout": dropout}
        self.width = 2 * hidden
        widths = [1, channels // 4, channels, channels, channels, channels]
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in widths[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(widths)
        )
        self.gru = BidirectionalGRU(channels * (num_mel_bins // 64), hidden)
        if pretrained is not None:
            load_weights(self, pretrained)

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins).
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, 2 × hidden) with S = T / 4, and mask (B, S) bool.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames = mask.sum(dim=1)
        hidden = pad(log_mel, (0, 0, 0, max(0, 4 - log_mel.shape[1])))[:, None]  # (B, 1, T, F)
        for index, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            hidden = leaky_relu(convolution(zero_padding(norm(hidden), frames)), 0.1)
            if index in (0, 2):
                hidden, frames = pool_by_fourth_power(hidden, (2, 4)), (frames // 2).clamp_min(1)
        hidden = pool_by_fourth_power(hidden, (1, 4))
        hidden = dropout(hidden, self.settings["dropout"], self.training).transpose(1, 2).flatten(2)  # (B, S, C × F)
        states = self.gru(hidden, frames)
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]


def pool_by_fourth_power(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """`torch.nn.LPPool2d(4, size)`, whose gradient is no number where all it pools is zero, as padding is."""
    powers = avg_pool2d(hidden.float().pow(4), size) * (size[0] * size[1])
    return powers.clamp_min(1e-20).pow(0.25).to(hidden.dtype)
