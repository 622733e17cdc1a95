"""Which sources are heard, told from the encoder's states, and passed to the decoder as one more state.

After Koizumi et al. 2020, "A Transformer-based audio captioning model with keyword estimation". There keywords are words of
the captions; here they are the labels that a data set has. A decoder that reads states alone weighs how likely a wording is
together with how likely a source is, and so prefers the source with few wordings where it hears two alike. Told the
keywords, it has only to find the words.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# A source is a keyword if it is at least this likely as a share of the likeliest: two that sound together share one
# distribution, so that the second is well below a half.
LEAST_SHARE = 0.3


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
        real = states_mask[:, :, None]
        mean = (states * real).sum(dim=1) / real.sum(dim=1)
        maximum = states.masked_fill(~real, float("-inf")).amax(dim=1)
        log_probabilities: Tensor = self.linear(torch.cat((mean, maximum), dim=1)).float().log_softmax(dim=1)
        return log_probabilities


class Keywords(nn.Module):
    """Estimates the keywords of a clip, and makes of them a state that the decoder attends to."""

    def __init__(self, width: int, decoder_width: int, names: Sequence[str]) -> None:
        """Set up with random weights.

        Args:
            width: D, of the encoder's states.
            decoder_width: of what the decoder attends to.
            names: of the labels.

        Raises:
            ValueError: there are none, or one twice.
        """
        super().__init__()
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"got keywords {self.names}; expected the names of a data set's labels, each once")
        self.head = LabelHead(width, len(self.names))
        self.embedding = nn.Linear(len(self.names) + 1, decoder_width, bias=False)
        nn.init.normal_(self.embedding.weight)

    def estimate(self, states: Tensor, states_mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is heard, as far as the head can tell.

        Args:
            states: (B, S, D), the encoder's.
            states_mask: (B, S) bool.

        Returns:
            shares (B, labels + 1), as those that training takes from the labels: equal ones for the keywords that are
            told, which add up to 1; and (B,) the probability that the head gives to all of these together, as logarithm.
        """
        probabilities = self.head(states, states_mask).exp()
        told = probabilities >= LEAST_SHARE * probabilities.amax(dim=1, keepdim=True)
        # To have nothing to name goes with no keyword.
        nothing = probabilities.argmax(dim=1, keepdim=True) == len(self.names)
        last = torch.arange(len(self.names) + 1, device=told.device) == len(self.names)
        told = torch.where(nothing, last, told & ~last)
        return told / told.sum(dim=1, keepdim=True), (probabilities * told).sum(dim=1).log()

    def forward(self, shares: Tensor) -> Tensor:
        """Shares (B, labels + 1) → a state (B, 1, decoder_width)."""
        state: Tensor = self.embedding(shares)[:, None]
        return state
