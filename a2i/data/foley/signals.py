"""The parts that every synthesised sound is put together from: noise, resonances, slow curves, events in time.

Frequencies in Hz, times in seconds, signals float64 at the sample rate given. Nothing here knows what it imitates.
"""

from collections.abc import Callable
from functools import wraps
from typing import Protocol

import numpy as np
from scipy import signal

Array = np.ndarray
Traits = frozenset[str]
Body = Callable[[np.random.Generator, float, int, Traits], Array]

FADE_SECONDS = 0.01


class Synth(Protocol):
    """One kind of sound. `axes` lists its traits: of each axis exactly one holds."""

    axes: tuple[tuple[str, ...], ...]

    def __call__(
        self, rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits = frozenset()
    ) -> Array:
        """Float32 samples (round(seconds · sample_rate),), largest magnitude 1, no DC; traits left open are drawn."""


def synth(*axes: tuple[str, ...]) -> Callable[[Body], Synth]:
    """Make a synthesis function a `Synth`: open traits are drawn, DC is removed, ends are faded, the peak is 1."""

    def decorate(body: Body) -> Synth:
        @wraps(body)
        def play(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits = frozenset()) -> Array:
            known = {trait for axis in axes for trait in axis}
            if traits - known:
                raise ValueError(
                    f"{body.__name__} does not know the traits {sorted(traits - known)}; it knows {sorted(known)}"
                )
            return finish(body(rng, seconds, sample_rate, complete(rng, axes, traits)), sample_rate)

        play.axes = axes  # type: ignore[attr-defined]
        return play  # type: ignore[return-value]

    return decorate


def complete(rng: np.random.Generator, axes: tuple[tuple[str, ...], ...], traits: Traits = frozenset()) -> Traits:
    """The traits given, and one drawn from each axis that they leave open."""
    drawn = {str(rng.choice(axis)) for axis in axes if not traits & set(axis)}
    return traits | drawn


def finish(samples: Array, sample_rate: int) -> Array:
    """Without DC and what lies below hearing, faded at the ends, peak 1, float32."""
    rumble = signal.butter(2, 15, "highpass", fs=sample_rate, output="sos")
    samples = fade(signal.sosfilt(rumble, samples - samples.mean()), sample_rate)
    return (samples / max(float(np.abs(samples).max()), 1e-9)).astype(np.float32)


def fade(samples: Array, sample_rate: int, seconds: float = FADE_SECONDS) -> Array:
    """The samples with a raised-cosine rise and fall of `seconds` at the two ends."""
    size = min(max(int(seconds * sample_rate), 1), len(samples) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(size) / size)
    samples = samples.copy()
    samples[:size] *= ramp
    samples[len(samples) - size :] *= ramp[::-1]
    return samples


def times(seconds: float, sample_rate: int) -> Array:
    """The instant of each sample (n,)."""
    return np.arange(round(seconds * sample_rate)) / sample_rate


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`, every octave as likely as any other."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def wander(rng: np.random.Generator, size: int, sample_rate: int, rate: float) -> Array:
    """A smooth random curve (size,) in [0, 1] that finds a new value about `rate` times a second."""
    knots = rng.random(max(int(np.ceil(size / sample_rate * rate)), 1) + 2)
    position = np.arange(size) * (rate / sample_rate) + rng.random() * 0.99
    left = np.minimum(position.astype(int), len(knots) - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * np.clip(position - left, 0, 1))
    return knots[left] * (1 - blend) + knots[left + 1] * blend


def band_noise(rng: np.random.Generator, size: int, sample_rate: int, low: float, high: float, order: int = 1) -> Array:
    """Gaussian noise (size,) between `low` and `high` with RMS 1."""
    band = (low, min(high, 0.49 * sample_rate))
    sos = signal.butter(order, band, "bandpass", fs=sample_rate, output="sos")
    noise = signal.sosfilt(sos, rng.standard_normal(size))
    return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-9)


def moving_band(rng: np.random.Generator, centre: Array, width: float, sample_rate: int) -> Array:
    """Noise of bandwidth `width` round a centre frequency that moves, (n,) in Hz; RMS about 1."""
    sos = signal.butter(2, width / 2, fs=sample_rate, output="sos")
    slow = signal.sosfilt(sos, rng.standard_normal((2, len(centre))))
    slow /= max(float(slow.std()), 1e-9)
    angle = 2 * np.pi * np.cumsum(centre) / sample_rate
    return slow[0] * np.cos(angle) - slow[1] * np.sin(angle)


def ring(frequencies: Array, decays: Array, levels: Array, seconds: float, sample_rate: int) -> Array:
    """Decaying sines together: each falls by 1/e in its `decays` seconds."""
    t = times(seconds, sample_rate)
    keep = frequencies < 0.45 * sample_rate
    total = np.zeros(len(t))
    for frequency, decay, level in zip(frequencies[keep], decays[keep], levels[keep], strict=True):
        total += level * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t)
    return total


def impulses(rng: np.random.Generator, size: int, sample_rate: int, rate: float, spread: float = 0.6) -> Array:
    """A train (size,) of `rate` impulses a second at random instants, with log-normal strengths, at most e."""
    train = np.zeros(size)
    count = rng.poisson(rate * size / sample_rate)
    strength = np.minimum(rng.lognormal(0, spread, count), np.e) * rng.choice((-1.0, 1.0), count)
    np.add.at(train, rng.integers(0, size, count), strength)
    return train


def add(buffer: Array, start: float, sound: Array, sample_rate: int) -> None:
    """Add `sound` to `buffer` from `start` on; what reaches past the end is cut."""
    first = int(start * sample_rate)
    part = sound[: max(len(buffer) - first, 0)]
    buffer[first : first + len(part)] += part


def convolve(samples: Array, kernel: Array) -> Array:
    """`samples` (n,) through the impulse response `kernel`, still (n,)."""
    return signal.oaconvolve(samples, kernel)[: len(samples)]


def beats(rng: np.random.Generator, seconds: float, period: float, jitter: float) -> Array:
    """Instants about `period` apart, each off by up to `jitter` of it; the first comes early."""
    first = rng.uniform(0.05, 0.35) * min(period, seconds / 2)
    instants = np.arange(first, seconds - 0.05, period)
    return np.maximum(instants + rng.uniform(-jitter, jitter, len(instants)) * period, 0)
