"""Which sources are heard, told from the encoder's states, and passed to the decoder as one more state.

After Koizumi et al. 2020, "A Transformer-based audio captioning model with keyword estimation". There keywords are words of
the captions; here they are the labels that a data set has. A decoder that reads states alone weighs how likely a wording is
together with how likely a source is, and so prefers the source with few wordings where it hears two alike. Told the
keywords, it has only to find the words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN = 64  # units that tell whether several sources are heard
RANKS = 4  # probabilities, the largest first, that they look at
SEVERAL = 0.98  # so sure it must be: clips of several sources are far more common in training, where clips are mixed
LEAST = 0.25  # keywords that are less likely than this together are not told


def pooled(states: Tensor, states_mask: Tensor) -> Tensor:
    """States (B, S, D) and mask (B, S) → mean and maximum over the real ones (B, 2 D)."""
    real = states_mask[:, :, None]
    mean = (states * real).sum(dim=1) / real.sum(dim=1)
    maximum = states.masked_fill(~real, float("-inf")).amax(dim=1)
    return torch.cat((mean, maximum), dim=1)


class LabelHead(nn.Module):
    """A linear head on the mean and the maximum of the states over time."""

    def __init__(self, width: int, labels: int) -> None:
        """Set up.

        Args:
            width: D, of the states.
            labels: how many there are; one more output is for having nothing to name.
        """
        super().__init__()
        self.linear = nn.Linear(2 * width, labels + 1)

    def forward(self, states: Tensor, states_mask: Tensor) -> Tensor:
        """States (B, S, D) and mask (B, S) → log-probabilities (B, labels + 1)."""
        log_probabilities: Tensor = self.linear(pooled(states, states_mask)).float().log_softmax(dim=1)
        return log_probabilities


class Keywords(nn.Module):
    """Estimates the keywords of a clip, one or two, and makes of them a state that the decoder attends to.

    How likely each source is and whether there are two are two questions: of two that are alike one may be heard, and a
    softer one beside a louder one.
    """

    single: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        width: int,
        decoder_width: int,
        names: Sequence[str],
        alone: Sequence[str] = (),
        unlikely: str | None = None,
    ) -> None:
        """Set up with random weights.

        Args:
            width: D, of the encoder's states.
            decoder_width: of what the decoder attends to.
            names: of the labels.
            alone: those of them that are told by themselves or not at all, such as silence.
            unlikely: the one that is told where no keyword is likely enough; None to tell the likeliest all the same.

        Raises:
            ValueError: there are no names, or one twice, or `alone` and `unlikely` are not among them.
        """
        super().__init__()
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"got keywords {self.names}; expected the names of a data set's labels, each once")
        if foreign := {*alone, *([] if unlikely is None else [unlikely])} - set(self.names):
            raise ValueError(f"got {sorted(foreign)}, which are none of the keywords {self.names}")
        self.settings: dict[str, Any] = {"names": self.names, "alone": list(alone), "unlikely": unlikely}
        self.head = LabelHead(width, len(self.names))
        self.embedding = nn.Linear(len(self.names) + 1, decoder_width, bias=False)
        nn.init.normal_(self.embedding.weight)
        single = torch.tensor([*(self.names.index(name) for name in alone), len(self.names)])
        self.register_buffer("single", single, persistent=False)  # to have nothing to name is told by itself too
        inputs = 2 * width + min(RANKS, len(self.names) + 1)
        self.register_buffer("mean", torch.zeros(inputs))  # of what `several` reads, as it was when that learnt
        self.register_buffer("std", torch.ones(inputs))
        last = nn.Linear(HIDDEN, 1)
        # One keyword, until it has learnt when there are two.
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, -10.0)
        self.several = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(0.3), last)

    def evidence_of_several(self, states: Tensor, states_mask: Tensor) -> Tensor:
        """States (B, S, D) and mask (B, S) → (B, inputs): pooled, and the largest log-probabilities of labels.

        That is what `several` reads, once it is standardised.
        """
        log_probabilities = self.head(states, states_mask)
        ranks = min(RANKS, log_probabilities.shape[1])
        return torch.cat((pooled(states, states_mask).float(), log_probabilities.topk(ranks, dim=1).values), dim=1)

    def estimate(self, states: Tensor, states_mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is heard, as far as can be told: the likeliest keyword, or the two likeliest.

        Args:
            states: (B, S, D), the encoder's.
            states_mask: (B, S) bool.

        Returns:
            shares (B, labels + 1), as those that training takes from the labels: equal ones for the keywords that are
            told, which add up to 1, the last for having nothing to name; and (B,) the probability that the head gives to
            all of these together, as logarithm.
        """
        probabilities = self.head(states, states_mask).exp()
        best = probabilities.topk(2, dim=1)
        evidence = (self.evidence_of_several(states, states_mask) - self.mean) / self.std
        several = self.several(evidence)[:, 0].sigmoid() > SEVERAL
        second = several & ~torch.isin(best.indices, self.single).any(dim=1)
        told = torch.zeros_like(probabilities).scatter(
            1, best.indices, torch.stack((torch.ones_like(second), second), 1).float()
        )
        if self.settings["unlikely"] is not None:
            unlikely = torch.zeros_like(told[0])
            unlikely[self.names.index(self.settings["unlikely"])] = 1
            enough = (probabilities * told).sum(dim=1, keepdim=True) >= LEAST
            told = torch.where(enough, told, unlikely)
        return told / told.sum(dim=1, keepdim=True), (probabilities * told).sum(dim=1).log()

    def forward(self, shares: Tensor) -> Tensor:
        """Shares (B, labels + 1) → a state (B, 1, decoder_width)."""
        state: Tensor = self.embedding(shares)[:, None]
        return state
