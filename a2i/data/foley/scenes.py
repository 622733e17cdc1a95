"""What is heard in a clip: one source alone, two at once, or one after the other; drawn first, rendered after.

A scene is drawn before anything is synthesised, so that captions can tell its facts and need no listening.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

from a2i.data.foley.signals import Array, Traits, band_noise, complete, convolve, fade, log_uniform
from a2i.data.foley.sources import SOURCES

KINDS = ("alone", "mixed", "sequence")
LEVEL_DB = 6.0  # two sources differ by no more than this, so that both are heard
INDOORS = frozenset({"clock", "bell", "footsteps", "drops"})  # sources that a room may stand round
LARGE_ROOM = 1.2  # seconds of reverberation from which a room may be called one that echoes


@dataclass(frozen=True)
class Layer:
    """One source as it sounds in a scene. `traits` holds one of each of the source's axes, and may hold "near" or
    "distant"; `cutoff` in Hz is what distance leaves; `level` in dB."""

    source: str
    traits: Traits
    cutoff: float
    level: float


@dataclass(frozen=True)
class Scene:
    """What is heard: `layers` in their order; `change` is the second at which a sequence passes from first to second.

    `room` is a reverberation time in seconds, 0 in the open; `noise` and `peak` are in dB below full scale.
    """

    kind: str
    layers: tuple[Layer, ...]
    seconds: float
    change: float
    crossfade: float
    room: float
    noise: float
    peak: float

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources' names, in the order in which a sequence plays them."""
        return tuple(layer.source for layer in self.layers)

    @property
    def title(self) -> str:
        """A short name: "rain", "rain_and_bell", "bell_then_thunder"."""
        return ("_then_" if self.kind == "sequence" else "_and_").join(self.sources)


def draw_scene(
    rng: np.random.Generator,
    first: str,
    names: Sequence[str],
    proportions: Sequence[float],
    min_seconds: float,
    max_seconds: float,
) -> Scene:
    """A scene whose first source is `first`, with any second one from `names`.

    Args:
        proportions: how often a scene is alone, mixed, in sequence; they add up to 1.
    """
    kind = str(rng.choice(KINDS, p=np.asarray(proportions) / np.sum(proportions)))
    sources = [first]
    if kind != "alone":
        sources.append(str(rng.choice([name for name in names if name != first])))
        rng.shuffle(sources)
    seconds = float(rng.uniform(min_seconds, max_seconds))
    layers = [_draw_layer(rng, source) for source in sources]
    if len(layers) == 2:
        layers = _balance(rng, layers)
    room = log_uniform(rng, 0.3, 2.2) if INDOORS.issuperset(sources) and rng.random() < 0.5 else 0.0
    return Scene(
        kind=kind,
        layers=tuple(layers),
        seconds=seconds,
        change=seconds * float(rng.uniform(0.42, 0.58)),
        crossfade=min(float(rng.uniform(0.1, 0.4)), 0.1 * seconds),
        room=room,
        noise=float(rng.uniform(-65, -45)),
        peak=float(rng.uniform(-14, -1)),
    )


def _draw_layer(rng: np.random.Generator, source: str) -> Layer:
    """The source with all its traits, and how far off it is."""
    traits = complete(rng, SOURCES[source].axes)
    if not traits & {"near", "distant"}:
        traits |= {str(rng.choice(("near", "between", "distant"), p=(0.3, 0.4, 0.3)))} - {"between"}
    low, high = (6500, 9000) if "near" in traits else (1200, 2200) if "distant" in traits else (3500, 6000)
    return Layer(source, traits, float(rng.uniform(low, high)), 0.0)


def _balance(rng: np.random.Generator, layers: list[Layer]) -> list[Layer]:
    """Two layers at different levels; where only one is distant, that one is the softer."""
    gap = float(rng.uniform(-LEVEL_DB, LEVEL_DB))
    distant = ["distant" in layer.traits for layer in layers]
    if distant[0] != distant[1]:
        gap = abs(gap) if distant[1] else -abs(gap)
    return [replace(layer, level=level) for layer, level in zip(layers, (gap / 2, -gap / 2), strict=True)]


def render(scene: Scene, rng: np.random.Generator, sample_rate: int) -> Array:
    """The scene's sound, float32 (round(seconds · sample_rate),): within [-1, 1], no DC, faded at both ends."""
    size = round(scene.seconds * sample_rate)
    total = np.zeros(size)
    if scene.kind == "sequence":
        half = scene.crossfade / 2
        before = _play(scene.layers[0], rng, scene.change + half, sample_rate)
        after = _play(scene.layers[1], rng, scene.seconds - scene.change + half, sample_rate)
        before, after = (fade(part, sample_rate, scene.crossfade)[:size] for part in (before, after))
        total[: len(before)] += before
        total[size - len(after) :] += after
    else:
        for layer in scene.layers:
            total += _play(layer, rng, scene.seconds, sample_rate)
    if scene.room:
        total = _reverberate(total, rng, scene.room, sample_rate)
    total = fade(total - total.mean(), sample_rate)
    total *= 10 ** (scene.peak / 20) / max(float(np.abs(total).max()), 1e-9)
    noise = band_noise(rng, size, sample_rate, 60, rng.uniform(2000, 7000))
    total += fade(noise, sample_rate) * 10 ** ((scene.noise + scene.peak) / 20)
    return np.clip(total - total.mean(), -1, 1).astype(np.float32)


def _play(layer: Layer, rng: np.random.Generator, seconds: float, sample_rate: int) -> Array:
    """One layer at its distance and level; the level is that of the loudest tenth of its 50 ms stretches."""
    own = layer.traits & {trait for axis in SOURCES[layer.source].axes for trait in axis}
    samples = SOURCES[layer.source](rng, seconds, sample_rate, own).astype(np.float64)
    if layer.cutoff < 0.45 * sample_rate:
        samples = signal.sosfilt(signal.butter(1, layer.cutoff, fs=sample_rate, output="sos"), samples)
    return samples * 10 ** (layer.level / 20) / loudness(samples, sample_rate)


def loudness(samples: Array, sample_rate: int) -> float:
    """RMS of the loudest tenth of the 50 ms stretches: a ticking clock counts by its ticks, rain by all of it."""
    width = int(0.05 * sample_rate)
    stretches = samples[: len(samples) // width * width].reshape(-1, width)
    power = np.sort(np.mean(stretches**2, axis=1))[::-1]
    return float(np.sqrt(power[: max(len(power) // 10, 1)].mean())) + 1e-9


def _reverberate(samples: Array, rng: np.random.Generator, room: float, sample_rate: int) -> Array:
    """The samples in a room: its response is the direct sound and noise that falls by 60 dB in `room` seconds."""
    t = np.arange(int(room * sample_rate)) / sample_rate
    response = rng.standard_normal(len(t)) * 10 ** (-3 * t / room)
    response[: int(0.004 * sample_rate)] = 0  # the first wall is a metre or so away
    wet = 0.35 if room >= LARGE_ROOM else rng.uniform(0.1, 0.3)
    response *= wet / (1 - wet) / np.sqrt(np.sum(response**2))
    response[0] = 1
    return convolve(samples, response)
