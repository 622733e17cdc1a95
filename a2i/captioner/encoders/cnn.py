"""A small convolutional encoder, for models that are trained from nothing on little data.

With a few hundred clips a convolution learns better than a transformer: its kernels know that a sound is the same sound a
little later.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, max_pool2d, relu

from a2i.captioner.encoders import register, zero_padding


@register
class CNNEncoder(nn.Module):
    """Log-mel → a state for every 16 frames (0.16 s) with three blocks: each block, and the stem, halves time.

    Padding is held at zero after every layer, so that, once trained, a clip's states depend on its own frames alone. (While it
    learns, batch normalisation takes its statistics from the whole batch, padding too.)
    """

    name = "cnn"

    def __init__(self, channels: Sequence[int] = (48, 96, 192), num_mel_bins: int = 128, dropout: float = 0.1) -> None:
        """Build with random weights.

        Args:
            channels: of the blocks; each block halves time and frequency, as the stem does.
            num_mel_bins: mel bins of the input.
            dropout: rate on the pooled channels.

        Raises:
            ValueError: no channels, or too few mel bins for so many halvings.
        """
        super().__init__()
        channels = list(channels)
        if not channels or num_mel_bins < 2 ** (len(channels) + 1):
            raise ValueError(
                f"got channels={channels} and {num_mel_bins} mel bins; expected at least one block, and"
                f" {2 ** (len(channels) + 1)} bins or more for {len(channels)} of them"
            )
        self.settings: dict[str, Any] = {"channels": channels, "num_mel_bins": num_mel_bins, "dropout": dropout}
        self.width = channels[-1]
        self.normalise = nn.BatchNorm1d(num_mel_bins)
        self.stem = nn.Conv2d(1, channels[0], 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.blocks = nn.ModuleList(
            _Block(before, after) for before, after in zip([channels[0], *channels[:-1]], channels, strict=True)
        )
        # Which frequencies sound is lost by the mean over them; the strongest keeps what is brief or narrow.
        self.project = nn.Linear(2 * channels[-1], channels[-1])
        self.norm = nn.LayerNorm(channels[-1])
        # The layout in which convolutions at reduced precision are fastest: 0.7 of the time in bfloat16 on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins).
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) with S = T / 16 rounded up, and mask (B, S) bool.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames = mask.sum(dim=1)
        hidden = self.normalise(log_mel.transpose(1, 2)).transpose(1, 2)[:, None]  # (B, 1, T, F)
        hidden = self.stem(zero_padding(hidden, frames).contiguous(memory_format=torch.channels_last))
        frames = _halved(frames)
        hidden = zero_padding(relu(self.stem_norm(hidden)), frames)
        for block in self.blocks:
            hidden, frames = block(hidden, frames)
        states = torch.cat((hidden.mean(dim=3), hidden.amax(dim=3)), dim=1).transpose(1, 2)  # (B, S, 2 C)
        states = self.norm(self.project(dropout(states, self.settings["dropout"], self.training)))
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]


class _Block(nn.Module):
    """Two 3 × 3 convolutions, then half the time and half the frequencies."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)

    def forward(self, hidden: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        hidden = zero_padding(relu(self.first_norm(self.first(hidden))), frames)
        hidden = zero_padding(relu(self.second_norm(self.second(hidden))), frames)
        # After a ReLU a padding of zero never wins, so that the last, half-filled column is what it would be alone.
        return max_pool2d(hidden, 2, ceil_mode=True), _halved(frames)


def _halved(frames: Tensor) -> Tensor:
    return (frames + 1) // 2
