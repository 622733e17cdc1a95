"""Things and people: clock, bell, siren, engine, footsteps, and a tap that lets its drops fall."""

import numpy as np
from scipy import signal

from a2i.data.foley.signals import (
    Array,
    Traits,
    add,
    band_noise,
    beats,
    convolve,
    fade,
    log_uniform,
    ring,
    synth,
    times,
    wander,
)

# Of a church bell: hum, prime, tierce, quint, nominal, and what lies above (Fletcher & Rossing, The Physics of Musical
# Instruments, table of bell partials). Relative to the prime.
BELL_PARTIALS = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.3, 6.7])


@synth(("slow", "steady", "fast"))
def clock(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Tick and tock in turn, 1 to 4 beats a second: two tiny impacts of the escapement that ring in the case."""
    low, high = {"slow": (1.0, 1.5), "steady": (1.6, 2.5), "fast": (2.8, 4.0)}[str(*traits)]
    period = 1 / rng.uniform(low, high)
    modes = int(rng.integers(3, 6))
    metal, case = rng.uniform(1300, 5500, modes), rng.uniform(250, 700, 2)
    decays = np.concatenate([rng.uniform(0.002, 0.009, modes), rng.uniform(0.01, 0.025, 2)])
    levels = np.concatenate([rng.uniform(0.4, 1.0, modes), rng.uniform(0.1, 0.5, 2)])
    gap = rng.uniform(0.006, 0.02)  # between unlocking and drop
    sides = []
    for pitch, level in ((1.0, 1.0), (rng.uniform(0.72, 0.92), rng.uniform(0.6, 1.0))):
        impact = ring(np.concatenate([metal * pitch, case * pitch]), decays, levels, 0.09, sample_rate)
        side = np.zeros(round(0.12 * sample_rate))
        add(side, 0, rng.uniform(0.3, 0.6) * level * impact, sample_rate)
        add(side, gap, level * impact, sample_rate)
        sides.append(side)
    uneven = rng.uniform(-0.04, 0.04)
    total = np.zeros(round(seconds * sample_rate))
    for index, start in enumerate(beats(rng, seconds, period, 0.004)):
        start = max(start + uneven * period * (index % 2), 0)
        add(total, start, rng.uniform(0.9, 1.0) * sides[index % 2], sample_rate)
    return total


@synth(("once", "twice", "several"), ("large", "small"))
def bell(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Inharmonic partials, each a pair that beats, dying away the sooner the higher they are."""
    large = "large" in traits
    prime = log_uniform(rng, 180, 420) if large else log_uniform(rng, 900, 2000)
    ratios = BELL_PARTIALS * rng.uniform(0.99, 1.01, len(BELL_PARTIALS))
    split = rng.uniform(0.2, 1.0, len(ratios))  # Hz between the two of a pair: no bell is quite round
    longest = rng.uniform(2.0, 5.0) if large else rng.uniform(0.7, 2.0)
    decays = longest * (ratios / ratios[0]) ** -rng.uniform(0.7, 1.0)
    levels = rng.uniform(0.4, 1.0, len(ratios)) * ratios**-0.3
    levels[0] *= 0.6
    twins = np.concatenate([prime * ratios, prime * ratios + split])
    tone = ring(twins, np.tile(decays, 2), np.concatenate([levels, 0.3 * levels]), seconds, sample_rate)
    tone /= np.abs(tone).max()
    clapper = band_noise(rng, len(tone), sample_rate, 1500, 6000)
    tone += rng.uniform(0.03, 0.12) * clapper * np.exp(-times(seconds, sample_rate) / 0.006)

    count = 1 if "once" in traits else 2 if "twice" in traits else int(rng.integers(3, 6))
    first = rng.uniform(0.05, 0.3)
    spacing = min(rng.uniform(0.9, 2.2) if large else rng.uniform(0.5, 1.4), (seconds - first - 0.3) / count)
    total = np.zeros(len(tone))
    for strike in range(count):
        add(total, first + strike * spacing * rng.uniform(0.98, 1.02), rng.uniform(0.8, 1) * tone, sample_rate)
    return total


@synth(("wail", "yelp", "two-tone"))
def siren(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """A tone rich in harmonics through a horn: sweeping slowly, sweeping fast, or changing between two pitches."""
    t = times(seconds, sample_rate)
    low = rng.uniform(420, 650)
    if "two-tone" in traits:
        half = rng.uniform(0.45, 0.8)
        pitch = np.where((t / half + rng.random()) % 2 < 1, low, low * rng.uniform(1.25, 1.45))
        smooth = signal.butter(1, 25, fs=sample_rate, output="sos")
        pitch = signal.sosfilt(smooth, pitch - pitch[0]) + pitch[0]
    else:
        period = rng.uniform(3.0, 5.5) if "wail" in traits else rng.uniform(0.25, 0.5)
        phase = (t / period + rng.random()) % 1
        rise = rng.uniform(0.4, 0.6)
        climb = np.where(phase < rise, phase / rise, (1 - phase) / (1 - rise))
        pitch = low * (rng.uniform(2.2, 2.8) ** np.sin(np.pi / 2 * climb))
    angle = 2 * np.pi * np.cumsum(pitch) / sample_rate
    steepness, evens = rng.uniform(0.8, 1.6), rng.uniform(0.2, 0.9)
    tone = np.zeros(len(t))
    for k in range(1, 9):
        audible = np.clip((0.45 * sample_rate - k * pitch) / 300, 0, 1)
        tone += audible * (1 if k % 2 else evens) * k**-steepness * np.sin(k * angle)
    horn = signal.butter(1, (rng.uniform(400, 800), rng.uniform(2000, 3500)), "bandpass", fs=sample_rate, output="sos")
    return signal.sosfilt(horn, tone) * (0.8 + 0.2 * wander(rng, len(t), sample_rate, 0.5))


@synth(("idle", "revving"))
def engine(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """A pulse at every firing, cylinders of unequal strength, through an exhaust that resonates."""
    size = round(seconds * sample_rate)
    t = times(seconds, sample_rate)
    rate = np.full(size, rng.uniform(22, 48)) * (0.97 + 0.06 * wander(rng, size, sample_rate, 3))
    drive = np.zeros(size)
    if "revving" in traits:
        peak = rng.uniform(0.25, 0.5) * min(seconds, 2.5)
        while peak < seconds:
            rise, fall = rng.uniform(0.15, 0.3), rng.uniform(0.35, 0.7)
            push = np.exp(-(((t - peak) / np.where(t < peak, rise, fall)) ** 2))
            drive = np.maximum(drive, rng.uniform(0.75, 1) * push)
            peak += rng.uniform(1.3, 2.4)
        rate = rate * rng.uniform(2.6, 4.0) ** drive
    firing = np.cumsum(rate) / sample_rate
    instants = np.searchsorted(firing, np.arange(1, firing[-1]))
    cylinders = rng.uniform(0.6, 1.0, int(rng.choice((2, 3, 4, 6))))
    strength = cylinders[np.arange(len(instants)) % len(cylinders)] * rng.lognormal(0, 0.12, len(instants))
    shaken = instants + rng.normal(0, 0.012, len(instants)) * sample_rate / rate[instants]
    train = np.zeros(size)
    np.add.at(train, np.clip(shaken.astype(int), 0, size - 1), strength * (0.5 + drive[instants]))
    pipe = rng.uniform(60, 160) * np.array([1.0, 2.1, 3.3, 5.2, 8.4, 13.0])
    pipe *= rng.uniform(0.9, 1.1, len(pipe))
    decays = rng.uniform(0.006, 0.02, len(pipe)) * np.array([1, 0.9, 0.7, 0.5, 0.35, 0.25])
    levels = rng.uniform(0.5, 1, len(pipe)) * np.array([1, 0.9, 0.7, 0.45, 0.25, 0.12])
    exhaust = convolve(train, ring(pipe, decays, levels, 0.12, sample_rate))
    puff = convolve(train, np.exp(-times(0.04, sample_rate) / rng.uniform(0.003, 0.008)))
    intake = band_noise(rng, size, sample_rate, 300, rng.uniform(1500, 3500)) * puff
    return exhaust / exhaust.std() + rng.uniform(0.15, 0.4) * intake / intake.std()


def _step(rng: np.random.Generator, sample_rate: int, gravel: bool, pitch: float) -> Array:
    """Heel and toe of one foot: on gravel a crunch of many grains, on a floor a knock with a click."""
    step = np.zeros(round(0.4 * sample_rate))
    t = times(0.4, sample_rate)
    if gravel:
        for at, level, length in ((0.0, 1.0, 0.05), (rng.uniform(0.09, 0.14), rng.uniform(0.6, 1.0), 0.04)):
            grains = band_noise(rng, len(t), sample_rate, 900, 6000) * (rng.random(len(t)) < 0.06)
            crunch = grains * (1 - np.exp(-t / 0.012)) * np.exp(-t / length)
            add(step, at, level * crunch / np.abs(crunch).max(), sample_rate)
            add(step, at, 0.25 * level * ring(*_modes(pitch * 90, 0.02), 0.1, sample_rate), sample_rate)
        return step
    for at, level in ((0.0, 1.0), (rng.uniform(0.07, 0.12), rng.uniform(0.25, 0.5))):
        thud = ring(*_modes(pitch * 110, 0.025), 0.2, sample_rate)
        click = band_noise(rng, len(thud), sample_rate, 700, 3000) * np.exp(-times(0.2, sample_rate) / 0.006)
        add(step, at, level * (thud + rng.uniform(0.3, 0.45) * click), sample_rate)
    return step


def _modes(lowest: float, decay: float) -> tuple[Array, Array, Array]:
    """Three modes of a struck floor: frequencies, decays, levels."""
    return lowest * np.array([1.0, 2.3, 4.1]), decay * np.array([1.0, 0.6, 0.4]), np.array([1.0, 0.6, 0.35])


@synth(("slow", "fast"), ("floor", "gravel"))
def footsteps(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """A person walking at 1.5 to 2.5 steps a second; left and right differ a little, and no two steps are alike."""
    pace = rng.uniform(1.5, 1.8) if "slow" in traits else rng.uniform(2.15, 2.5)
    pitch = log_uniform(rng, 0.75, 1.5)
    sides = (pitch, pitch * rng.uniform(0.88, 0.97))
    total = np.zeros(round(seconds * sample_rate))
    for index, start in enumerate(beats(rng, seconds, 1 / pace, 0.03)):
        step = _step(rng, sample_rate, "gravel" in traits, sides[index % 2] * rng.uniform(0.96, 1.04))
        add(total, start, rng.uniform(0.75, 1.0) * step, sample_rate)
    return total


@synth(("slow", "fast"), ("basin", "sink"))
def drops(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Single drops: each shuts in a bubble whose pitch rises (Minnaert 1933); in a sink the metal knocks as well."""
    rate = rng.uniform(0.8, 1.3) if "slow" in traits else rng.uniform(2.6, 4.5)
    home, metal = log_uniform(rng, 600, 1600), rng.uniform(900, 3500, 3)
    total = np.zeros(round(seconds * sample_rate))
    for start in beats(rng, seconds, 1 / rate, 0.12):
        t = times(0.2, sample_rate)
        pitch = home * rng.uniform(0.85, 1.2) * (1 + rng.uniform(2, 6) * t)
        bubble = np.exp(-t / rng.uniform(0.015, 0.035)) * np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)
        bubble = rng.uniform(0.6, 1.0) * fade(bubble, sample_rate, 0.002)
        knock = ring(metal, np.full(3, rng.uniform(0.004, 0.012)), np.array([1.0, 0.7, 0.5]), 0.2, sample_rate)
        splash = band_noise(rng, len(t), sample_rate, 2000, 7000) * np.exp(-t / 0.004)
        add(total, start, rng.uniform(0.2, 0.4) * knock * (1.5 if "sink" in traits else 0.3), sample_rate)
        add(total, start, rng.uniform(0.02, 0.08) * splash, sample_rate)
        add(total, start + rng.uniform(0.008, 0.02), bubble, sample_rate)
    return total
