"""The encoder of the Audio Captioning Transformer (Mei et al. 2021): no convolution, only attention between short stretches.

A patch is a few frames with all their frequencies, so that patches are a sequence in time. The layers are PyTorch's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from a2i.captioner.encoders import load_weights, register


@register
class ACTEncoder(nn.Module):
    """Log-mel → CLS and a state for every patch.

    Clips longer than the position embeddings are encoded in windows of that many patches, and the states joined along time.
    """

    name = "act"

    def __init__(
        self,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        feedforward: int | None = None,
        patch_frames: int = 8,
        positions: int = 125,
        num_mel_bins: int = 64,
        dropout: float = 0.2,
        pretrained: str | None = None,
    ) -> None:
        """Build with random weights, or from another captioner's.

        Args:
            layers: each of self-attention and feed-forward network, normalised before each part.
            width: D, of a state.
            heads: of the attention.
            feedforward: inner size of the feed-forward networks; None for four times the width.
            patch_frames: of a patch, 10 ms each.
            positions: patches that have position embeddings: 125 of 80 ms are 10 s.
            num_mel_bins: mel bins of the input.
            dropout: rate within the layers and on the embeddings.
            pretrained: captioner folder with such an encoder, or a `.pth` file of this one's weights; None for random ones.

        Raises:
            ValueError: the heads don't divide the width, a number is below 1, or the weights are of another network.
        """
        super().__init__()
        feedforward = feedforward or 4 * width
        if min(layers, width, heads, feedforward, patch_frames, positions, num_mel_bins) < 1 or width % heads:
            raise ValueError(
                f"got {layers} layers of width {width} with {heads} heads, patches of {patch_frames} frames, {positions}"
                " positions; expected at least one of each, and heads that divide the width"
            )
        self.settings: dict[str, Any] = {
            **{"layers": layers, "width": width, "heads": heads, "feedforward": feedforward},
            **{"patch_frames": patch_frames, "positions": positions, "num_mel_bins": num_mel_bins, "dropout": dropout},
        }
        self.width = width
        self.normalise = nn.BatchNorm1d(num_mel_bins)
        self.embed = nn.Linear(patch_frames * num_mel_bins, width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, positions + 1, width))
        for table in (self.cls, self.positions):
            nn.init.trunc_normal_(table, std=0.02)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            width, heads, feedforward, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        if pretrained is not None:
            load_weights(self, pretrained)

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins).
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) and mask (B, S) bool; in every window CLS comes first, then the patches along time. A patch that
            a clip does not fill has zeros, which is the mean, in the rest.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        size, most = self.settings["patch_frames"], self.settings["positions"]
        frames, length = mask.sum(dim=1), log_mel.shape[1]
        normalised = self.normalise(log_mel.transpose(1, 2)).transpose(1, 2) * mask[:, :, None]
        count = min(-(-length // size), most)  # patches of a window
        windows = -(-length // (count * size))
        normalised = pad(normalised, (0, 0, 0, windows * count * size - length))
        patches = self.embed(normalised.unflatten(1, (windows, count, size)).flatten(3).flatten(0, 1))  # (B × W, P, D)
        hidden = torch.cat((self.cls.expand(len(patches), -1, -1), patches), dim=1) + self.positions[:, : count + 1]
        begun = -(-frames // size)[:, None] - count * torch.arange(windows, device=frames.device)  # (B, W)
        real = torch.arange(count, device=frames.device) < begun[:, :, None]  # (B, W, P)
        # CLS is attended to even where a window has nothing else, or there would be nothing to attend to.
        attended = pad(real, (1, 0), value=True).flatten(0, 1)
        states = self.encoder(self.dropout(hidden), src_key_padding_mask=~attended)
        states_mask = torch.cat((real[:, :, :1], real), dim=2).flatten(1)
        return states.unflatten(0, (len(log_mel), windows)).flatten(1, 2), states_mask
