"""Arrays of samples, whatever they are kept in → mono float32 waveform in [-1, 1] at a given rate, or a reason why not.

What an array's numbers mean is known from their type alone: integers fill their type's range, floats full scale at 1. Where
that can't be, the caller has to say; a guess would be heard as noise, or as silence.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from a2i import audio
from a2i.errors import first_line

LOUDEST = 8.0  # of floats, 18 dB above full scale: what mixing may leave; beyond that they are no floats' full scale
MOST_CHANNELS = 8  # of an array: more would be a batch, or a spectrogram
FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31, "uint8": 2**7, "uint16": 2**15, "uint32": 2**31}
EXPECTED = (
    "expected floats in [-1, 1], or integers of 8, 16 or 32 bits that fill their type's range: convert them with"
    " .astype(np.int16), or divide by full scale, such as waveform / 32768.0 for samples of 16 bits"
)


def from_array(samples: Any, sampling_rate: Any, rate: int) -> np.ndarray:
    """Make a waveform of an array of samples.

    Args:
        samples: (samples,), (samples, channels) or (channels, samples) with at most 8 channels, mixed down as those of a
            file: a NumPy array, a tensor of any device, or a list. Floats of any width with full scale at 1, clipped beyond;
            integers of 8, 16 or 32 bits, signed or unsigned, with the full scale of their type.
        sampling_rate: of the samples, in Hz.
        rate: of the waveform, in Hz.

    Returns:
        (samples,) float32 in [-1, 1] at `rate`, at least one sample.

    Raises:
        ValueError: the rate is missing or out of range, or it can't be known what the samples are.
    """
    given = _rate(sampling_rate)
    waveform = _mono(_scaled(_array(samples)), given)
    if given != rate:
        import soxr

        waveform = soxr.resample(waveform, given, rate)
        # A handful of samples can resample to none at all.
        waveform = waveform if waveform.size else np.zeros(1, np.float32)
    return np.clip(waveform, -1.0, 1.0).astype(np.float32, copy=False)


def check(waveforms: Sequence[np.ndarray], rate: int) -> None:
    """Look at waveforms that should be ready for a captioner that hears `rate` Hz.

    Raises:
        ValueError: there are none, or one is no waveform.
    """
    if not len(waveforms):
        raise ValueError("got no waveforms; expected at least one")
    for waveform in waveforms:
        given = f"{getattr(waveform, 'dtype', type(waveform).__name__)} of shape {getattr(waveform, 'shape', '?')}"
        fits = isinstance(waveform, np.ndarray) and waveform.dtype == np.float32 and waveform.ndim == 1
        if fits and waveform.size:
            # One pass: what is no number makes the greatest one none.
            peak = max(float(waveform.max()), -float(waveform.min()))
            if peak <= LOUDEST:
                continue
            given += f" up to {peak:g}"
        raise ValueError(
            f"got {given}; expected (samples,) float32 in [-1, 1], finite, at {rate:,} Hz, at least one sample: see"
            " a2i.audio.waveforms.from_array"
        )


def _rate(rate: Any) -> float:
    if rate is None:
        raise ValueError(
            "got a waveform without its sampling rate; expected it in Hz: a2i(waveform, sampling_rate=44_100), or a pair"
            " (waveform, 44_100) among several sounds"
        )
    lowest, highest = audio.RATES
    known = isinstance(rate, Real | np.number) and not isinstance(rate, bool | np.bool_ | np.complexfloating)
    if not known or not lowest <= float(rate) <= highest:
        said = repr(rate) if np.ndim(rate) == 0 else f"an array of shape {np.shape(rate)}"
        raise ValueError(f"got a sampling rate of {said}; expected a number of Hz from {lowest:,} to {highest:,}")
    return float(rate)


def _array(samples: Any) -> np.ndarray:
    """As NumPy has it: a tensor from its device, a list by its numbers."""
    import torch

    try:
        if isinstance(samples, torch.Tensor):
            samples = samples.detach().cpu()
            # NumPy has no bfloat16.
            array = (
                (samples.float() if samples.dtype == torch.bfloat16 else samples).resolve_conj().resolve_neg().numpy()
            )
        else:
            array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"got a {type(samples).__name__} that is no array of samples ({first_line(error)}); {EXPECTED}"
        ) from error
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"got a waveform of shape {array.shape}; expected (samples,), (samples, channels) or (channels, samples), one"
            " clip at a time, at least one sample"
        )
    return array


def _scaled(array: np.ndarray) -> np.ndarray:
    """Float32, full scale at 1."""
    kind = array.dtype.kind
    name = array.dtype.newbyteorder("=").name
    if kind in "iu" and name in FULL_SCALE:
        full = FULL_SCALE[name]
        centred = array.astype(np.float64) - (full if kind == "u" else 0)
        peak = np.abs(centred).max()
        # Below the last bit of 16-bit sound: integers that are kept in a wider type than they are of.
        if full == 2**31 and 0 < peak <= 2**15:
            raise ValueError(f"got {name} samples of at most {peak:.0f}, which look like 16 bits or fewer; {EXPECTED}")
        return (centred / full).astype(np.float32)
    if kind != "f":
        raise ValueError(f"got samples of type {array.dtype}, whose full scale can't be known; {EXPECTED}")
    floats = array.astype(np.float64, copy=False)
    if not np.isfinite(floats).all():
        raise ValueError("some samples are not numbers (NaN or infinite); expected finite ones")
    peak = float(np.abs(floats).max())
    if peak > LOUDEST or (peak > 1 and bool((floats == np.rint(floats)).all())):
        raise ValueError(f"got {array.dtype} samples up to {peak:g}, which look like unscaled integers; {EXPECTED}")
    return floats.astype(np.float32)


def _mono(array: np.ndarray, rate: float) -> np.ndarray:
    """(samples,) of (samples,), (samples, channels) or (channels, samples)."""
    if array.ndim == 1:
        return array
    few, many = sorted(array.shape)
    if few > MOST_CHANNELS or many <= MOST_CHANNELS:
        raise ValueError(
            f"got a waveform of shape {array.shape}, in which channels and samples can't be told apart; expected 1 to"
            f" {MOST_CHANNELS} channels and more samples than that, or one channel: (samples,)"
        )
    return audio.mix_down(array if array.shape[1] == few else array.T, round(rate))
