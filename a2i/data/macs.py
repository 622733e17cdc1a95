"""MACS: 10 s of airports, parks and public squares, with two to five sentences each (Martin-Morato and Mesaros, DCASE 2021).

The captions are `MACS.yaml` of https://zenodo.org/records/5114771. The 3,930 recordings are of the TAU Urban Acoustic Scenes
2019 development set, https://zenodo.org/records/2589280 (its parts audio.1 to audio.3 and audio.9 to audio.13), under a licence
of their own: research, not commercial.
"""

import hashlib
import logging
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from a2i.data import Clip
from a2i.data.folder import SPLITS, position, told
from a2i.data.present import check_share, files_in
from a2i.errors import first_line

logger = logging.getLogger(__name__)

TABLE = "MACS.yaml"
TABLE_MD5 = "23fcb2ebd0b109094034ef9e87972256"  # as aac-datasets (Labbeti/aac-datasets) checks it


class Macs:
    """MACS in its official layout: ``root/MACS.yaml``, and the sounds in one folder.

    There is no official division. Here all recordings of one place (a scene, a city and a number: `park-lisbon-3`) are on one
    side, which a hash of the place's name decides: those of training never sound like those of the test because they were made
    in the same place.

    Args:
        root: the folder of `MACS.yaml`.
        sounds: the folder of the sounds, relative to `root`.
        val_share: share of the places for validation.
        test_share: likewise for the test.
        missing: the share of a split's clips that may have no file; 1 allows any.
        seed: another seed divides the places in another way.
    """

    def __init__(
        self,
        root: str | Path,
        sounds: str = "audio",
        val_share: float = 0.1,
        test_share: float = 0.1,
        missing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if min(val_share, test_share) < 0 or val_share + test_share >= 1 or not 0 <= missing <= 1:
            raise ValueError(
                f"got val_share={val_share}, test_share={test_share} and missing={missing}; expected shares from 0 to 1, the"
                " first two with a sum below 1"
            )
        self.root, self.sounds, self.missing = Path(root), Path(root) / sounds, missing
        self.val_share, self.test_share, self.seed = val_share, test_share, seed
        self._found: dict[str, list[Clip]] = {}

    def prepare(self) -> None:
        """Check the captions, and that the sounds of every split are there."""
        if hashlib.md5(self._content(), usedforsecurity=False).hexdigest() != TABLE_MD5:
            logger.warning("%s is not the file that Zenodo has", told(self.root / TABLE))
        for split in SPLITS:
            self.clips(split)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` that have a file, in the order of `MACS.yaml`.

        Raises:
            FileNotFoundError: there is no `MACS.yaml`, or more sounds are missing than may be.
            ValueError: the split is unknown, or `MACS.yaml` can't be read.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        if split not in self._found:
            self._found[split] = self._read(split)
        return list(self._found[split])

    def _read(self, split: str) -> list[Clip]:
        rows = [(name, texts) for name, texts in self._rows() if self._split(name) == split]
        present = files_in(self.sounds)
        clips = [
            Clip(name, path, texts, recording=place_of(name))
            for name, texts in rows
            if (path := present.get(PurePosixPath(name).stem)) is not None
        ]
        what, missing = f"MACS {split}", len(rows) - len(clips)
        if line := check_share(missing, len(rows), self.missing, what, self.sounds, "park-lisbon-3-41-a"):
            logger.warning(line)
        return clips

    def _split(self, name: str) -> str:
        place = position(place_of(name), self.seed)
        return "val" if place < self.val_share else "test" if place < self.val_share + self.test_share else "train"

    def _content(self) -> bytes:
        try:
            return (self.root / TABLE).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"no captions at {told(self.root / TABLE)}; put there MACS.yaml of https://zenodo.org/records/5114771"
            ) from None

    def _rows(self) -> list[tuple[str, tuple[str, ...]]]:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            files = yaml.load(self._content(), loader)["files"]  # noqa: S506  # both loaders are safe ones
            rows = []
            for file in files:
                texts = tuple(" ".join(str(each["sentence"]).split()) for each in file["annotations"])
                rows.append((str(file["filename"]), tuple(text for text in texts if text)))
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(
                f"{self.root / TABLE}: can't be read ({type(error).__name__}: {first_line(error)}); expected files, each with"
                " filename and annotations, of which each has a sentence"
            ) from error
        if mute := [name for name, texts in rows if not texts]:
            raise ValueError(f"{self.root / TABLE}: {mute[0]!r} has no sentence; expected at least one")
        return rows


def place_of(name: str) -> str:
    """Where a recording of TAU Urban Acoustic Scenes was made: `park-lisbon-3` of `park-lisbon-3-41-a.wav`."""
    return "-".join(PurePosixPath(name).stem.split("-")[:3])
