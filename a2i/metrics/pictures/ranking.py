"""Retrieval: where each of N queries finds its own partner among N."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

RECALL_AT = (1, 5, 10)
NOISE = 1e-6  # similarities nearer than this differ by rounding alone: unit vectors in float32


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each of N queries finds its own partner among N; (N,) float64 each, so that a caller can resample them.

    Partners that are equally near share their places: `rank` is the mean of these, `recall` and `reciprocal_rank` are the
    mean over every order they could come in. Where all are equal, that is chance: rank (N + 1) / 2, recall k / N.
    """

    rank: Tensor  # from 1, the nearest
    recall: dict[int, Tensor]  # at 1, 5 and 10: 1 where the partner is among the k nearest; 1 for all where N <= k
    reciprocal_rank: Tensor

    @property
    def summary(self) -> dict[str, float]:
        """Means over queries, the median rank (of an even number: the mean of the middle two), and N, `count`."""
        return {
            **{f"recall_at_{k}": float(values.mean()) for k, values in self.recall.items()},
            "median_rank": float(self.rank.quantile(0.5)),
            "mean_reciprocal_rank": float(self.reciprocal_rank.mean()),
            "count": float(len(self.rank)),
        }


class Retrieval(NamedTuple):
    """Both directions of retrieval between two modalities."""

    forward: Ranking  # a row, as a sound, looks for its column, as its picture
    backward: Ranking  # a column looks for its row


def retrieval(similarity: Tensor) -> Retrieval:
    """Retrieval over a pool of N pairs, from their similarities.

    All of it depends on N and on the pool: compare figures over the same pool only.

    Args:
        similarity: (N, N), any scale, the higher the nearer; pair i is row i with column i. What differs by no more than
            1e-6, rounding of float32 cosines, counts as equal.

    Raises:
        ValueError: not a square matrix, empty, or not finite.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise ValueError(f"got similarities of shape {tuple(similarity.shape)}; expected (N, N), N at least 1")
    if not similarity.isfinite().all():
        raise ValueError("got similarities that are not finite; expected numbers, the higher the nearer")
    return Retrieval(_rank(similarity.double()), _rank(similarity.double().T))


def _rank(similarity: Tensor) -> Ranking:
    own = similarity.diagonal().unsqueeze(1)
    nearer = (similarity > own + NOISE).sum(dim=1)
    equal = ((similarity - own).abs() <= NOISE).sum(dim=1)  # itself among them
    places = torch.arange(1, len(similarity) + 1, device=similarity.device, dtype=torch.float64)
    sums = torch.cat([places.new_zeros(1), (1 / places).cumsum(dim=0)])  # sums[n] = 1 + 1/2 + … + 1/n
    return Ranking(
        rank=nearer + (equal + 1) / 2.0,
        recall={k: ((k - nearer) / equal.double()).clamp(0, 1) for k in RECALL_AT},
        reciprocal_rank=(sums[nearer + equal] - sums[nearer]) / equal,
    )
