"""The same sound in every form in which an array holds it."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone

from a2i.audio.waveforms import LOUDEST, check, from_array

SOUND = tone(440, 0.5)  # float32, half full scale


@pytest.mark.parametrize(
    ("dtype", "full", "offset"),
    [("i1", 2**7, 0), ("u1", 2**7, 2**7), ("i2", 2**15, 0), (">i2", 2**15, 0), ("u2", 2**15, 2**15), ("i4", 2**31, 0),
     (">i4", 2**31, 0), ("u4", 2**31, 2**31), ("f2", 1, 0), ("f4", 1, 0), (">f4", 1, 0), ("f8", 1, 0), ("g", 1, 0)],
)  # fmt: skip
def test_every_type_has_its_own_full_scale(dtype: str, full: int, offset: int) -> None:
    samples = SOUND.astype(np.float64) * full + offset
    samples = samples.round() if full > 1 else samples
    found = from_array(samples.astype(dtype), 16_000, 16_000)
    assert found.dtype == np.float32
    assert np.abs(found - SOUND).max() <= max(0.5 / full, 3e-4 if dtype == "f2" else 1e-7)
    if full > 1:  # the ends of the range
        info = np.iinfo(np.dtype(dtype))
        ends = from_array(np.array([info.min, offset, info.max] * 9, dtype), 16_000, 16_000)
        assert ends[:3] == pytest.approx([-1, 0, 1 - 1 / full])


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int16, torch.int32, torch.uint8]
)
def test_tensors(dtype: torch.dtype) -> None:
    full = 1.0 if dtype.is_floating_point else 2.0 ** (8 * dtype.itemsize - 1)
    samples = torch.from_numpy(SOUND).double() * full + (full if dtype == torch.uint8 else 0)
    samples = (samples if full == 1 else samples.round()).to(dtype)
    assert from_array(samples, 16_000, 16_000) == pytest.approx(SOUND, abs=5e-3)
    assert from_array(samples[None], 16_000, 16_000) == pytest.approx(SOUND, abs=5e-3)
    if dtype.is_floating_point:
        assert from_array(samples.requires_grad_(), 16_000, 16_000) == pytest.approx(SOUND, abs=5e-3)


@pytest.mark.gpu
def test_tensors_of_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert np.array_equal(from_array(torch.from_numpy(SOUND).cuda(), 16_000, 16_000), SOUND)


def test_lists_of_floats() -> None:
    assert from_array(SOUND.tolist(), 16_000, 16_000) == pytest.approx(SOUND)
    assert from_array([0.0] * 100, 16_000.0, 16_000) == pytest.approx(np.zeros(100))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, np.int64(48_000), np.float32(22_050), 11_127.3])
def test_any_rate_comes_to_that_of_the_captioner(rate: Any) -> None:
    found = from_array(tone(440, 0.5, int(rate)), rate, 16_000)
    assert len(found) == pytest.approx(8_000, abs=2)
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() * 16_000 / len(found) == pytest.approx(440, abs=2)
    assert from_array(tone(440, 1 / 10_000, 44_100), 44_100, 16_000).size >= 1


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_channels_before_or_behind(channels: int, dtype: type) -> None:
    wide = (
        np.tile(SOUND, (channels, 1))
        if dtype == np.float32
        else np.tile((SOUND * 32768).astype(np.int16), (channels, 1))
    )
    for samples in (wide, wide.T, np.asfortranarray(wide)):
        assert from_array(samples, 16_000, 16_000) == pytest.approx(SOUND, abs=1e-4)
    assert from_array(torch.from_numpy(wide.copy()), 16_000, 16_000) == pytest.approx(SOUND, abs=1e-4)


def test_what_mixing_left_above_full_scale_is_clipped() -> None:
    assert from_array(3 * SOUND, 16_000, 16_000) == pytest.approx(np.clip(3 * SOUND, -1, 1))


@pytest.mark.parametrize("samples", [
    SOUND * 32768, (SOUND * 32768).round(), SOUND.astype(np.float16) * 100, np.arange(-4.0, 4.0), SOUND * 2**31,
    SOUND * (2.1 * LOUDEST),
], ids=["int16", "whole", "int8", "few", "int32", "loud"])  # fmt: skip
@pytest.mark.parametrize("kind", ["array", "tensor", "list"])
def test_floats_of_integer_size_are_refused(samples: np.ndarray, kind: str) -> None:
    given = {"array": samples, "tensor": torch.from_numpy(samples), "list": samples.tolist()}[kind]
    with pytest.raises(ValueError, match=r"look like unscaled integers; expected .*waveform / 32768\.0"):
        from_array(given, 16_000, 16_000)


@pytest.mark.parametrize(("samples", "said"), [
    ((SOUND * 32768).astype(np.int64), "type int64, whose full scale can't be known"),
    ((SOUND * 32768).astype(np.int64).tolist(), "type int64, whose full scale"),
    ((SOUND * 32768).astype(np.uint64), "type uint64"),
    ((SOUND * 32767).astype(np.int32), "int32 samples of at most 163.., which look like 16 bits"),
    (SOUND.astype(np.complex64), "type complex64"),
    (torch.from_numpy(SOUND).to(torch.complex64).conj(), "type complex64"),
    (SOUND > 0, "type bool"), (torch.tensor([True] * 50), "type bool"), ([True, False], "type bool"),
    (SOUND.astype(object), "type object"), (["a"] * 50, "type <U1"), (b"RIFF", "shape"), ({"array": SOUND}, "shape"),
    ([[0.1, 0.2], [0.3]], "list that is no array of samples"),
    (np.float32(0.1), r"shape \(\)"), (None, r"shape \(\)"),
    ([], r"shape \(0,\)"), (np.zeros((0, 2)), r"shape \(0, 2\)"), (np.zeros((2, 0)), r"shape \(2, 0\)"),
    (np.zeros((1, 1, 100)), r"shape \(1, 1, 100\)"),
    (np.zeros((2, 3)), r"shape \(2, 3\), in which channels and samples can't be told apart"),
    (np.zeros((8, 8)), "told apart"), (np.zeros((1, 1)), "told apart"), (np.zeros((9, 100)), "told apart"),
    (np.zeros((128, 1024)), "told apart"),
    (np.array([0.1, np.nan]), "not numbers"), (np.array([0.1, -np.inf]), "not numbers"),
    (torch.zeros(100).to_sparse(), "no array of samples"),
], ids=str)  # fmt: skip
def test_what_can_not_be_known_is_refused(samples: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_array(samples, 16_000, 16_000)


@pytest.mark.parametrize(
    "rate", [0, -1, 44.1, 10**9, np.nan, np.inf, True, "44100", 1j, np.zeros(4), [16_000]], ids=str
)
def test_a_rate_that_is_none(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"got a sampling rate of .*; expected a number of Hz from 1,000 to 1,000,000"):
        from_array(SOUND, rate, 16_000)


def test_a_waveform_comes_with_its_rate() -> None:
    with pytest.raises(
        ValueError, match=r"without its sampling rate; expected it in Hz: a2i\(waveform, sampling_rate="
    ):
        from_array(SOUND, None, 16_000)


def test_what_is_ready_for_a_captioner() -> None:
    check([SOUND, np.zeros(1, np.float32), np.array([LOUDEST, -LOUDEST], np.float32)], 16_000)


@pytest.mark.parametrize(
    "waveform",
    [
        SOUND.astype(np.float64),
        SOUND[None],
        np.float32(0.5),
        SOUND.tolist(),
        np.zeros(0, np.float32),
        SOUND * 20,
        np.minimum(SOUND * 20, 0),
        np.maximum(SOUND * 20, 0),
        np.append(SOUND, np.float32("nan")),
        np.append(SOUND, np.float32("-inf")),
    ],
)
def test_what_is_no_waveform_is_refused_behind_one_that_is(waveform: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(samples,\) float32 in \[-1, 1\], finite, at 16,000 Hz"):
        check([SOUND, waveform], 16_000)


def test_no_waveforms_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        check([], 16_000)
