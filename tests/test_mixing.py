from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2i import audio
from a2i.audio.mixing import CONTEXT, mix

RATE = 44_100


def noise(seed: int, seconds: float = 4.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def mixed(*channels: np.ndarray, block: int = 5000, position: int = 0) -> np.ndarray:
    sound = np.stack(channels, axis=1)
    blocks = [sound[first : first + block] for first in range(0, len(sound), block)]
    found = np.concatenate(list(mix(blocks, RATE, position)))
    assert len(found) == len(sound)
    return found


def level(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def test_ordinary_channels_are_averaged_bit_for_bit() -> None:
    one, two, both = noise(1), noise(2), noise(3)
    for channels in ([one], [one, one], [one, two], [both + one / 2, both + two / 2], [one, one / 2]):
        assert np.array_equal(mixed(*channels), np.stack(channels, axis=1).mean(axis=1, dtype=np.float32))


def above(hertz: float, sound: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    spectrum[: round(hertz * len(sound) / RATE)] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


@pytest.mark.parametrize(("amplitude", "turned"), [(1e-5, False), (1e-2, True)])
def test_what_nobody_hears_is_not_turned(amplitude: float, turned: bool) -> None:
    """A hiss in antiphase, as rounding leaves it where a band holds nothing else, beside a sound in phase; and one aloud."""
    sound = noise(1)
    sound, hiss = sound - above(2000, sound), above(8000, noise(2)) * amplitude
    found, average = mixed(sound + hiss, sound - hiss), mixed(sound, sound)
    if turned:
        assert level(above(8000, found)) > 0.8 * level(hiss)
    else:
        assert level(above(8000, found)) < 0.01 * level(hiss) + level(above(8000, average))


@pytest.mark.parametrize("others", [0.0, 1e-3])
def test_what_one_channel_holds_is_as_loud_as_alone(others: float) -> None:
    sound = noise(1)[:RATE]
    for count in (2, 8):
        for place in (0, count - 1):
            channels = [noise(5 + index)[:RATE] * others for index in range(count)]
            channels[place] = sound
            assert mixed(*channels) == pytest.approx(sound, abs=1e-6 + others)


def test_antiphase_is_no_silence() -> None:
    sound = noise(1)
    assert mixed(sound, -sound) == pytest.approx(sound, abs=1e-6)
    assert level(mixed(sound, -0.5 * sound)) > 0.7 * level(sound)
    assert level(mixed(sound + noise(2) / 3, -sound + noise(3) / 3)) > 0.9 * level(sound)
    turning = np.where(np.arange(len(sound)) < len(sound) // 2, 1, -1).astype(np.float32) * sound
    assert level(mixed(sound, turning)) > 0.9 * level(sound)


def test_a_bell_in_antiphase_is_heard_over_rain_in_phase() -> None:
    time, rain = np.arange(len(noise(1))) / RATE, noise(1)
    bell = (0.3 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    found = mixed(rain + bell, rain - bell)
    power = [np.abs(np.fft.rfft(each[:RATE])) for each in (found, rain + bell, rain)]
    assert power[0][1000] == pytest.approx(power[1][1000], rel=0.05)  # a second: a bin a hertz
    assert np.allclose(power[0][3000:], power[2][3000:], rtol=0.02, atol=0.5)


def test_blocks_and_the_place_where_reading_began_change_nothing() -> None:
    channels = noise(1) + noise(2), noise(2) - noise(1)
    whole = mixed(*channels)
    for block in (1000, 70_000, len(whole)):
        assert np.array_equal(mixed(*channels, block=block), whole)
    place = 40_003
    rest = mixed(*(each[place:] for each in channels), position=place)
    context = round(CONTEXT * RATE)
    assert rest[context:] == pytest.approx(whole[place + context :], abs=1e-7)


def test_any_length(tmp_path: Path) -> None:
    sound = noise(1)
    for length in (1, 2, 1023, 1024, 1025, 32 * 1024, 32 * 1024 + 1):
        assert mixed(sound[:length], -sound[:length]) == pytest.approx(sound[:length], abs=1e-6)


def test_a_span_is_a_part_of_the_whole(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000 * 8).astype(np.float32)
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.stack([sound, -sound], axis=1), 16_000, subtype="FLOAT")
    whole = audio.load(path, 16_000)
    assert whole == pytest.approx(sound, abs=1e-6)
    assert audio.load(path, 16_000, 3.1, 5.7) == pytest.approx(whole[49_600:91_200], abs=1e-6)


def test_numbers_that_are_none_stay_an_error(tmp_path: Path) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        sound = np.zeros((1000, 2))
        sound[500] = bad, -bad
        soundfile.write(tmp_path / "bad.wav", sound, 16_000, subtype="FLOAT")
        with pytest.raises(audio.AudioError, match="not numbers"):
            audio.load(tmp_path / "bad.wav", 16_000)
