"""Weather, water and animals: rain, wind, waves, thunder, birdsong, crickets."""

import numpy as np

from a2i.data.foley.signals import (
    Array,
    Traits,
    add,
    band_noise,
    beats,
    convolve,
    impulses,
    log_uniform,
    moving_band,
    ring,
    synth,
    times,
    wander,
)


@synth(("light", "heavy"), ("roof", "ground"))
def rain(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """A bed of hiss, which is the many drops far off, and single drops near by, each a short resonance."""
    size = round(seconds * sample_rate)
    heavy, roof = "heavy" in traits, "roof" in traits
    hiss = band_noise(rng, size, sample_rate, rng.uniform(300, 900), rng.uniform(4500, 7500))
    if heavy:
        hiss += rng.uniform(0.3, 0.8) * band_noise(rng, size, sample_rate, 100, 500)
    hiss *= 0.75 + 0.25 * wander(rng, size, sample_rate, 0.4)

    rate = rng.uniform(250, 700) if heavy else rng.uniform(25, 80)
    kinds = 6
    near = np.zeros(size)
    for _ in range(kinds):
        if roof:  # a sheet rings on for longer, and lower
            pitches, decays = rng.uniform(500, 3200, 3), rng.uniform(0.005, 0.018, 3)
        else:
            pitches, decays = rng.uniform(1500, 6500, 3), rng.uniform(0.0008, 0.003, 3)
        drop = ring(pitches, decays, rng.uniform(0.3, 1, 3), 0.08, sample_rate)
        near += convolve(impulses(rng, size, sample_rate, rate / kinds, 0.8), drop / np.sqrt(np.sum(drop**2)))
    near /= near.std() + 1e-9
    return hiss + near * (rng.uniform(0.4, 0.9) if heavy else rng.uniform(1.0, 2.0))


@synth(("gentle", "gusty", "howling"))
def wind(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Noise in a band that climbs as the wind gets stronger; howling adds a narrow whistle that does the same."""
    size = round(seconds * sample_rate)
    gentle = "gentle" in traits
    strength = wander(rng, size, sample_rate, rng.uniform(0.3, 0.5) if gentle else rng.uniform(0.5, 1.1))
    if not gentle:
        strength = (strength - strength.min()) / np.ptp(strength)
    floor = 0.6 if gentle else rng.uniform(0.1, 0.25)
    loudness = floor + (1 - floor) * strength
    low = rng.uniform(120, 260)
    centre = low * 2 ** (strength * (rng.uniform(0.3, 0.7) if gentle else rng.uniform(1.0, 1.8)))
    air = moving_band(rng, centre, rng.uniform(150, 350), sample_rate) * loudness
    air += 0.4 * band_noise(rng, size, sample_rate, 40, 160) * loudness
    air += rng.uniform(0.1, 0.3) * band_noise(rng, size, sample_rate, 500, 2500) * loudness**2
    if "howling" in traits:
        for _ in range(int(rng.integers(1, 3))):
            pitch = rng.uniform(320, 650) * 2 ** (rng.uniform(0.6, 1.0) * strength)
            air += rng.uniform(0.8, 1.5) * moving_band(rng, pitch, rng.uniform(12, 35), sample_rate) * loudness**1.5
    return air


@synth(("calm", "rough"))
def waves(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Swells of noise, 4 to 9 s apart, that grow brighter as they break and end in a hiss of foam."""
    size = round(seconds * sample_rate)
    rough = "rough" in traits
    period = rng.uniform(4.0, 5.5) if rough else rng.uniform(6.5, 9.0)
    t = times(seconds, sample_rate)
    body, foam = np.zeros(size), np.zeros(size)
    crest = rng.uniform(0.3, 0.55) * min(period, seconds)
    while crest < seconds + period / 2:
        rise, fall = period * rng.uniform(0.13, 0.2), period * rng.uniform(0.16, 0.24)
        height = rng.uniform(0.7, 1.0)
        spread = np.where(t < crest, rise, fall)
        body += height * np.exp(-0.5 * ((t - crest) / spread) ** 2)
        late = t - crest - 0.1 * period
        foam += height * np.exp(-0.5 * (late / np.where(late < 0, 0.7 * rise, 1.2 * fall)) ** 2)
        crest += period * rng.uniform(0.88, 1.12)
    texture = 0.8 + 0.2 * wander(rng, size, sample_rate, 8)
    low = band_noise(rng, size, sample_rate, 60, rng.uniform(250, 500)) * (0.2 + body)
    middle = band_noise(rng, size, sample_rate, 300, rng.uniform(1200, 2200)) * (0.04 + body**1.5) * texture
    high = band_noise(rng, size, sample_rate, 1500, rng.uniform(5000, 7500)) * (0.01 + foam**1.7) * texture
    return 0.5 * low + middle + high * (rng.uniform(0.6, 1.1) if rough else rng.uniform(0.25, 0.55))


@synth(("near", "distant"))
def thunder(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Rumble from many parts of the bolt, arriving over seconds and ever duller; near by, a crack comes first."""
    size = round(seconds * sample_rate)
    near = "near" in traits
    t = times(seconds, sample_rate)
    starts = [rng.uniform(0.1, 0.5) * min(1.0, seconds / 4)]
    if seconds > 8 and rng.random() < 0.6:
        starts.append(starts[0] + seconds * rng.uniform(0.45, 0.55))
    rumble, growl, crack = np.zeros(size), np.zeros(size), np.zeros(size)
    for start in starts:
        tail = rng.uniform(1.2, 2.6)
        for _ in range(int(rng.integers(8, 16))):  # claps from parts of the bolt ever further off
            later = t - start - (0 if near else 0.3) - rng.exponential(0.7 * tail)
            attack = rng.uniform(0.02, 0.1) if near else rng.uniform(0.15, 0.5)
            clap = np.where(later > 0, (1 - np.exp(-later / attack)) * np.exp(-later / (0.35 * tail)), 0.0)
            clap *= rng.uniform(0.3, 1.0) * np.exp(-(t - start) / (2.2 * tail))
            rumble += clap
            growl += clap**1.6
        if near:
            for _ in range(int(rng.integers(4, 10))):
                later = t - start - rng.uniform(0, 0.25)
                crack += np.where(later > 0, np.exp(-later / rng.uniform(0.02, 0.07)), 0.0) * rng.uniform(0.3, 1)
    sound = band_noise(rng, size, sample_rate, 30, rng.uniform(90, 160), 2) * rumble
    sound += (0.5 if near else 0.2) * band_noise(rng, size, sample_rate, 90, rng.uniform(250, 400)) * growl
    sound += band_noise(rng, size, sample_rate, 200, rng.uniform(1800, 3500)) * crack * rng.uniform(0.8, 1.4)
    return sound + 0.01 * band_noise(rng, size, sample_rate, 40, 300)


def _syllable(rng: np.random.Generator, sample_rate: int, pitch: float) -> Array:
    """One note of a bird: a glide, a bend, a trill or a whistle, with a faint second harmonic."""
    kind = rng.choice(("up", "down", "bend", "trill", "whistle"))
    seconds = {"trill": rng.uniform(0.15, 0.4), "whistle": rng.uniform(0.12, 0.35)}.get(kind, rng.uniform(0.05, 0.16))
    x = np.linspace(0, 1, round(seconds * sample_rate))
    reach = rng.uniform(0.2, 0.6)
    octaves = {
        "up": reach * x,
        "down": -reach * x,
        "bend": reach * np.sin(np.pi * x),
        "trill": 0.25 * reach * np.sin(2 * np.pi * rng.uniform(18, 40) * seconds * x),
        "whistle": 0.02 * np.sin(2 * np.pi * 7 * seconds * x),
    }[str(kind)]
    angle = 2 * np.pi * np.cumsum(pitch * 2**octaves) / sample_rate
    return np.sin(np.pi * x) ** rng.uniform(0.6, 1.2) * (np.sin(angle) + rng.uniform(0, 0.12) * np.sin(2 * angle))


@synth(("one", "several"))
def birdsong(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Phrases of frequency-modulated notes; a bird has a few notes of its own and repeats them."""
    total = np.zeros(round(seconds * sample_rate))
    for bird in range(1 if "one" in traits else int(rng.integers(3, 6))):
        pitch = log_uniform(rng, 2000, 4200)
        notes = [_syllable(rng, sample_rate, pitch * rng.uniform(0.85, 1.2)) for _ in range(int(rng.integers(2, 4)))]
        level = 1.0 if bird == 0 else rng.uniform(0.3, 0.9)
        gap = rng.uniform(0.03, 0.14)
        now = rng.uniform(0.05, 0.3) if bird == 0 else rng.uniform(0, min(1.2, seconds / 3))
        while now < seconds - 0.1:
            order = rng.integers(0, len(notes), int(rng.integers(1, 4)))
            for note in np.tile(order, int(rng.integers(1, 4))):
                if now + len(notes[note]) / sample_rate < seconds:
                    add(total, now, level * rng.uniform(0.8, 1) * notes[note], sample_rate)
                now += len(notes[note]) / sample_rate + gap * rng.uniform(0.8, 1.2)
            now += rng.uniform(0.3, 1.1)
    return total


@synth(("one", "several"))
def crickets(rng: np.random.Generator, seconds: float, sample_rate: int, traits: Traits) -> Array:
    """Tones of 4 to 5 kHz in groups of pulses: each pulse is one closing of the wings."""
    size = round(seconds * sample_rate)
    total = np.zeros(size)
    for insect in range(1 if "one" in traits else int(rng.integers(4, 9))):
        carrier = rng.uniform(4000, 5000)
        pulse_rate = rng.uniform(24, 38)
        length = rng.uniform(0.5, 0.75) / pulse_rate
        t = times(length, sample_rate)
        pulses = int(rng.integers(3, 6))
        chirp = np.zeros(round((pulses + 1) / pulse_rate * sample_rate))
        for pulse in range(pulses):
            glide = carrier * (1 - 0.015 * t / length)
            tone = np.sin(2 * np.pi * np.cumsum(glide) / sample_rate) * np.sin(np.pi * t / length)
            add(chirp, pulse / pulse_rate, tone * (0.6 + 0.4 * pulse / pulses), sample_rate)
        level = 1.0 if insect == 0 else log_uniform(rng, 0.15, 0.8)
        period = max(1 / rng.uniform(1.8, 3.6), (pulses + 1.5) / pulse_rate)
        for start in beats(rng, seconds, period, 0.06):
            add(total, start, level * rng.uniform(0.85, 1) * chirp, sample_rate)
    return total
