"""Which sources are heard, told from what the decoder attends to: for data sets that know it."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from a2i.data import Clip


def label_names(clips: Iterable[Clip]) -> list[str]:
    """All the labels of some clips, in the order of the alphabet."""
    return sorted({label for clip in clips for label in clip.labels or ()})


def label_shares(labels: frozenset[str] | None, names: Sequence[str]) -> list[float]:
    """A clip's labels as (len(names) + 1,) shares that add up to 1; the last one is for having nothing to name.

    All are 0 where the labels are not known. A label that is not among the names counts as nothing.
    """
    if labels is None:
        return [0.0] * (len(names) + 1)
    known = labels & set(names)
    return [(name in known) / max(len(known), 1) for name in names] + [float(not known)]


class LabelLoss(nn.Module):
    """A linear head on the mean and the maximum of the states over time, and its cross-entropy.

    A sentence's loss is mostly about wording, and little of it about the sound. This one tells the encoder directly what to
    hear, as keyword estimation does (Koizumi et al. 2020, "A Transformer-based audio captioning model with keyword
    estimation").
    """

    def __init__(self, width: int, labels: int) -> None:
        """Set up.

        Args:
            width: D, of the states.
            labels: how many there are.
        """
        super().__init__()
        self.head = nn.Linear(2 * width, labels + 1)

    def forward(self, states: Tensor, states_mask: Tensor, shares: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean over the clips whose labels are known, in nats; 0 where there is none.

        Args:
            states: (B, S, D).
            states_mask: (B, S) bool.
            shares: (B, labels + 1), as `label_shares` gives them.
            label_smoothing: share of the target's probability spread over the labels.
        """
        real = states_mask[:, :, None]
        mean = (states * real).sum(dim=1) / real.sum(dim=1)
        maximum = states.masked_fill(~real, float("-inf")).amax(dim=1)
        log_probabilities = self.head(torch.cat((mean, maximum), dim=1)).float().log_softmax(dim=1)
        known = shares.sum(dim=1, keepdim=True)
        targets = (1 - label_smoothing) * shares + label_smoothing * known / shares.shape[1]
        return -(targets * log_probabilities).sum() / known.sum().clamp(min=1)
