"""A cache on disk of what is computed from clips: waveforms, log-mels or encoder states. Any number of processes may use it.

Each entry is a file. Its name is the SHA-256 of the sound file's content, the clip's start and end, and all that decides the
numbers: settings, this format, library versions. If any of these differs, it is another entry; an entry never changes. It is
written under a temporary name, flushed and renamed, so that it is whole or absent, even if two processes write it at once or
one of them dies.
"""

import functools
import hashlib
import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a2i import audio
from a2i.data import Clip
from a2i.data.file_hash import Contents
from a2i.features import FeatureSettings, LogMel
from a2i.whole import write_whole

FORMAT = 4  # of the entries; another number where `a2i.audio` or `a2i.features` comes to give other numbers
STEP = np.float32(1 / 32768)  # of 16-bit samples
HEADER = 128  # bytes of a .npy file before the values, of one or two dimensions
ATTEMPTS = 3  # at a file that changes while it is read


class Cache:
    """`cache(clip)` returns what `make(clip)` returns, from disk if it was made before."""

    def __init__(
        self,
        folder: str | Path,
        settings: dict[str, Any],
        make: Callable[[Clip], np.ndarray],
        values_per_second: float,
    ) -> None:
        """Set up, without reading or writing anything.

        Args:
            folder: created with the first entry; several caches may share it.
            settings: all that decides what `make` returns, as values that JSON can hold; must contain `kind`.
            make: returns a float32 array. Other processes can fill the cache if it can be pickled.
            values_per_second: upper bound of the values for a second of sound, to estimate disk space.
        """
        self.values_per_second = values_per_second
        self.folder, self.settings, self.make = Path(folder).expanduser(), {"format": FORMAT, **settings}, make
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.entries = self.folder / f"{settings['kind']}-{key[:16]}"
        self.contents = Contents(self.folder / "files")
        self.seen: dict[tuple[str, float | None, float | None], Entry] = {}

    def __call__(self, clip: Clip) -> np.ndarray:
        """The entry's array, float32, equal to what `make` returns bit for bit.

        Raises:
            FileNotFoundError: there is no such sound file.
            ValueError: `make` raised it, or the sound file kept changing while it was read.
            OSError: the entry can't be read from disk.
        """
        found = self.open(clip)
        if isinstance(found, np.ndarray):
            return found
        array = np.empty(found.shape, np.float32)
        found.read_into(array)
        return array

    def open(self, clip: Clip) -> "np.ndarray | Entry":
        """Like calling the cache, but an entry on disk is not read yet: its `read_into` fills an array of the caller's."""
        for _ in range(ATTEMPTS):
            digest = self.contents.digest(clip.path)
            key = digest, clip.start, clip.end
            if (seen := self.seen.get(key)) is not None and seen.is_there():
                return seen
            path = self._path(clip, digest)
            if (found := _found(path)) is not None:
                self.seen[key] = found
                return found
            made = self.make(clip)
            # What was made of another content than the one that was hashed must not be kept under its name.
            if self.contents.digest(clip.path) == digest:
                self._keep(path, made)
                return made
        raise ValueError(f"{clip.path}: changed {ATTEMPTS} times while it was read; try again when it is complete")

    def has(self, clip: Clip) -> bool:
        """Whether the entry exists; False also if the sound file would have to be read to find out."""
        digest = self.contents.known(clip.path)
        return digest is not None and self._path(clip, digest).exists()

    def _path(self, clip: Clip, digest: str) -> Path:
        key = hashlib.sha256(f"{digest} {clip.start!r} {clip.end!r}".encode()).hexdigest()
        return self.entries / key[:2] / f"{key[2:]}.npy"

    def _keep(self, path: Path, made: np.ndarray) -> None:
        if not (about := self.entries / "settings.json").exists():
            write_whole(about, json.dumps(self.settings, indent=2).encode() + b"\n")
        write_whole(path, _packed(made))


def waveforms(folder: str | Path, rate: int) -> Cache:
    """A cache of waveforms as `a2i.audio.load` returns them, (samples,) float32 at `rate` Hz.

    Samples that 16 bits hold exactly are stored as 16 bits, all others as float32: both give the same floats, bit for bit.
    """
    return Cache(folder, {"kind": "waveforms", **decoded_by(rate)}, loader(rate), rate)


