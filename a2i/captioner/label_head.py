"""Encoder states → how likely each label is: for keywords, and to learn from labels where the captioner has none."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d


def pooled(states: Tensor, states_mask: Tensor, window: int | None = None) -> Tensor:
    """States (B, S, D) and mask (B, S) → mean and maximum over the real ones (B, 2 D).

    With `window` the mean is that of the greatest states of as many after one another, wherever they begin; of fewer, where a
    clip has no more: for an encoder that learnt from the greatest states of so many.
    """
    real = states_mask[:, :, None]
    known = states.masked_fill(~real, float("-inf"))
    maximum = known.amax(dim=1)
    if window is None:
        mean = (states * real).sum(dim=1) / real.sum(dim=1)
    else:
        size = min(window, states.shape[1])
        counts = states_mask.unfold(1, size, 1).sum(dim=2)  # (B, P), of real states
        full = (counts == states_mask.sum(dim=1, keepdim=True).clamp_max(size))[:, :, None]
        greatest = max_pool1d(known.transpose(1, 2), size, 1).transpose(1, 2)  # (B, P, D)
        mean = torch.where(full, greatest, 0).sum(dim=1) / full.sum(dim=1)
    return torch.cat((mean, maximum), dim=1)


class LabelHead(nn.Module):
    """A linear head on what it reads of the states over time: their mean and maximum and, with windows, the whole band's.

    Two readings together are right more often than either, of sources that the head knows and of others, if the weights of each
    were learnt apart (`a2i.training.probing`, `experiments/world`).
    """

    def __init__(self, width: int, labels: int, window: int | None = None, bands: int = 1) -> None:
        """Set up.

        Args:
            width: D, of the states.
            labels: number of labels; one more output stands for "none of them".
            window: of how many states, where it also reads `pooled` windows of the whole band; None where it doesn't.
            bands: of frequency, of which a state consists: (bands × D / bands). Their mean stands for the whole band.
        """
        super().__init__()
        self.labels, self.window, self.bands = labels, window, bands
        self.sizes = [2 * width] if window is None else [2 * width, 2 * width // bands]  # of what it reads
        self.linear = nn.Linear(sum(self.sizes), labels + 1)

    def read(self, states: Tensor, states_mask: Tensor) -> Tensor:
        """States (B, S, D) and mask (B, S) → (B, inputs)."""
        found = pooled(states, states_mask)
        if self.window is None:
            return found
        whole_band = states.unflatten(2, (self.bands, -1)).mean(dim=2)
        return torch.cat((found, pooled(whole_band, states_mask, self.window)), dim=1)

    def forward(self, states: Tensor, states_mask: Tensor) -> Tensor:
        """States (B, S, D) and mask (B, S) → log-probabilities (B, labels + 1)."""
        return self.told(self.read(states, states_mask))

    def told(self, read: Tensor) -> Tensor:
        """What was read (…, inputs) → log-probabilities (…, labels + 1)."""
        log_probabilities: Tensor = self.linear(read).float().log_softmax(dim=-1)
        return log_probabilities
