import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2i.captioner.candidates import Calibration, Candidate, best_first, distinct, fit


def test_the_fit_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = -rng.exponential(1.0, 20_000)
    made = Calibration(scale=3.0, offset=2.5)
    right = rng.random(len(x)) < [made.confidence(value) for value in x]
    found = fit(x.tolist(), right.tolist())
    assert found.scale == pytest.approx(3.0, abs=0.15)
    assert found.offset == pytest.approx(2.5, abs=0.1)
    confidence = np.array([found.confidence(value) for value in x])
    for low in np.arange(0.0, 1.0, 0.2):
        some = (confidence >= low) & (confidence < low + 0.2)
        assert right[some].mean() == pytest.approx(confidence[some].mean(), abs=0.03)


@given(st.floats(-1e6, 0), st.floats(-1e6, 0), st.floats(0.01, 100), st.floats(-100, 100))
def test_a_likelier_caption_is_no_less_sure(first: float, second: float, scale: float, offset: float) -> None:
    calibration = Calibration(scale, offset)
    low, high = sorted((first, second))
    assert 0 <= calibration.confidence(low) <= calibration.confidence(high) <= 1


def test_all_right_or_all_wrong_stays_finite() -> None:
    x = [-0.1, -0.5, -0.9, -1.5]
    assert fit(x, [True] * 4).confidence(-0.5) == pytest.approx(5 / 6, abs=0.01)
    assert fit(x, [False] * 4).confidence(-0.5) == pytest.approx(1 / 6, abs=0.01)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="as many of both"):
        fit([], [])
    with pytest.raises(ValueError, match="as many of both"):
        fit([-1.0], [True, False])
    with pytest.raises(ValueError, match="finite"):
        Calibration(math.nan, 0.0)


def test_equal_captions_count_once_where_the_best_stands() -> None:
    candidates = [
        Candidate("a dog", -1.0, 0.4, -1.0),
        Candidate("a cat", -2.0, 0.2, -2.0),
        Candidate("a dog", -3.0, 0.1, -3.0),
    ]
    assert distinct(candidates) == candidates[:2]
    assert best_first(reversed(candidates)) == candidates
