"""AudioCaps: 10 s of YouTube videos from AudioSet, with sentences that people wrote (Kim et al., NAACL 2019).

Its tables are at https://github.com/cdjkim/audiocaps (``dataset/train.csv``, ``val.csv`` and ``test.csv``; MIT). The sounds are
to be had from YouTube alone, under the terms of each video. Some go every year, so that no two copies of the set are the same.
"""

import logging
from pathlib import Path

from a2i.data import Clip
from a2i.data.folder import SPLITS, read_table, told
from a2i.data.present import check_share, files_in

logger = logging.getLogger(__name__)

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
# How programs that fetch the sounds name a clip's file, before the ending.
NAMES = ("{youtube_id}_{start_time}", "Y{youtube_id}", "{youtube_id}", "{audiocap_id}", "{youtube_id}_{start_time}.0",
         "{youtube_id}_{start_time}_{end_time}", "{youtube_id}_{start_ms}_{end_ms}")  # fmt: skip
SECONDS = 10  # of a clip, from `start_time` of its video on


class AudioCaps:
    """AudioCaps in its official layout: ``root/train.csv``, ``val.csv``, ``test.csv``, and the sounds, 10 s each.

    A clip of ``"train"`` has one caption; one of ``"val"`` or ``"test"`` has five, each in a row of its own. The sound of a
    clip is in the folder `sounds`, or in its folder of the split's name, and called as the programs that fetch AudioCaps call
    it: `YOUTUBEID_START`, `YYOUTUBEID`, `YOUTUBEID`, or its number in the table, with any ending. Clips without a file are left
    out, and their number is told.

    Args:
        root: the folder of the tables.
        sounds: the folder of the sounds, relative to `root`.
        missing: the share of a split's clips that may have no file; 1 allows any.
    """

    def __init__(self, root: str | Path, sounds: str = "audio", missing: float = 0.2) -> None:
        if not 0 <= missing <= 1:
            raise ValueError(f"got missing={missing}; expected a share from 0 to 1")
        self.root, self.sounds, self.missing = Path(root), Path(root) / sounds, missing
        self._found: dict[str, list[Clip]] = {}

    def prepare(self) -> None:
        """Check the tables that are there, and how many of the sounds are missing."""
        for split in SPLITS:
            if (self.root / f"{split}.csv").is_file():
                self.clips(split)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` that have a file, in the table's order.

        Raises:
            FileNotFoundError: there is no table, or more files are missing than may be.
            ValueError: the split is unknown, or the table can't be read (with the row's number).
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        if split not in self._found:
            self._found[split] = self._read(split)
        return list(self._found[split])

    def _read(self, split: str) -> list[Clip]:
        table = self.root / f"{split}.csv"
        if not table.is_file():
            raise FileNotFoundError(
                f"no caption table at {told(table)}; put there dataset/{split}.csv of https://github.com/cdjkim/audiocaps"
            )
        captions: dict[tuple[str, str], list[str]] = {}
        names: dict[tuple[str, str], list[str]] = {}
        for number, cells in read_table(table, COLUMNS):
            where = f"{table}, row {number}"
            key = cells["youtube_id"].strip(), cells["start_time"].strip()
            if not key[0] or not key[1].isdigit():
                raise ValueError(
                    f"{where}: youtube_id {key[0]!r} and start_time {key[1]!r}; expected an id and whole seconds"
                )
            if not (text := cells["caption"].strip()):
                raise ValueError(f"{where}: no caption; expected text")
            captions.setdefault(key, []).append(text)
            names.setdefault(key, []).append(cells["audiocap_id"].strip())
        present = files_in(self.sounds / split) | files_in(self.sounds)
        clips = []
        for (video, start), texts in captions.items():
            begin, end = int(start), int(start) + SECONDS
            fields = {
                "youtube_id": video,
                "start_time": start,
                "end_time": end,
                "start_ms": begin * 1000,
                "end_ms": end * 1000,
            }
            called = [name.format(**fields, audiocap_id=number) for number in names[video, start] for name in NAMES]
            if (path := next((present[name] for name in called if name in present), None)) is not None:
                clips.append(Clip(f"{video}_{start}", path, tuple(texts), recording=video))
        what, missing = f"AudioCaps {split}", len(captions) - len(clips)
        if line := check_share(missing, len(captions), self.missing, what, self.sounds, "YOUTUBEID_START"):
            logger.warning(line)
        return clips