def loader(rate: int) -> Callable[[Clip], np.ndarray]:
    """What loads a clip from its sound file: (samples,) float32 at `rate` Hz."""
    return partial(_load_waveform, rate=rate)


def _load_waveform(clip: Clip, rate: int) -> np.ndarray:
    return audio.load(clip.path, rate, clip.start, clip.end)


def log_mels(folder: str | Path, settings: FeatureSettings) -> Cache:
    """A cache of log-mels, (T, num_mel_bins) float32 without padding, as `a2i.features.LogMel` computes them clip by clip.

    In a batch with other clips the last bits of float32 may differ.
    """
    decoded = decoded_by(settings.sampling_rate)
    about = {"kind": "log_mels", **decoded, "features": asdict(settings), "torch": _version("torch")}
    return Cache(folder, about, partial(_log_mel, settings), settings.frames_per_second * settings.num_mel_bins)


def _log_mel(settings: FeatureSettings, clip: Clip) -> np.ndarray:
    waveform = torch.from_numpy(_load_waveform(clip, settings.sampling_rate))
    log_mel: np.ndarray = _extractor(settings)(waveform[None], torch.tensor([len(waveform)]))[0][0].numpy()
    return log_mel


@functools.cache
def _extractor(settings: FeatureSettings) -> LogMel:
    return LogMel(settings)


def decoded_by(rate: int) -> dict[str, Any]:
    """The rate, and the libraries' versions, that decide which samples a file decodes to."""
    import soundfile

    versions = {name: _version(name) for name in ("soundfile", "soxr", "av", "scipy")}
    return {"sample_rate": rate, "libsndfile": soundfile.__libsndfile_version__, **versions}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packed(array: np.ndarray) -> bytes:
    """A .npy file's bytes: int16 where that gives exactly the same floats again, else float32."""
    if array.dtype != np.float32:
        raise ValueError(f"got {array.dtype} to keep; expected float32")
    with np.errstate(invalid="ignore", over="ignore"):  # the comparison tells what does not fit
        whole = np.clip(np.rint(array / STEP), -32768, 32767).astype(np.int16)
    array = whole if (whole * STEP).tobytes() == array.tobytes() else array
    file = io.BytesIO()
    np.save(file, np.asarray(array, order="C"), allow_pickle=False)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry on disk that is not read yet."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    size: int  # bytes of the file

    def is_there(self) -> bool:
        """Whether the file is still whole, by its size."""
        try:
            return os.stat(self.path).st_size == self.size
        except FileNotFoundError:
            return False

    def read_into(self, place: np.ndarray) -> None:
        """Read the entry into `place`, float32, of this shape and in C order. (Mapping the file and copying is slower.)

        Raises:
            OSError: the file was deleted, cut short, or can't be read.
        """
        stored = np.empty(self.shape, self.dtype) if self.dtype == np.int16 else place
        try:
            file = io.FileIO(self.path)
        except FileNotFoundError as error:
            raise OSError(f"{self.path}: deleted while it was wanted; to begin again makes it again") from error
        with file:
            file.seek(HEADER)
            wanted = stored.reshape(-1).view(np.uint8).data
            while len(wanted) and (count := file.readinto(wanted)):
                wanted = wanted[count:]  # Linux gives 2 GB at a time
            if len(wanted):
                raise OSError(f"{self.path}: ends early; it was cut while it was read")
        if stored is not place:
            np.multiply(stored, STEP, out=place)


def _found(path: Path) -> Entry | None:
    """The entry in a file; None if the file is missing or incomplete."""
    try:
        with io.FileIO(path) as file:
            shape, dtype = _described(file.read(HEADER))
    except (FileNotFoundError, ValueError, EOFError):
        return None
    kept = Entry(path, shape, dtype, HEADER + math.prod(shape) * dtype.itemsize)
    return kept if kept.is_there() else None


def _described(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file, from its header."""
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if version != (1, 0) or fortran_order or file.tell() != HEADER:
        raise ValueError("not as this module writes")
    return shape, dtype
