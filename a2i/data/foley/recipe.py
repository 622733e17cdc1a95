"""The settings of a set of made sounds, and each of its clips as a pure function of (seed, split, index)."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from a2i.data.foley.captions import describe
from a2i.data.foley.scenes import Scene, draw_scene, render
from a2i.data.foley.signals import Array
from a2i.data.foley.sources import SOURCES

FORMAT = 1  # counts up whenever the same settings would give other sounds or captions
SPLITS = {"train": "development", "val": "validation", "test": "evaluation"}  # ours, and what Clotho calls them
LOWEST_SAMPLE_RATE = 12_000  # crickets sing up to 5 kHz
SHORTEST = 3.0  # seconds that two sources in sequence need at least
# Streams of random numbers are kept apart, so that captions do not depend on whether the sound was made as well.
_ORDER, _SCENE, _SOUND, _CAPTIONS = range(4)


@dataclass(frozen=True)
class FoleySettings:
    """All that decides what the files hold; `Foley` explains each."""

    n_train: int = 600
    n_val: int = 60
    n_test: int = 60
    seed: int = 0
    min_seconds: float = 5.0
    max_seconds: float = 12.0
    sample_rate: int = 16_000
    alone: float = 0.5
    mixed: float = 0.25
    sequence: float = 0.25
    sources: tuple[str, ...] = tuple(SOURCES)

    def __post_init__(self) -> None:
        unknown = [name for name in self.sources if name not in SOURCES]
        if unknown or not self.sources:
            raise ValueError(f"sources has {unknown or 'no names'}; expected some of {', '.join(SOURCES)}")
        for name in ("n_train", "n_val", "n_test", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if not SHORTEST <= self.min_seconds <= self.max_seconds:
            raise ValueError(
                f"min_seconds={self.min_seconds}, max_seconds={self.max_seconds}; "
                f"expected {SHORTEST} <= min_seconds <= max_seconds"
            )
        if self.sample_rate < LOWEST_SAMPLE_RATE:
            raise ValueError(f"sample_rate is {self.sample_rate} Hz; expected {LOWEST_SAMPLE_RATE} or more")
        if min(self.proportions) < 0 or abs(sum(self.proportions) - 1) > 1e-6:
            raise ValueError(
                f"alone={self.alone}, mixed={self.mixed}, sequence={self.sequence}; expected shares that add up to 1"
            )
        if len(set(self.sources)) == 1 and self.alone < 1:
            raise ValueError(f"mixed and sequence need two sources, got {self.sources}; set alone=1 mixed=0 sequence=0")

    @property
    def proportions(self) -> tuple[float, float, float]:
        """The shares of scenes alone, mixed and in sequence."""
        return self.alone, self.mixed, self.sequence

    def size(self, split: str) -> int:
        """The number of clips in "train", "val" or "test"."""
        return int(getattr(self, f"n_{split}"))


def _generator(settings: FoleySettings, split: str, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, list(SPLITS).index(split), index, stream])


def scene_of(settings: FoleySettings, split: str, index: int) -> Scene:
    """What clip number `index` of the split holds. First sources are dealt like cards, so that all come as often."""
    names = settings.sources
    hand = _generator(settings, split, index // len(names), _ORDER).permutation(len(names))
    return draw_scene(
        _generator(settings, split, index, _SCENE),
        names[hand[index % len(names)]],
        names,
        settings.proportions,
        settings.min_seconds,
        settings.max_seconds,
    )


def samples_of(settings: FoleySettings, split: str, index: int) -> Array:
    """The clip's sound, float32 (n,) in [-1, 1] at the settings' sample rate."""
    rng = _generator(settings, split, index, _SOUND)
    return render(scene_of(settings, split, index), rng, settings.sample_rate)


def wav_of(settings: FoleySettings, split: str, index: int) -> bytes:
    """The clip's sound as a WAV file of 16 bits."""
    wav = io.BytesIO()
    soundfile.write(wav, samples_of(settings, split, index), settings.sample_rate, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def captions_of(settings: FoleySettings, split: str, index: int) -> tuple[str, ...]:
    """Five different captions of the clip."""
    return describe(scene_of(settings, split, index), _generator(settings, split, index, _CAPTIONS))


def file_name_of(settings: FoleySettings, split: str, index: int) -> str:
    """For example "00012_bell_then_thunder.wav"."""
    return f"{index:05d}_{scene_of(settings, split, index).title}.wav"
