"""Intervals and p-values on data whose truth is known."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.metrics.intervals import Interval, bootstrap, bootstrap_of, paired, swap_test

SCORES = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=30)


def test_interval_of_a_normal_sample_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 1000)
    half = 1.96 * values.std() / np.sqrt(1000)
    got = bootstrap(values)
    assert got.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.05 * half)
    narrow = bootstrap(values, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(0.6745 / 1.96 * (got.high - got.low), rel=0.05)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_intervals_cover_the_truth_as_often_as_they_say(level: float) -> None:
    """Skewed scores as of a metric: squares of uniform numbers, whose mean is 1/3; 400 samples of 100 clips."""
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(400):
        got = bootstrap(generator.uniform(size=100) ** 2, samples=400, level=level, seed=seed)
        hits += got.low <= 1 / 3 <= got.high
    assert hits / 400 == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 400))


def test_any_score_can_be_resampled() -> None:
    """A ratio of sums, as corpus BLEU is: its interval is not that of the mean of ratios."""
    generator = np.random.default_rng(2)
    right, words = generator.integers(0, 5, 200), generator.integers(5, 30, 200)
    seen = []

    def ratio(indices: np.ndarray) -> float:
        seen.append(indices)
        return right[indices].sum() / words[indices].sum()

    got = bootstrap_of(ratio, 200, samples=500)
    assert got.low < right.sum() / words.sum() < got.high
    assert not got.low < (right / words).mean() < got.high
    assert len(seen) == 500
    assert all(indices.shape == (200,) and indices.dtype == np.int64 for indices in seen)
    assert {0, 199} <= set(np.concatenate(seen)) <= set(range(200))
    assert np.mean([len(set(indices)) for indices in seen]) == pytest.approx(200 * (1 - np.exp(-1)), rel=0.02)


def test_bootstrap_of_a_mean_is_bootstrap() -> None:
    values = np.random.default_rng(3).normal(size=50)
    got = bootstrap_of(lambda indices: values[indices].mean(), 50, samples=300, seed=7)
    want = bootstrap(values, samples=300, seed=7)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))
    assert bootstrap(values, samples=300, seed=8) != want
    assert bootstrap(values, samples=300, seed=7) == want


def test_p_values_are_uniform_where_the_systems_are_alike() -> None:
    """600 pairs of systems of 30 clips, whose scores differ by chance alone."""
    generator = np.random.default_rng(4)
    found = np.array(
        [
            paired(clip + generator.normal(size=30), clip + generator.normal(size=30), samples=199, seed=seed).p_value
            for seed, clip in enumerate(generator.normal(size=(600, 30)))
        ]
    )
    for share in (0.05, 0.2, 0.5, 0.8):
        assert (found <= share).mean() == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 600))


def test_few_clips_are_tried_in_all_ways() -> None:
    """Of the 16 ways to swap, one is as large and one as small."""
    got = paired([1.5, 2, 3, 4], [0.5, 0, 0, 0])
    assert got.p_value == pytest.approx(2 / 16)
    assert got.difference == pytest.approx(2.5)
    assert paired([1, 2, -1, 4], [1, 2, -1, 4]).p_value == 1


def test_p_value_of_random_swaps_is_never_zero() -> None:
    assert paired(np.arange(40) + 1.0, np.zeros(40), samples=999).p_value == pytest.approx(2 / 1000)


def test_paired_finds_what_the_clips_hide() -> None:
    """Clips differ far more than the systems do; a comparison that forgot the pairs would not see the difference."""
    generator = np.random.default_rng(5)
    clips = generator.uniform(size=300)
    first, second = clips + 0.01 + generator.normal(0, 0.02, 300), clips + generator.normal(0, 0.02, 300)
    got = paired(first, second)
    assert got.p_value < 0.001
    assert 0 < got.interval.low < 0.01 < got.interval.high
    assert got.interval == bootstrap(first - second)
    assert paired(first, generator.permutation(second)).p_value > 0.05


def test_the_order_of_the_systems_turns_the_sign_only() -> None:
    generator = np.random.default_rng(6)
    first, second = generator.normal(size=80), generator.normal(0.1, 1, size=80)
    one, other = paired(first, second), paired(second, first)
    assert one.p_value == other.p_value
    assert one.difference == -other.difference
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))


@settings(max_examples=40)
@given(values=SCORES, shift=st.floats(-5, 5), level=st.floats(0.1, 0.99))
def test_intervals_lie_within_the_scores_and_move_with_them(values: list[float], shift: float, level: float) -> None:
    got = bootstrap(values, samples=100, level=level)
    assert min(values) <= got.low <= got.high <= max(values)
    moved = bootstrap(np.array(values) + shift, samples=100, level=level)
    assert (moved.low, moved.high) == pytest.approx((got.low + shift, got.high + shift), abs=1e-9)


@settings(max_examples=40)
@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_paired_is_symmetric(pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    one, other = paired(first, second, samples=99), paired(second, first, samples=99)
    assert 0 < one.p_value <= 1
    assert one.p_value == other.p_value
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval.low <= one.interval.high


@pytest.mark.parametrize("level", [0.1034, 0.1076, 0.1154, 0.1157, 0.1236, 0.1564])
def test_an_interval_is_ordered(level: float) -> None:
    """Both ends lie among equal means here, between which numpy interpolates the low one a bit above the high one."""
    values = np.array([1.0, 1.0, 3.0])
    for got in (
        bootstrap(values, samples=100, level=level),
        paired(values, np.zeros(3), samples=100, level=level).interval,
        bootstrap_of(lambda indices: float(values[indices].mean()), 3, samples=100, level=level),
    ):
        assert got.low <= got.high
        assert got.low == pytest.approx(5 / 3)


@pytest.mark.parametrize("value", [0.5, 0.1, 1 / 3, 0.7])
def test_equal_scores_have_an_interval_of_no_width(value: float) -> None:
    """Three times 0.1 has a mean above 0.1, once it is rounded."""
    for count in (3, 5, 10):
        assert bootstrap([value] * count) == Interval(value, value)


def test_memory_does_not_grow_with_the_samples() -> None:
    values = np.random.default_rng(7).normal(size=4000)
    for run in (bootstrap, lambda values, samples: paired(values, values[::-1], samples=samples)):
        peaks = []
        for samples in (500, 2000):
            tracemalloc.start()
            run(values, samples=samples)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.1 * peaks[0] < 110e6


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.5], {}, "at least two clips"),
        ([[0.5, 1], [1, 2]], {}, r"got scores of shape \(2, 2\)"),
        ([0.5, float("nan")], {}, "1 of them finite"),
        ([0.5, 1], {"samples": 0}, "got samples 0"),
        ([0.5, 1], {"level": 95}, "got .* level 95; expected .* between 0 and 1"),
    ],
)
def test_wrong_input_is_refused(values, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(values, **options)
    with pytest.raises(ValueError, match=message):
        paired(values, values, **options)
    with pytest.raises(ValueError, match="got 2 and 3 scores"):
        paired([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least two clips"):
        bootstrap_of(lambda indices: 0.0, 1)


def mean_of(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_swapping_counts_of_a_mean_is_the_paired_test() -> None:
    """Counts (value, 1) make the mean: the p-values are those of `paired`, the exact ones to the last digit."""
    generator = np.random.default_rng(4)
    for count, tolerance in ((9, 1e-12), (200, 0.02)):
        first, second = generator.normal(0.1, 1, count), generator.normal(0, 1, count)
        tallies = [np.stack([values, np.ones(count)], axis=1) for values in (first, second)]
        got = swap_test(tallies[0], tallies[1], mean_of)
        assert got == pytest.approx(paired(first, second).p_value, abs=tolerance)
    assert swap_test(tallies[0], tallies[0], mean_of) == 1
    with pytest.raises(ValueError, match="expected"):
        swap_test(tallies[0], tallies[1][1:], mean_of)


def test_swap_test_is_as_often_wrong_as_it_says() -> None:
    """Ratios of sums of two systems that are alike: p below 0.1 in a tenth of 300 sets."""
    generator = np.random.default_rng(5)
    p_values = []
    for seed in range(300):
        right, words = generator.integers(0, 5, (2, 40)), generator.integers(5, 30, (2, 40))
        tallies = np.stack([right, words], axis=2).astype(float)
        p_values.append(swap_test(tallies[0], tallies[1], mean_of, samples=300, seed=seed))
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=3.5 * np.sqrt(0.09 / 300))
