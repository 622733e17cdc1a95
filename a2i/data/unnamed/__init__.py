"""Silence, noise and sounds without a name, so that a captioner learns to say that it can't tell.

No recording and no download: the sounds are synthesised, and the sentences are ours.
"""

import hashlib
import io
import json
import logging
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from a2i.data import Clip
from a2i.data.foley.files import CLIPS_A_PROCESS, replace
from a2i.data.foley.signals import Array
from a2i.data.unnamed.captions import SENTENCES, unnamed_kinds
from a2i.data.unnamed.families import unknown
from a2i.data.unnamed.sounds import Family, noise, silence
from a2i.machine import cores

__all__ = ["SENTENCES", "Unnamed", "unnamed_kinds"]

logger = logging.getLogger(__name__)

FORMAT = 1  # counts up whenever the same settings would give other sounds
SPLITS = ("train", "val", "test")
CAPTIONS_A_CLIP = 5
SHORTEST, LOWEST_SAMPLE_RATE = 1.0, 12_000  # seconds, Hz
KINDS: dict[str, Family] = {"silence": silence, "noise": noise, "unknown": unknown}


@dataclass(frozen=True)
class UnnamedSettings:
    """All that decides what a file holds; `Unnamed` explains each."""

    seed: int
    min_seconds: float
    max_seconds: float
    sample_rate: int
    silence: float
    noise: float
    unknown: float

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")
        if not SHORTEST <= self.min_seconds <= self.max_seconds:
            raise ValueError(
                f"min_seconds={self.min_seconds}, max_seconds={self.max_seconds}; "
                f"expected {SHORTEST} <= min_seconds <= max_seconds"
            )
        if self.sample_rate < LOWEST_SAMPLE_RATE:
            raise ValueError(f"sample_rate is {self.sample_rate} Hz; expected {LOWEST_SAMPLE_RATE} or more")
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(
                f"silence={self.silence}, noise={self.noise}, unknown={self.unknown}; expected shares that add up to 1"
            )

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares of the kinds, in the order of `KINDS`."""
        return self.silence, self.noise, self.unknown


def kind_of(settings: UnnamedSettings, split: str, index: int) -> str:
    """The kind of a clip. A golden-ratio sequence draws, so that the first N clips hold the kinds in nearly their shares."""
    offset = np.random.default_rng([settings.seed, SPLITS.index(split)]).random()
    place = (offset + index * (5**0.5 - 1) / 2) % 1
    drawn = [kind for kind, edge in zip(KINDS, np.cumsum(settings.shares), strict=True) if place < edge]
    return drawn[0] if drawn else max(KINDS, key=lambda kind: getattr(settings, kind))  # the sum's rounding


def samples_of(settings: UnnamedSettings, split: str, index: int) -> Array:
    """The clip's sound, float64 (n,) in [-1, 1] at the settings' sample rate."""
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    seconds = rng.uniform(settings.min_seconds, settings.max_seconds)
    return KINDS[kind_of(settings, split, index)](rng, seconds, settings.sample_rate)


Task = tuple[UnnamedSettings, str, int, Path]  # settings, split, index, and the file to be made


def _write_all(tasks: list[Task]) -> None:
    for task in tasks:
        if not task[3].exists():
            _write(task)


def _write(task: Task) -> None:
    """Make one file; at the module's top level, so that another process can be told to do it."""
    settings, split, index, path = task
    wav = io.BytesIO()
    soundfile.write(wav, samples_of(settings, split, index), settings.sample_rate, format="WAV", subtype="PCM_16")
    replace(path, wav.getvalue())


class Unnamed:
    """Silence, noise and unknown sounds with captions, as a data set.

    On disk: ``root/<fingerprint of the settings>/{train,val,test}/00012_noise.wav`` (16 bits), and ``settings.json``
    beside the splits. Sizes are no part of the fingerprint: more clips are added to those that are there.

    Args:
        root: the folder; it is made where there is none.
        n_train, n_val, n_test: clips in each split.
        seed: 0 or more; other seeds give other sounds.
        min_seconds, max_seconds: the length of a clip lies between the two.
        sample_rate: Hz, at least 12000.
        workers: processes that make the files; None for as many as the machine has cores.
        silence, noise, unknown: the shares of the kinds; they add up to 1.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        n_train: int = 200,
        n_val: int = 30,
        n_test: int = 30,
        seed: int = 0,
        min_seconds: float = 5.0,
        max_seconds: float = 8.0,
        sample_rate: int = 16_000,
        workers: int | None = None,
        silence: float = 0.2,
        noise: float = 0.3,
        unknown: float = 0.5,
    ) -> None:
        self.sizes = dict(zip(SPLITS, (n_train, n_val, n_test), strict=True))
        for split, size in self.sizes.items():
            if size < 0:
                raise ValueError(f"n_{split} is {size}; expected 0 or more")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; expected 1 or more, or none for one per core")
        shares = float(silence), float(noise), float(unknown)  # 5 and 5.0 have one fingerprint
        self.settings = UnnamedSettings(seed, float(min_seconds), float(max_seconds), sample_rate, *shares)
        self.workers = workers or cores()
        self._identity = json.dumps({"format": FORMAT, **asdict(self.settings)}, indent=2)
        self.folder = Path(root) / hashlib.sha256(self._identity.encode()).hexdigest()[:12]

    def prepare(self) -> None:
        """Make what is missing. Interrupted, it goes on where it was; two at once write the same bytes."""
        tasks = [
            (self.settings, split, index, path)
            for split in SPLITS
            for index, path in enumerate(self._paths(split))
            if not path.exists()
        ]
        if not tasks:
            return
        replace(self.folder / "settings.json", self._identity.encode())
        if (processes := min(self.workers, len(tasks) // CLIPS_A_PROCESS)) < 2:
            _write_all(tasks)
            return
        context = multiprocessing.get_context("spawn")  # fork is unsafe where torch has threads
        try:
            with ProcessPoolExecutor(processes, context) as pool:
                list(pool.map(_write, tasks, chunksize=8))
        except BrokenProcessPool:  # for instance where the program was piped into Python and can't be started again
            logger.warning("the %d processes that make sounds ended early; going on in this one", processes)
            _write_all(tasks)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, in the order of their numbers, with five captions each.

        Raises:
            FileNotFoundError: `prepare` has not been run to its end, or files are missing since.
            ValueError: the split is unknown.
        """
        paths = list(self._paths(split))
        if missing := [path.name for path in paths if not path.exists()]:
            raise FileNotFoundError(
                f"{len(missing)} of {len(paths)} sounds are missing in {self.folder / split}, such as {missing[0]}; "
                "call prepare() to make them"
            )
        kinds = self.kinds(split)
        return [
            Clip(
                path.name,
                path,
                self._captions(split, path.name, kinds[path.name]),
                labels=frozenset({kinds[path.name]}),
            )
            for path in paths
        ]

    def kinds(self, split: str) -> dict[str, str]:
        """The kind of each clip of the split, by the clip's name."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        kinds = (kind_of(self.settings, split, index) for index in range(self.sizes[split]))
        return {f"{index:05d}_{kind}.wav": kind for index, kind in enumerate(kinds)}

    def _paths(self, split: str) -> Iterator[Path]:
        return (self.folder / split / name for name in self.kinds(split))

    def _captions(self, split: str, name: str, kind: str) -> tuple[str, ...]:
        return tuple(random.Random(f"{self.settings.seed}/{split}/{name}").sample(SENTENCES[kind], CAPTIONS_A_CLIP))
