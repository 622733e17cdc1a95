"""What training does to spectrograms so that a model hears the sound and not the recording."""

import torch
from torch import Tensor, nn


class SpecAugment(nn.Module):
    """Frequency and time masking (Park et al. 2019), each clip with masks of its own, within its real frames.

    Masked cells become 0, the mean of normalised features.
    """

    def __init__(
        self, frequency_masks: int = 2, frequency_width: int = 24, time_masks: int = 2, time_share: float = 0.1
    ) -> None:
        """Set up.

        Args:
            frequency_masks: in each clip.
            frequency_width: mel bins of the widest.
            time_masks: in each clip.
            time_share: of a clip's frames, the longest.
        """
        super().__init__()
        if min(frequency_masks, frequency_width, time_masks) < 0 or not 0 <= time_share <= 1:
            raise ValueError("got a negative number of masks or a width out of range; expected ≥ 0, and time_share ≤ 1")
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_share = time_masks, time_share

    def forward(self, log_mel: Tensor, mask: Tensor) -> Tensor:
        """(B, T, F) and its mask (B, T) → (B, T, F)."""
        batch, length, bins = log_mel.shape
        frames = mask.sum(dim=1).to(log_mel.dtype)
        for _ in range(self.frequency_masks):
            widest = log_mel.new_full((batch,), min(self.frequency_width, bins))
            log_mel = log_mel.masked_fill(_spans(bins, widest, log_mel.new_full((batch,), bins))[:, None, :], 0.0)
        for _ in range(self.time_masks):
            spans = _spans(length, frames * self.time_share, frames) & mask
            log_mel = log_mel.masked_fill(spans[:, :, None], 0.0)
        return log_mel


def _spans(size: int, widest: Tensor, room: Tensor) -> Tensor:
    """(B, size) bool: for each clip one span up to `widest` (B,) long, somewhere in its `room` (B,)."""
    width = torch.rand_like(widest) * widest
    start = torch.rand_like(widest) * (room - width)
    position = torch.arange(size, device=widest.device)
    return (position >= start[:, None]) & (position < (start + width)[:, None])
