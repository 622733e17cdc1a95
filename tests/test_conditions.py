import numpy as np
import pytest
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.training.conditions import RecordingConditions

EFFECTS = ("room", "noise", "band", "telephone", "codec", "overdrive")
NONE = dict.fromkeys(EFFECTS, 0.0)


def changed(effect: str, waveform: np.ndarray, rate: int = 44_100, seed: int = 0) -> np.ndarray:
    return RecordingConditions(**{**NONE, effect: 1.0})(waveform, rate, np.random.default_rng(seed))


def level(waveform: np.ndarray, hertz: float, rate: int = 44_100) -> float:
    """Amplitude of a frequency."""
    time = np.arange(len(waveform)) / rate
    return float(2 * np.abs(np.mean(waveform * np.exp(-2j * np.pi * hertz * time))))


@settings(max_examples=25)
@given(
    samples=st.integers(1, 6_000),
    rate=st.sampled_from([8_000, 16_000, 44_100]),
    seed=st.integers(0, 99),
    loud=st.floats(0, 1, width=32),
)
def test_all_at_once_leave_a_waveform_of_the_same_length(samples: int, rate: int, seed: int, loud: float) -> None:
    rng = np.random.default_rng(seed)
    waveform = (loud * rng.uniform(-1, 1, samples)).astype(np.float32)
    kept = waveform.copy()
    result = RecordingConditions(**dict.fromkeys(EFFECTS, 1.0))(waveform, rate, rng)
    assert result.dtype == np.float32
    assert result.shape == waveform.shape
    assert np.isfinite(result).all()
    assert np.abs(result).max() <= 1
    assert np.array_equal(waveform, kept)


def test_without_a_change_it_stays() -> None:
    waveform = 0.5 * tone(440, 0.2)
    assert np.array_equal(RecordingConditions(**NONE)(waveform, 16_000, np.random.default_rng(0)), waveform)


def test_silence_stays_silence() -> None:
    for effect in EFFECTS:
        assert np.abs(changed(effect, np.zeros(22_050, np.float32))).max() < 1e-3


def test_a_low_rate_leaves_out_high_frequencies() -> None:
    time = np.arange(44_100) / 44_100
    waveform = (0.3 * np.sin(2 * np.pi * 1_000 * time) + 0.3 * np.sin(2 * np.pi * 18_000 * time)).astype(np.float32)
    for seed in range(5):
        narrow = changed("band", waveform, seed=seed)
        assert level(narrow, 1_000) == pytest.approx(0.3, abs=0.02)
        assert level(narrow, 18_000) < 0.01
    assert np.array_equal(changed("band", waveform, rate=8_000), waveform)  # no rate is lower


def test_a_telephone_has_a_narrow_band() -> None:
    time = np.arange(44_100) / 44_100
    waveform = sum(0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (60, 1_000, 8_000)).astype(np.float32)
    called = changed("telephone", waveform)
    assert level(called, 1_000) > 0.15
    assert level(called, 60) < 0.01
    assert level(called, 8_000) < 0.01


def test_noise_is_softer_than_the_sound() -> None:
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(44_100)).astype(np.float32)
    for seed in range(5):
        added = changed("noise", waveform, seed=seed) - waveform
        ratio = 10 * np.log10(np.mean(waveform**2) / np.mean(added**2))
        assert 4 < ratio < 36


def test_a_room_goes_on_sounding() -> None:
    waveform = np.zeros(44_100, np.float32)
    waveform[1_000] = 0.8
    sounding = changed("room", waveform)
    assert not sounding[:1_000].any() or np.abs(sounding[:1_000]).max() < 1e-6
    assert np.square(sounding[1_100:4_000]).sum() > 10 * np.square(sounding[30_000:]).sum() > 0


def test_an_overdriven_microphone_clips() -> None:
    assert np.mean(np.abs(changed("overdrive", 0.1 * tone(440, 0.5))) == 1) > 0.05


def test_a_codec_changes_little() -> None:
    waveform = 0.3 * tone(440, 1.0)
    for seed in range(4):
        coded = changed("codec", waveform, rate=16_000, seed=seed)
        assert np.abs(coded[2_000:-2_000] - waveform[2_000:-2_000]).max() > 0
        assert np.sqrt(np.mean(coded**2)) == pytest.approx(np.sqrt(np.mean(waveform**2)), rel=0.15)


def test_a_probability_out_of_range() -> None:
    with pytest.raises(ValueError, match="room"):
        RecordingConditions(room=1.5)
