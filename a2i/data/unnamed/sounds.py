"""Silence and noise, synthesised, and the parts that the families of unknown sounds are put together from.

Signals are float64 (n,); frequencies and the sample rate in Hz.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft, signal

from a2i.data.foley.signals import Array, add, convolve, impulses, log_uniform, wander

Family = Callable[[np.random.Generator, float, int], Array]

WINDOW, HOP = 512, 128  # samples; of the short-time spectra that `resonate` shapes


def amplitude(decibels: float) -> float:
    """The factor for a level in dB."""
    return float(10 ** (decibels / 20))


def rms(samples: Array) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(samples**2)))


def coloured(rng: np.random.Generator, size: int, rate: int, tilt: float, low: float, high: float) -> Array:
    """Stationary Gaussian noise (size,) of RMS 1 between two soft edges in Hz; its power falls by `tilt` dB/octave."""
    padded = fft.next_fast_len(size, real=True)
    frequencies = np.maximum(fft.rfftfreq(padded, 1 / rate), 10.0)
    shape = (frequencies / 1000) ** (-tilt / 6.02) / np.sqrt(1 + (low / frequencies) ** 6 + (frequencies / high) ** 8)
    shape[0] = 0
    noise = fft.irfft(fft.rfft(rng.standard_normal(padded)) * shape, padded)[:size]
    return noise / max(rms(noise), 1e-12)


def random_noise(rng: np.random.Generator, size: int, rate: int) -> Array:
    """White, pink, brown or anything between, over all or part of the band; RMS 1."""
    low, high = 10.0, float(rate)
    if rng.random() < 0.6:
        low, high = log_uniform(rng, 20, 1500), log_uniform(rng, 2000, rate / 2)
    return coloured(rng, size, rate, rng.uniform(-3, 7), low, high)


def hum(rng: np.random.Generator, size: int, rate: int) -> Array:
    """A steady tone with overtones, often the mains'; RMS 1."""
    pitch = float(rng.choice([50.0, 60.0, log_uniform(rng, 80, 3000)], p=[0.35, 0.35, 0.3]))
    partials = np.arange(1, min(int(0.45 * rate / pitch), 12) + 1)
    angle = 2 * np.pi * pitch * partials[:, None] * (np.arange(size) / rate) + rng.uniform(0, 7, (len(partials), 1))
    tone = (rng.random(len(partials)) / partials ** rng.uniform(0.3, 2)) @ np.sin(angle)
    return tone / max(rms(tone), 1e-12)


