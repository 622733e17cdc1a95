"""CNN10 and CNN14 of the PANNs (Kong et al. 2020, "PANNs: Large-scale pretrained audio neural networks"), for captioning.

The weights have the names of the published checkpoints. Where those pool over time to tag a clip, here every state along time
goes through the last layer by itself, as in Chen et al. (2020). Published weights want the features that they learnt from:
`features.kind` panns_16k for Cnn14_16k, panns_32k for Cnn10 and Cnn14, with 64 mel bins.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, dropout, pad, relu

from a2i.captioner.encoders import ConvBlock, load_weights, read_weights, register, zero_padding
from a2i.features import FeatureKind, FeatureSettings

# The front end, which is `LogMel`'s here, and the classifier.
PASSED_OVER = ("spectrogram_extractor.", "logmel_extractor.", "spec_augmenter.", "fc_audioset.")


@register
class PANNsEncoder(nn.Module):
    """Log-mel → a state for every 16 frames (CNN10, 0.16 s) or 32 (CNN14, 0.32 s).

    As published, what does not fill a state at a clip's end is dropped; a clip too short for one is filled up. Padding is held
    at zero after every layer, as the convolutions' own is.
    """

    name = "panns"

    def __init__(
        self,
        blocks: int = 4,
        channels: int = 64,
        num_mel_bins: int = 64,
        features: FeatureKind = "panns_16k",
        dropout: float = 0.2,
        pretrained: str | None = None,
    ) -> None:
        """Build with random weights, or from a published checkpoint.

        Args:
            blocks: 4 for CNN10, 6 for CNN14.
            channels: of the first block; each block has twice those of the one before.
            num_mel_bins: mel bins of the input.
            features: kind of the input.
            dropout: rate after each block.
            pretrained: published `.pth` file, or a captioner folder with such an encoder; None for random weights.

        Raises:
            ValueError: sizes don't fit together, or the weights are of another network or learnt from other features.
        """
        super().__init__()
        self.halvings = min(blocks, 5)  # CNN14's sixth block pools no more
        if blocks < 1 or channels < 1 or num_mel_bins < 2**self.halvings:
            raise ValueError(
                f"got blocks={blocks}, channels={channels}, num_mel_bins={num_mel_bins}; expected at least 1 of each, and"
                f" {2**self.halvings} bins or more for so many blocks"
            )
        self.settings: dict[str, Any] = {
            **{"blocks": blocks, "channels": channels, "num_mel_bins": num_mel_bins},
            **{"features": features, "dropout": dropout},
        }
        self.decibels = None if features == "ast" else FeatureSettings(num_mel_bins, kind=features)
        self.width = channels * 2 ** (blocks - 1)
        self.bn0 = nn.BatchNorm2d(num_mel_bins)
        before = 1
        for index in range(blocks):
            after = channels * 2**index
            self.add_module(f"conv_block{index + 1}", ConvBlock(before, after))
            before = after
        self.fc1 = nn.Linear(self.width, self.width)
        nn.init.xavier_uniform_(self.fc1.weight)
        nn.init.zeros_(self.fc1.bias)
        if pretrained is not None:
            _check_features(pretrained, features)
            load_weights(self, pretrained, PASSED_OVER)

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins), normalised as `LogMel` gives it.
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) with S = T / 16 or T / 32, and mask (B, S) bool.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames, rate = mask.sum(dim=1), self.settings["dropout"]
        log_mel = pad(log_mel, (0, 0, 0, max(0, 2**self.halvings - log_mel.shape[1])))
        if self.decibels is not None:
            log_mel = self.decibels.restored(log_mel)
        hidden = self.bn0(log_mel.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)[:, None]  # (B, 1, T, F)
        hidden = zero_padding(hidden, frames)
        for index in range(self.settings["blocks"]):
            hidden = self.get_submodule(f"conv_block{index + 1}")(hidden, frames)
            if index < self.halvings:
                frames = (frames // 2).clamp_min(1)
                hidden = zero_padding(avg_pool2d(hidden, 2), frames)
            hidden = dropout(hidden, rate, self.training)
        states = hidden.mean(dim=3).transpose(1, 2)  # (B, S, D)
        states = relu(self.fc1(dropout(states, rate, self.training)))
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]


def _check_features(pretrained: str, features: str) -> None:
    """A published checkpoint holds its filters, and so says at which rate it learnt."""
    filters = read_weights(pretrained).get("logmel_extractor.melW")
    known = {257: "panns_16k", 513: "panns_32k"}
    if filters is not None and known.get(len(filters), features) != features:
        raise ValueError(
            f"{pretrained}: learnt from features of kind {known[len(filters)]}, got {features}; set"
            f" model.features.kind={known[len(filters)]}"
        )
