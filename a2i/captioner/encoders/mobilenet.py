"""MobileNetV3 as it learnt to tag sounds: Schmid, Koutini and Widmer (2023), "Efficient large-scale audio tagging via
Transformer-to-CNN knowledge distillation", ICASSP; the layers are those of Howard et al. (2019), "Searching for MobileNetV3".

The weights have the names of the published checkpoints (fschmid56/EfficientAT, MIT). These want the features that they learnt
from: `features.kind` mobilenet, with 128 mel bins.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from a2i.bounds import number
from a2i.captioner.encoders import load_weights, register, zero_padding

CLASSIFIER = "classifier."  # of AudioSet's tags
TIME = 3  # dimension of the layers' maps: (B, C, F, T), as the published kernels lie
DIVISOR = 8  # of every number of channels
SQUEEZED = 4  # channels for one of the bottleneck
TAIL = 6  # channels of the last layer for one of the layer before
Norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class Block(NamedTuple):
    """Table 1 of Howard et al. (2019), large, at a width of 1."""

    kernel: int
    expanded: int  # channels
    out: int  # channels
    squeezes: bool
    activation: type[nn.Module]
    stride: int


FIRST = 16  # channels
BLOCKS = [
    Block(3, 16, 16, False, nn.ReLU, 1),
    Block(3, 64, 24, False, nn.ReLU, 2),
    Block(3, 72, 24, False, nn.ReLU, 1),
    Block(5, 72, 40, True, nn.ReLU, 2),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(3, 240, 80, False, nn.Hardswish, 2),
    Block(3, 200, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 480, 112, True, nn.Hardswish, 1),
    Block(3, 672, 112, True, nn.Hardswish, 1),
    Block(5, 672, 160, True, nn.Hardswish, 2),
    Block(5, 960, 160, True, nn.Hardswish, 1),
    Block(5, 960, 160, True, nn.Hardswish, 1),
]


@register
class MobileNetEncoder(nn.Module):
    """Log-mel → a state for every 32 frames (0.32 s): the means over frequency of the last layer.

    As published, the last state of a clip may have fewer frames. Padding is held at zero after every layer, as the
    convolutions' own is, and squeeze-and-excitation takes the means of a clip's own frames.
    """

    name = "mobilenet"

    def __init__(
        self,
        width_multiplier: float = 1.0,
        num_mel_bins: int = 128,
        dropout: float = 0.2,
        pretrained: str | None = None,
    ) -> None:
        """Build with random weights, or from a published checkpoint.

        Args:
            width_multiplier: channels of every layer for one of MobileNetV3-large: 0.4 for mn04, 1 for mn10, 4 for mn40.
            num_mel_bins: mel bins of the input.
            dropout: rate on the states.
            pretrained: published `.pt` file, or a captioner folder with such an encoder; None for random weights.

        Raises:
            ValueError: a size is out of range, or the weights are of another network or width.
        """
        super().__init__()
        number("width_multiplier", width_multiplier, 0.05, most=16)
        number("num_mel_bins", num_mel_bins, 1, whole=True)
        self.settings: dict[str, Any] = {
            "width_multiplier": width_multiplier,
            "num_mel_bins": num_mel_bins,
            "dropout": dropout,
        }
        before = divisible(FIRST * width_multiplier)
        layers: list[nn.Module] = [Convolution(1, before, 3, nn.Hardswish, stride=2)]
        for block in BLOCKS:
            expanded, out = divisible(block.expanded * width_multiplier), divisible(block.out * width_multiplier)
            layers.append(InvertedResidual(before, block._replace(expanded=expanded, out=out)))
            before = out
        self.width = TAIL * before
        layers.append(Convolution(before, self.width, 1, nn.Hardswish))
        self.features = nn.ModuleList(layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)
        if pretrained is not None:
            load_weights(self, pretrained, (CLASSIFIER,))
        # The layout in which a CPU convolves fastest.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins), as `LogMel` gives it.
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) with S = T / 32, rounded up, and mask (B, S) bool.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames = mask.sum(dim=1)
        hidden = log_mel.transpose(1, 2)[:, None]  # (B, 1, F, T)
        hidden = zero_padding(hidden.contiguous(memory_format=torch.channels_last), frames, TIME)
        for layer in self.features:
            hidden, frames = layer(hidden, frames)
        states = hidden.mean(dim=2).transpose(1, 2)  # (B, S, D)
        states = dropout(states, self.settings["dropout"], self.training)
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]


class Convolution(nn.Sequential):
    """A convolution, normalised and activated; padding is held at zero."""

    def __init__(
        self, before: int, after: int, kernel: int, activation: type[nn.Module] | None, stride: int = 1, groups: int = 1
    ) -> None:
        """Build with random weights; see `nn.Conv2d`.

        Args:
            before: channels of what comes in.
            after: channels of what comes out.
            kernel: size along time and frequency, odd.
            activation: made after the normalisation; None for none.
            stride: along time and frequency.
            groups: of channels, which hear no other group's.
        """
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, Norm(after), *([] if activation is None else [activation()]))
        self.stride = stride

    def forward(self, hidden: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, before, F, T), a clip's first `frames` (B,) real → (B, after, F / stride, T / stride) and its frames there."""
        frames = (frames + self.stride - 1) // self.stride
        return zero_padding(super().forward(hidden), frames, TIME), frames


class InvertedResidual(nn.Module):
    """1 × 1 to more channels, a convolution of each channel by itself, squeeze-and-excitation, 1 × 1 to fewer channels."""

    def __init__(self, before: int, sizes: Block) -> None:
        """Build with random weights.

        Args:
            before: channels of what comes in.
            sizes: of the block, its channels at the network's width.
        """
        super().__init__()
        kernel, expanded, out, squeezes, activation, stride = sizes
        layers: list[nn.Module] = []
        if expanded != before:
            layers.append(Convolution(before, expanded, 1, activation))
        layers.append(Convolution(expanded, expanded, kernel, activation, stride, groups=expanded))
        if squeezes:
            layers.append(SqueezeExcitation(expanded))
        layers.append(Convolution(expanded, out, 1, None))
        self.block = nn.ModuleList(layers)
        self.adds = stride == 1 and before == out

    def forward(self, hidden: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, before, F, T), a clip's first `frames` (B,) real → (B, out, F / stride, T / stride) and its frames there."""
        given = hidden
        for layer in self.block:
            hidden, frames = layer(hidden, frames)
        return (hidden + given if self.adds else hidden), frames


class SqueezeExcitation(nn.Module):
    """Every channel by a factor that two layers find in all channels' means over frequency and a clip's frames."""

    def __init__(self, channels: int) -> None:
        """Build with random weights.

        Args:
            channels: of what comes in and goes out.
        """
        super().__init__()
        squeezed = divisible(channels // SQUEEZED)
        layers = nn.Module()  # the published network has room for one more along each other dimension
        layers.fc1, layers.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)
        self.conc_se_layers = nn.ModuleList([layers])

    def forward(self, hidden: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, F, T), zero after a clip's first `frames` (B,) → the same, scaled."""
        means = hidden.mean(dim=(2, 3)) * (hidden.shape[TIME] / frames)[:, None].to(hidden.dtype)
        layers = self.conc_se_layers[0]
        factors = layers.fc2(layers.fc1(means).relu()).sigmoid()  # type: ignore[operator]
        return hidden * factors[:, :, None, None], frames


def divisible(channels: float) -> int:
    """The multiple of 8 that is nearest, at least 8, and not less than nine tenths of `channels`."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest if nearest >= 0.9 * channels else nearest + DIVISOR