def silence(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Nothing, or next to nothing: RMS at most -60 dBFS, and no peak above -40 dBFS."""
    size = round(seconds * rate)
    samples = np.zeros(size)
    what = rng.choice(["zeros", "dither", "room", "hum"], p=[0.2, 0.15, 0.45, 0.2])
    if what == "dither":
        samples = (rng.random(size) - rng.random(size)) * amplitude(rng.uniform(-90, -80))
    elif what == "room":
        samples = random_noise(rng, size, rate) * amplitude(rng.uniform(-75, -60.5))
    elif what == "hum":
        samples = hum(rng, size, rate) + random_noise(rng, size, rate) * amplitude(rng.uniform(-30, 0))
        samples *= amplitude(rng.uniform(-75, -60.5)) / rms(samples)
    if rng.random() < 0.2:  # a faint click
        click = np.sin(np.linspace(0, np.pi * rng.integers(1, 6), int(rng.integers(8, 60))))
        add(samples, rng.uniform(0.1, 0.9) * seconds, click * amplitude(rng.uniform(-60, -46)), rate)
    return np.clip(samples, -0.01, 0.01)


def noise(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Noise that goes on without a break: RMS between -46 and -3 dBFS."""
    size = round(seconds * rate)
    samples = random_noise(rng, size, rate)
    if rng.random() < 0.3:
        samples *= 10 ** (wander(rng, size, rate, rng.uniform(0.1, 0.6)) * rng.uniform(1, 8) / 20)
    if rng.random() < 0.25:  # a radio off its station
        samples += impulses(rng, size, rate, log_uniform(rng, 5, 500)) * rng.uniform(2, 8)
        samples = convolve(samples, rng.standard_normal(int(rng.integers(2, 12))))
        samples *= 1 + rng.uniform(0, 0.7) * np.sin(2 * np.pi * np.cumsum(wander(rng, size, rate, 2)) * 20 / rate)
    if rng.random() < 0.25:
        samples = samples / rms(samples) + hum(rng, size, rate) * amplitude(rng.uniform(-20, 6))
    if rng.random() < 0.25:
        samples = signal.sosfilt(low_pass(rng, rate), samples)
    samples *= amplitude(rng.uniform(-45, -3)) / rms(samples)
    return np.tanh(samples)  # the loudest overdrive the recorder


def low_pass(rng: np.random.Generator, rate: int) -> Array:
    """What a cheap microphone or a lossy codec leaves: second-order sections."""
    cut = log_uniform(rng, 900, 0.45 * rate)
    return signal.butter(int(rng.integers(1, 9)), cut, fs=rate, output="sos")


def resonate(source: Array, centres: Array, widths: Array, gains: Array, rate: int) -> Array:
    """`source` (n,) through k resonances; centres (k, m) in Hz move along the clip, widths (k,) in Hz, gains (k,)."""
    frequencies, _, spectrum = signal.stft(source, rate, nperseg=WINDOW, noverlap=WINDOW - HOP)
    moments = np.linspace(0, centres.shape[1] - 1, spectrum.shape[1])
    shape = np.zeros(spectrum.shape)
    for centre, width, gain in zip(centres, widths, gains, strict=True):
        path = np.interp(moments, np.arange(len(centre)), centre)
        shape += gain / (1 + ((frequencies[:, None] - path) / (width / 2)) ** 2)
    _, samples = signal.istft(spectrum * shape, rate, nperseg=WINDOW, noverlap=WINDOW - HOP)
    return np.pad(samples, (0, max(len(source) - len(samples), 0)))[: len(source)]


def envelope(rng: np.random.Generator, size: int, rate: int) -> Array:
    """One event's loudness (size,): it swells or starts at once, is held or decays, and ends in 0."""
    t = np.arange(size) / rate
    loud = np.minimum(t / log_uniform(rng, 0.002, 0.2), 1) * np.clip((size / rate - t) / 0.01, 0, 1)
    return loud * np.exp(-t / log_uniform(rng, 0.03, 1.5)) if rng.random() < 0.6 else loud


def period(rng: np.random.Generator, partials: int) -> Array:
    """One period (2048,) of a random timbre with at most that many partials."""
    number = np.arange(1, max(min(partials, int(rng.integers(1, 25))), 1) + 1)
    level = rng.random(len(number)) ** 2 / number ** rng.uniform(0, 2)
    level[0] += 0.2
    angle = number[:, None] * np.linspace(0, 2 * np.pi, 2048, endpoint=False) + rng.uniform(0, 7, (len(number), 1))
    return level @ np.sin(angle)


def play(table: Array, pitch: Array, rate: int) -> Array:
    """The timbre at a pitch (n,) in Hz that may move."""
    return table[(np.cumsum(pitch) / rate * len(table)).astype(np.int64) % len(table)]


def spread(rng: np.random.Generator, seconds: float, shortest: float, longest: float, pause: float) -> Array:
    """Events (count, 2), each a start and a length in seconds, with random pauses of about `pause` between them."""
    events: list[tuple[float, float]] = []
    at = rng.uniform(0, min(0.5, 0.2 * seconds))
    while at < seconds - 0.05 or not events:
        length = min(log_uniform(rng, shortest, longest), max(seconds - at, 0.05))
        events.append((at, length))
        at += length + rng.exponential(pause)
    return np.array(events)
