"""The families of unknown sounds, and one clip drawn from them. Each family is a function of (rng, seconds, rate)."""

import numpy as np
from scipy import signal

from a2i.data.foley.signals import Array, add, convolve, fade, impulses, log_uniform, moving_band, ring, times, wander
from a2i.data.unnamed.sounds import (
    Family,
    amplitude,
    envelope,
    low_pass,
    period,
    play,
    random_noise,
    resonate,
    rms,
    spread,
)

TALKING = (80.0, 250.0)  # Hz: the pitch of grown-ups who talk; a baby's cry lies above


def tones(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Tones of a synthesiser, their frequency and loudness modulated."""
    samples = np.zeros(round(seconds * rate))
    ratio, index, rough = log_uniform(rng, 0.2, 5), rng.uniform(0, 8), rng.uniform(0, 1)
    centre, range_ = log_uniform(rng, 150, 2000), rng.uniform(1, 3)
    for start, length in spread(rng, seconds, 0.06, 2.5, log_uniform(rng, 0.02, 0.8)):
        t = times(length, rate)
        pitch = centre * range_ ** rng.uniform(-1, 1)
        bend = index * wander(rng, len(t), rate, 3) * np.sin(2 * np.pi * pitch * ratio * t)
        note = np.sin(2 * np.pi * pitch * t + bend)
        note *= 1 + rough * np.sin(2 * np.pi * log_uniform(rng, 2, 120) * t)
        add(samples, start, note * envelope(rng, len(t), rate), rate)
    return samples


def music(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """A melody with chords in a random scale and timbre."""
    samples = np.zeros(round(seconds * rate))
    lowest, beat = log_uniform(rng, 60, 330), log_uniform(rng, 0.12, 0.6)
    scale = np.sort(rng.choice(12, int(rng.integers(4, 8)), replace=False))
    melody, chord = (period(rng, int(0.45 * rate / (lowest * 8))) for _ in range(2))
    chords, vibrato = rng.random() < 0.7, rng.uniform(0, 0.01)
    degree = int(rng.integers(0, len(scale)))
    for number, start in enumerate(np.arange(rng.uniform(0, 0.2), seconds - 0.05, beat)):
        degree += int(rng.integers(-2, 3))
        if rng.random() < 0.75:
            size = int(min(beat * rng.choice([0.5, 0.9, 1, 2]), seconds - start) * rate) + 1
            octave = 2.0 ** (1 + degree // len(scale) % 2 + scale[degree % len(scale)] / 12)
            moving = 1 + vibrato * np.sin(2 * np.pi * 5.5 * np.arange(size) / rate)
            add(samples, start, play(melody, lowest * octave * moving, rate) * envelope(rng, size, rate), rate)
        if chords and number % 4 == 0:
            size = int(min(4 * beat, seconds - start) * rate) + 1
            loud = 0.5 * envelope(rng, size, rate)
            for key in rng.choice(scale, 3, replace=False):
                add(samples, start, play(chord, np.full(size, lowest * 2 ** (key / 12)), rate) * loud, rate)
    return samples


def voice(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Talk without words: a buzz of the glottis and hisses through formants that move from syllable to syllable."""
    size, pitch, tract = round(seconds * rate), log_uniform(rng, *TALKING), rng.uniform(0.85, 1.2)
    buzz, breath, drop, pace = np.zeros(size), np.zeros(size), np.zeros(size), rng.uniform(0.7, 1.5)
    at, left = rng.uniform(0, 0.1), int(rng.integers(2, 12))
    moments, vowels = [], []
    while at < seconds:
        length = rng.uniform(0.09, 0.3) * pace
        add(buzz, at, np.sin(np.linspace(0, np.pi, int(length * rate))) ** 0.6 * rng.uniform(0.4, 1), rate)
        add(drop, at, np.full(int(length * rate), left / 12 * 0.25 + rng.normal(0, 0.05)), rate)
        moments.append(at + length / 2)
        vowels.append((rng.uniform(270, 850), rng.uniform(800, 2300), rng.uniform(2300, 3000), 3500.0))
        at += length
        if rng.random() < 0.5:
            length = rng.uniform(0.03, 0.12)
            add(breath, at, np.hanning(int(length * rate)) * rng.uniform(0.1, 0.7), rate)
            at += length
        left -= 1
        if not left:
            at, left = at + rng.uniform(0.15, 1), int(rng.integers(2, 12))
    curve = pitch * (0.9 + drop + 0.1 * wander(rng, size, rate, 6)) * (1 + 0.01 * rng.standard_normal())
    turn = np.cumsum(curve) / rate % 1
    flow = np.diff(np.where(turn < 0.6, turn**2 * (0.6 - turn), 0), prepend=0)
    frames = np.linspace(0, seconds, max(int(seconds * 100), 2))
    centres = np.array([np.interp(frames, moments, path) for path in np.array(vowels).T]) * tract
    air = rng.standard_normal(size)
    source = buzz * (flow / max(rms(flow), 1e-9) + rng.uniform(0, 0.2) * air)
    talk = resonate(source, centres, np.array([80, 110, 160, 250]) * tract, np.array([1, 0.6, 0.35, 0.2]), rate)
    hiss = signal.sosfilt(signal.butter(2, log_uniform(rng, 1500, 4000), "highpass", fs=rate, output="sos"), air)
    return talk + hiss * breath * rms(talk) * 2


def babble(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Three to five voices at once."""
    return np.sum([voice(rng, seconds, rate) * rng.uniform(0.3, 1) for _ in range(int(rng.integers(3, 6)))], axis=0)


def friction(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Scrapes and squeaks: a few narrow bands that move, roughened, in strokes."""
    size = round(seconds * rate)
    samples = np.zeros(size)
    for _ in range(int(rng.integers(1, 5))):
        low = log_uniform(rng, 200, 3000)
        centre = low * rng.uniform(1, 2.2) ** wander(rng, size, rate, log_uniform(rng, 0.5, 8))
        samples += moving_band(rng, centre, log_uniform(rng, 5, 600), rate) * rng.random()
    rough = play(period(rng, 20), log_uniform(rng, 12, 110) * (0.7 + 0.6 * wander(rng, size, rate, 3)), rate)
    samples *= 1 + rng.uniform(0, 1) * rough / np.abs(rough).max()
    loud = np.zeros(size)
    for start, length in spread(rng, seconds, 0.08, 1.5, log_uniform(rng, 0.05, 0.8)):
        add(loud, start, envelope(rng, round(length * rate), rate) * rng.uniform(0.3, 1), rate)
    return samples * loud


def beeps(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Electronic beeps in a pattern that comes back."""
    samples = np.zeros(round(seconds * rate))
    table = period(rng, int(rng.choice([1, 3, 12])))
    count, length = int(rng.integers(1, 7)), log_uniform(rng, 0.02, 0.4)
    pitches = log_uniform(rng, 300, 3500) * 2 ** (rng.integers(-7, 8, count) * rng.integers(0, 2) / 12)
    gaps = rng.uniform(0.2, 3, count) * length
    at, rest = rng.uniform(0, 0.2) * min(seconds, 1), log_uniform(rng, 0.1, 2)
    while at < seconds - 0.03:
        for pitch, gap in zip(pitches, gaps, strict=True):
            add(samples, at, fade(play(table, np.full(int(length * rate), pitch), rate), rate, 0.003), rate)
            at += length + gap
        at += rest
    return samples


def impacts(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Things of random materials that knock together at irregular times, alone or in clatters."""
    samples = np.zeros(round(seconds * rate))
    hits = []
    lowest, decay, bend = log_uniform(rng, 120, 3500), log_uniform(rng, 0.006, 0.25), rng.uniform(0.6, 1.6)
    for _ in range(5):
        modes = lowest * np.cumsum(np.append(1, rng.exponential(bend, int(rng.integers(2, 12))))) * rng.normal(1, 0.03)
        falls = decay * (lowest / modes) ** rng.uniform(0, 1)
        hit = ring(modes, falls, rng.random(len(modes)), min(5 * decay, 0.8), rate)
        size = min(int(rng.uniform(0.001, 0.01) * rate) + 2, len(hit))
        hit[:size] += rng.standard_normal(size) * rng.uniform(0, 1.5)
        hits.append(fade(hit, rate, 0.0005))
    clatter = wander(rng, len(samples), rate, 1.5) ** rng.uniform(0, 4)
    starts = rng.uniform(0, 0.95 * seconds, 1 + rng.poisson(log_uniform(rng, 1, 12) * seconds))
    for start in starts:
        loud = rng.lognormal(-0.5, 0.6) * clatter[int(start * rate)]
        add(samples, start, hits[int(rng.integers(5))] * loud, rate)
    return samples


def sweeps(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Glides and glitches: short sweeps, stuttered, some in few bits."""
    samples = np.zeros(round(seconds * rate))
    table = period(rng, int(rng.choice([1, 4])))
    for start, length in spread(rng, seconds, 0.03, 0.9, log_uniform(rng, 0.03, 0.8)):
        size = round(length * rate)
        course = np.linspace(0, 1, size) ** rng.uniform(0.4, 3)
        path = log_uniform(rng, 80, 5000) ** (1 - course) * log_uniform(rng, 80, 5000) ** course
        part = play(table, path, rate) * envelope(rng, size, rate)
        if rng.random() < 0.4:
            part = np.tile(part[: int(rng.uniform(0.01, 0.15) * rate)], int(rng.integers(2, 9)))
        add(samples, start, part, rate)
    steps = rng.choice([2, 6, 1000])
    return np.round(samples * steps) / steps


def reversed_decays(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Sounds that swell and break off, as on a tape that runs backwards."""
    samples = np.zeros(round(seconds * rate))
    lowest, share = log_uniform(rng, 80, 1500), rng.random()
    for start, length in spread(rng, seconds, 0.15, 1.8, log_uniform(rng, 0.05, 0.8)):
        size = round(length * rate)
        body = play(period(rng, 10), np.full(size, lowest * rng.uniform(0.7, 1.5)), rate)
        decay = np.exp(-np.arange(size) / rate * rng.uniform(2, 6) / length)
        add(samples, start, ((body * share + (1 - share) * random_noise(rng, size, rate)) * decay)[::-1], rate)
    return samples


def rubbing(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Rubbing and rustling: bursts of noise, smooth or crumpled, through resonances that move."""
    size = round(seconds * rate)
    loud = np.zeros(size)
    for start, length in spread(rng, seconds, 0.03, 0.5, log_uniform(rng, 0.02, 0.5)):
        add(loud, start, np.hanning(round(length * rate)) * rng.uniform(0.2, 1), rate)
    grain = impulses(rng, size, rate, log_uniform(rng, 200, 4000), 1.0)
    source = (random_noise(rng, size, rate) * rng.random() + grain * 3 * rng.random()) * loud
    count = int(rng.integers(1, 5))
    centres = np.array([log_uniform(rng, 300, 6000) * 2 ** wander(rng, 64, 8, 1.0) for _ in range(count)])
    return resonate(source, centres, rng.uniform(200, 3000, count), rng.uniform(0.2, 1, count), rate)


def scrambled(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """Another family's sound cut into grains that are shuffled, turned round and played at other speeds."""
    source = FAMILIES[list(FAMILIES)[int(rng.integers(len(FAMILIES) - 1))]](rng, seconds, rate)
    samples = np.zeros(len(source))
    at, length = 0.0, log_uniform(rng, 0.03, 0.4)
    while at < seconds:
        size, speed = int(length * rng.uniform(0.5, 1.5) * rate), log_uniform(rng, 0.5, 2)
        first = int(rng.integers(max(len(source) - int(size * speed), 1)))
        grain = source[np.minimum((first + np.arange(size) * speed).astype(int), len(source) - 1)]
        add(samples, at, fade(grain[:: rng.choice([-1, 1])], rate, 0.005), rate)
        at += size / rate * rng.choice([0.7, 1, 1.5])
    return samples


FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (tones, music, voice, babble, friction, beeps, impacts, sweeps, reversed_decays, rubbing, scrambled)
}


def unknown(rng: np.random.Generator, seconds: float, rate: int) -> Array:
    """One family or two in a random place, now and then a single event in silence: peak between -14 and -1 dBFS."""
    sparse = rng.random() < 0.25
    length = log_uniform(rng, 0.25, min(2.0, 0.6 * seconds)) if sparse else seconds
    chosen = rng.choice(list(FAMILIES), 1 if rng.random() < 0.65 else 2, replace=False)
    event = np.zeros(round(length * rate))
    for name in chosen:
        part = np.zeros(len(event))
        while np.abs(part).max() < 1e-3:  # a short one may hold nothing but a rest
            part = FAMILIES[name](rng, length, rate)
        event += part / np.abs(part).max() * amplitude(rng.uniform(-10, 0))
    samples = np.zeros(round(seconds * rate))
    add(samples, rng.uniform(0, seconds - length) if sparse else 0.0, fade(event, rate), rate)
    if rng.random() < 0.6:
        decay = log_uniform(rng, 0.1, 2)  # seconds to -60 dB
        t = times(min(decay, 1.2), rate)
        room = rng.standard_normal(len(t)) * np.exp(-6.9 * t / decay)
        wet = convolve(samples, room / np.sqrt(np.sum(room**2)))
        samples = samples + wet * rng.uniform(0.1, 1.5)
    if rng.random() < 0.4:
        samples = signal.sosfilt(low_pass(rng, rate), samples)
    samples = samples / max(np.abs(samples).max(), 1e-9)
    if rng.random() < 0.8:
        samples = samples + random_noise(rng, len(samples), rate) * amplitude(rng.uniform(-85, -35))
    return samples / np.abs(samples).max() * amplitude(rng.uniform(-14, -1))
