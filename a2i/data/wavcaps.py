"""WavCaps: 403 thousand sounds of four sources, with captions that a language model wrote (Mei et al., TASLP 2024).

**Academic use alone**, and each source has terms of its own. The captions (`json_files`) and sounds (`Zip_files`, FLAC, 32 kHz)
are at https://huggingface.co/datasets/cvssp/WavCaps, the lists of what other data sets have too at
https://github.com/XinhaoMei/WavCaps (`data/json_files/blacklist`).
"""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a2i.data import Clip
from a2i.data.folder import SPLITS, place_in, position, told
from a2i.data.present import check_share, files_in
from a2i.errors import first_line

logger = logging.getLogger(__name__)

TABLES = {
    "AudioSet_SL": "as_final.json",
    "BBC_Sound_Effects": "bbc_final.json",
    "FreeSound": "fsd_final.json",
    "SoundBible": "sb_final.json",
}
LISTED_AS = {"AudioSet_SL": "AudioSet", "FreeSound": "FreeSound"}  # in the lists; the other sources are in none
ALL = "blacklist_exclude_all_ac.json"


class WavCaps:
    """WavCaps in its official layout: ``root/json_files/SOURCE/*.json``, and sounds ``ID.flac`` in a folder for each source.

    Clotho's recordings come from Freesound, AudioCaps' from AudioSet, and so do many of WavCaps: what those data sets hold out
    would be learnt from. The official lists name them, and by default all that Clotho or AudioCaps have in any split is left
    out: `blacklist_exclude_all_ac.json` has 5,929 entries of Freesound, as many as Clotho version 2 has recordings, and 50,725
    of AudioSet. `blacklist_exclude_test_ac.json` has those of validation and test alone (2,090 and 1,451);
    `blacklist_exclude_ub8k_esc50_vggsound.json` has what UrbanSound8K, ESC-50 and VGGSound have.

    There is no official division: all is for training but for the shares that a hash of the sound's name decides.

    Args:
        root: the folder.
        sources: those that are wanted, of AudioSet_SL, BBC_Sound_Effects, FreeSound and SoundBible.
        exclude: the lists whose sounds are left out, in `root/json_files/blacklist`; [] for none.
        sounds: the folder of the sounds, relative to `root`; in it one for each source: `FreeSound` or `FreeSound_flac`.
        max_seconds: of a longer sound only the beginning is heard; None for all of it. Some last hours.
        val_share: share of the sounds for validation.
        test_share: likewise for the test.
        missing: the share of a source's clips that may have no file; 1 allows any.
        seed: another seed divides the sounds in another way.
    """

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str] = tuple(TABLES),
        exclude: Sequence[str] = (ALL,),
        sounds: str = "waveforms",
        max_seconds: float | None = 30.0,
        val_share: float = 0.01,
        test_share: float = 0.0,
        missing: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not sources or (unknown := set(sources) - set(TABLES)):
            raise ValueError(f"got sources={sorted(unknown) if sources else []}; expected some of {', '.join(TABLES)}")
        if isinstance(exclude, str):
            raise ValueError(f"got exclude={exclude!r}; expected a list of files' names, such as [{ALL}]")
        if max_seconds is not None and not 0 < max_seconds < math.inf:
            raise ValueError(f"got max_seconds={max_seconds}; expected more than 0, or null")
        if min(val_share, test_share) < 0 or val_share + test_share >= 1 or not 0 <= missing <= 1:
            raise ValueError(
                f"got val_share={val_share}, test_share={test_share} and missing={missing}; expected shares from 0 to 1, the"
                " first two with a sum below 1"
            )
        self.root, self.sources, self.exclude = Path(root), list(sources), list(exclude)
        self.sounds, self.max_seconds, self.missing = Path(root) / sounds, max_seconds, missing
        self.val_share, self.test_share, self.seed = val_share, test_share, seed
        self._found: list[Clip] | None = None

    def prepare(self) -> None:
        """Check captions, lists and sounds, and tell what is left out."""
        self._clips()

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` that have a file, source after source.

        Raises:
            FileNotFoundError: captions or a list of what to leave out are not there, or more sounds are missing than may be.
            ValueError: the split is unknown or empty, or captions or a list can't be read.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        if found := [clip for clip in self._clips() if self._split(clip) == split]:
            return found
        raise ValueError(
            f"no sound of WavCaps is of the split {split!r}; set data.{split}_share, or choose another data set for it"
        )

    def _split(self, clip: Clip) -> str:
        place = position(clip.name, self.seed)
        return "val" if place < self.val_share else "test" if place < self.val_share + self.test_share else "train"

    def _clips(self) -> list[Clip]:
        if self._found is None:
            excluded = self._excluded()
            self._found = [clip for source in self.sources for clip in self._source(source, excluded)]
        return self._found

    def _source(self, source: str, excluded: dict[str, set[str]]) -> list[Clip]:
        rows = self._rows(source)
        kept = [row for row in rows if row["id"] not in excluded.get(LISTED_AS.get(source, ""), ())]
        present: dict[str, Path] = {}
        for folder in (f"{source}_flac", source):
            present |= files_in(self.sounds / folder)
        clips = []
        for row in kept:
            stem = Path(place_in(self.sounds, row["id"])).name.removesuffix(".wav")
            if (path := present.get(stem)) is not None:
                end = self.max_seconds if self.max_seconds is not None and row["duration"] > self.max_seconds else None
                name = f"{source}/{stem}"
                clips.append(Clip(name, path, (row["caption"],), end=end, recording=name))
        what = f"WavCaps {source}"
        gone = check_share(len(kept) - len(clips), len(kept), self.missing, what, self.sounds / source, "ID")
        if len(kept) < len(rows):
            logger.warning(
                "%s: %d of %d clips left out, by %s", what, len(rows) - len(kept), len(rows), ", ".join(self.exclude)
            )
        if gone:
            logger.warning(gone)
        return clips

    def _excluded(self) -> dict[str, set[str]]:
        """By the lists' names of sources, the ids of what is left out."""
        found: dict[str, set[str]] = {name: set() for name in LISTED_AS.values()}
        for name in self.exclude:
            path = self.root / "json_files" / "blacklist" / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"no list of what Clotho and others have too at {told(path)}; put it there from"
                    " https://github.com/XinhaoMei/WavCaps (data/json_files/blacklist), or set data.exclude=[] to learn from"
                    " their test sounds as well"
                )
            content = _json(path)
            for source in found:
                ids = content.get(source) if isinstance(content, dict) else None
                if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
                    raise ValueError(f"{path}: has no list {source!r} of ids; expected the official file")
                found[source].update(ids)
        return found

    def _rows(self, source: str) -> list[dict[str, Any]]:
        path = self.root / "json_files" / source / TABLES[source]
        if not path.is_file():
            raise FileNotFoundError(
                f"no captions at {told(path)}; put there json_files of https://huggingface.co/datasets/cvssp/WavCaps, or choose"
                " data.sources=[…]"
            )
        content = _json(path)
        rows = content.get("data") if isinstance(content, dict) else content
        if not isinstance(rows, list) or not rows:
            raise ValueError(f"{path}: has no list 'data' with a row; expected the official file")
        found = []
        for number, row in enumerate(rows, start=1):
            id_, caption, seconds = (
                row.get(key) if isinstance(row, dict) else None for key in ("id", "caption", "duration")
            )
            if (
                not isinstance(id_, str)
                or not id_
                or not isinstance(caption, str)
                or not isinstance(seconds, int | float)
            ):
                raise ValueError(
                    f"{path}, row {number} of data: expected id, caption and duration, got {str(row)[:200]}"
                )
            if caption.strip():
                found.append({"id": id_, "caption": caption.strip(), "duration": seconds})
        return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: is no JSON file ({first_line(error)}); is it a Git LFS pointer? fetch the file itself"
        ) from error
