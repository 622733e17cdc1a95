"""How sure a score is: bootstrap intervals of one system's scores, and a paired comparison of two systems.

What is resampled is always the clips, so an interval says how the score would vary over other clips of the same kind. It
does not say how it would vary over training runs, or over people who write references.

- Scores that are a mean over clips (ROUGE-L, SPICE, BERTScore, CLIPScore, …): `bootstrap` of the per-clip scores.
- Scores that are not (BLEU and METEOR of a corpus, which add up counts before they divide): `bootstrap_of` a function that
  scores the chosen clips, and `swap_test` of two systems' counts. `bootstrap` of their per-clip scores is an interval of
  the mean of those, another number.
- CIDEr-D of a corpus is the mean over clips, but with word weights from all clips together. `bootstrap` of its per-clip
  scores keeps these weights fixed; `bootstrap_of` with a function that scores anew lets them vary too.

Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15; computed by scipy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_AT_ONCE = 1_000_000  # numbers resampled at a time: 8 MB each time they are copied


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two systems on the same clips."""

    difference: float  # mean of the first minus mean of the second
    interval: Interval  # of the difference
    p_value: float  # two-sided: how often a difference as large arises where the systems are alike


def bootstrap(values: ArrayLike, samples: int = 10_000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (N,) scores of clips, N at least 2.
        samples: how many times N clips are drawn with replacement.
        level: share of the drawn means that lie inside, between 0 and 1.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        ValueError: values of another shape, fewer than two, not finite; or a number out of its range.
    """
    return _of_mean(_checked(values, samples, level), samples, level, seed)


def bootstrap_of(
    function: Callable[[NDArray[np.int64]], float],
    count: int,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of any score of a set of clips; arguments and errors as in `bootstrap`.

    Args:
        function: gets (count,) indices of the chosen clips, each in [0, count), some several times; gives their score. It
            is called `samples` times.
        count: how many clips there are, at least 2.
    """
    indices = _checked(np.arange(count), samples, level).astype(np.int64)
    return _bootstrap(indices, function, samples, level, seed, vectorized=False)


def paired(first: ArrayLike, second: ArrayLike, samples: int = 10_000, level: float = 0.95, seed: int = 0) -> Paired:
    """Compare two systems by their scores of the same clips, in the same order.

    The interval is a percentile bootstrap of the per-clip differences. The p-value is of a two-sided paired permutation
    test: where the systems are alike, a clip's two scores could as well be swapped, which flips its difference's sign.
    With c of `samples` random swaps as extreme as what was found, on the side where there are fewer of them, it is
    2 (c + 1) / (samples + 1), and never more than 1 nor 0; with so few clips that all swaps can be tried (2^N not above
    `samples`), it is exact.

    Args:
        first, second: (N,) scores each, N at least 2.
        samples: how many bootstrap samples, and how many random swaps.
        level, seed: as in `bootstrap`.

    Raises:
        ValueError: the two differ in length, or as in `bootstrap`.
    """
    ours, theirs = _checked(first, samples, level), _checked(second, samples, level)
    if len(ours) != len(theirs):
        raise ValueError(f"got {len(ours)} and {len(theirs)} scores; expected two scores a clip, of the same clips")
    differences = ours - theirs
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=_batch(differences),
        rng=np.random.default_rng(seed),
    )
    interval = _of_mean(differences, samples, level, seed)
    return Paired(float(differences.mean()), interval, float(test.pvalue))


def swap_test(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    formula: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of two systems' corpus scores, by the permutation test of `paired`: clips swap their counts.

    Riezler & Maxwell, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT", 2005.

    Args:
        first, second: (N, K) counts of the same clips.
        formula: (S, K) sums of counts → (S,) corpus scores.
        samples, seed: as in `paired`.

    Raises:
        ValueError: the shapes differ, or there is no clip.
    """
    if first.shape != second.shape or first.ndim != 2 or not len(first) or samples < 1:
        raise ValueError(
            f"got counts {first.shape} and {second.shape}, and samples {samples}; expected (N, K) twice, and at least 1"
        )
    totals, change = (first.sum(axis=0), second.sum(axis=0)), second - first
    found = float(np.subtract(*formula(np.stack(totals))))
    clips, rng = np.arange(len(first)), np.random.default_rng(seed)
    exact = 2.0 ** len(first) <= samples
    count = 2 ** len(first) if exact else samples
    parts = []
    for numbers in np.array_split(np.arange(count), -(-count // _batch(clips))):
        swaps = (numbers[:, None] >> clips) & 1 if exact else rng.integers(0, 2, (len(numbers), len(first)))
        moved = swaps.astype(np.float64) @ change
        parts.append(formula(totals[0] + moved) - formula(totals[1] - moved))
    drawn = np.concatenate(parts)
    slack = 1e-12 * max(1.0, abs(found))  # what differs by rounding alone is as extreme
    tail = min(np.sum(drawn >= found - slack), np.sum(drawn <= found + slack))
    share = tail / len(drawn) if exact else (tail + 1) / (len(drawn) + 1)
    return float(min(1.0, 2 * share))


def _of_mean(values: NDArray[np.float64], samples: int, level: float, seed: int) -> Interval:
    found = _bootstrap(values, np.mean, samples, level, seed, vectorized=True)
    # A mean lies between its values, but its sum is rounded: three times 0.1 has a mean above 0.1.
    least, most = float(values.min()), float(values.max())
    return Interval(min(max(found.low, least), most), min(max(found.high, least), most))


def _bootstrap(
    data: NDArray[Any], statistic: Callable[..., Any], samples: int, level: float, seed: int, vectorized: bool
) -> Interval:
    found = stats.bootstrap(
        (data,),
        statistic,
        n_resamples=samples,
        batch=_batch(data),
        vectorized=vectorized,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # Between two equal numbers numpy interpolates from either side, and may end a bit above or below them.
    low, high = sorted((float(found.low), float(found.high)))
    return Interval(low, high)


def _batch(data: Sequence[Any] | NDArray[Any]) -> int:
    return max(1, _AT_ONCE // len(data))


def _checked(values: ArrayLike, samples: int, level: float) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError(
            f"got scores of shape {array.shape}, {int(np.isfinite(array).sum())} of them finite; "
            "expected one finite number a clip, and at least two clips"
        )
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"got samples {samples} and level {level}; expected at least 1, and between 0 and 1")
    return array
