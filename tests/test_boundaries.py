from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from conftest import tone
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from a2i.storyboard.boundaries import Ear, cut, hear, is_alike, segment, together
from a2i.storyboard.settings import SceneSettings

RATE = 44_100
SETTINGS = SceneSettings()


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def boundaries(ear: Ear, *sounds: np.ndarray, settings: SceneSettings = SETTINGS) -> list[float]:
    """Where the scenes of sounds in a row begin, but for the first; the scenes follow each other from 0 to the end."""
    stretches = cut(hear(ear, sounds), settings, 60.0)
    assert stretches[0].start == 0
    assert stretches[-1].end == sum(map(len, sounds)) / RATE
    assert all(before.end == after.start for before, after in pairwise(stretches))
    assert all(each.seconds > 0 for each in stretches)
    return [each.start for each in stretches[1:]]


def test_silence_tone_and_noise_are_three_scenes(ear: Ear) -> None:
    found = boundaries(ear, silence(5), tone(1000, 6, RATE), noise(7))
    assert found == [pytest.approx(5, abs=0.5), pytest.approx(11, abs=0.5)]
    assert [each.is_silent for each in cut(hear(ear, [silence(3), noise(4), silence(3)]), SETTINGS, 60.0)] == [
        *(True, False, True)
    ]


def test_soft_sounds_change_too(ear: Ear) -> None:
    found = boundaries(ear, 0.03 * tone(1000, 6, RATE), 0.03 * noise(7))
    assert found == [pytest.approx(6, abs=1)]


@pytest.mark.parametrize("sound", [tone(300, 12, RATE), noise(12), silence(12)], ids=["tone", "noise", "silence"])
def test_one_sound_is_one_scene(ear: Ear, sound: np.ndarray) -> None:
    assert boundaries(ear, sound) == []


@pytest.mark.parametrize("samples", [1, 100, 8_192, 20_000, 44_099])
def test_less_than_a_second_is_one_scene(ear: Ear, samples: int) -> None:
    assert boundaries(ear, noise(1)[:samples]) == []


def test_blocks_change_nothing(ear: Ear) -> None:
    """13 s are two chunks."""
    sound = np.concatenate([noise(4), tone(500, 5, RATE), noise(4, 1)])
    whole = hear(ear, [sound])
    assert len(whole.states) == len(whole.loudness) == (-(-len(sound) // 1024) + 1) // 8
    for size in (4_000, 100_003, 10 * RATE):
        heard = hear(ear, [sound[first : first + size] for first in range(0, len(sound), size)])
        np.testing.assert_array_equal(heard.states, whole.states)
        np.testing.assert_array_equal(heard.loudness, whole.loudness)


def test_chunks_change_little(ear: Ear) -> None:
    """Where chunks meet, states are what they are in the middle of one."""
    sound = np.concatenate([noise(6), tone(500, 8, RATE)])
    later = hear(ear, [np.concatenate([noise(1.0, 2)[: 5 * 8_192], sound])])
    states = hear(ear, [sound]).states
    np.testing.assert_allclose(later.states[5 + 8 : len(states)], states[8 : len(states) - 5], atol=0.02)


def test_seconds_heard_are_told(ear: Ear) -> None:
    seen: list[float] = []
    hear(ear, [noise(5)] * 5, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 25.0


rows = st.lists(st.integers(0, 3), min_size=1, max_size=14)


@tries(max_examples=60)
@given(rows, st.integers(1, 4), st.integers(0, 5), st.floats(0.0, 5.0))
def test_no_segments_cost_less(values: list[int], shortest: int, more: int, price: float) -> None:
    states, longest = np.eye(4)[values], 2 * shortest + more

    def cost(ends: Sequence[int]) -> float:
        parts = np.split(states, ends[:-1])
        return sum(float(((part - part.mean(axis=0)) ** 2).sum()) + price for part in parts)

    def every(start: int) -> list[list[int]]:
        """All ways to go on from `start`."""
        if start == len(states):
            return [[]]
        ends = range(start + shortest, min(start + longest, len(states)) + 1)
        return [[end, *rest] for end in ends for rest in every(end)]

    found = segment(states, price, shortest, longest)
    assert found[-1] == len(states)
    lengths = np.diff([0, *found])
    assert len(states) < shortest or (lengths.min() >= shortest and lengths.max() <= longest)
    assert cost(found) == pytest.approx(min(map(cost, every(0)), default=cost([len(states)])))


def test_a_row_of_hours_is_cut_as_a_short_one() -> None:
    """What is summed up window by window: equal patterns, equal segments."""
    pattern = np.repeat(np.eye(5), [7, 12, 9, 15, 8], axis=0)
    ends = segment(np.tile(pattern, (40, 1)), 2.0, 3, 20)
    expected = np.cumsum([7, 12, 9, 15, 8])
    assert ends == [int(end) + 51 * place for place in range(40) for end in expected]


def test_what_only_the_longest_parted_is_alike(ear: Ear) -> None:
    heard = hear(ear, [noise(13), tone(1000, 6, RATE)])
    first, second, other = cut(heard, SceneSettings(shortest=1), 8.0)[:3]
    assert is_alike(first, second, SETTINGS)
    both = together(first, second)
    assert (both.start, both.end) == (0.0, second.end)
    assert not is_alike(both, other, SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{"shortest": 0}, {"longest": 3.0}, {"change": -1}, {"change": float("nan")}, {"shortest": "x"}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SceneSettings(**wrong)
