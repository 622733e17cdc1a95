"""Data sets of the Hugging Face Hub, or folders of theirs, that have a column of sounds and one of captions.

Their rows come one after the other, as a stream; training wants any clip at any time, and the same again after an interruption.
So `prepare` passes the stream once and writes shards (`a2i.data.shards`) of the sounds' own bytes, a shard in memory at most;
from then on the set is those shards, here, without the network. The package `datasets` runs no code that a data set brings, and
sounds are decoded by `a2i.audio` alone.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2i import audio, hub
from a2i.audio.addresses import without_secrets
from a2i.data import Clip
from a2i.data.folder import SPLITS
from a2i.data.shards import Shards, read_list
from a2i.data.shards.places import Place
from a2i.data.shards.writing import Packed, write_split
from a2i.errors import first_line, one_line
from a2i.whole import write_whole

logger = logging.getLogger(__name__)

TOLD = 5  # rows that are told
DONE = "done.json"  # in the folder: the splits that are written to their end
COMMIT = "commit"  # likewise: that of the Hub which they are written from
ENDINGS = (
    (b"RIFF", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"), (b"\xff\xfb", ".mp3"), (b"FORM", ".aiff")
)  # fmt: skip  # of sounds without a name, by their first bytes


@dataclass(frozen=True, slots=True)
class _Content(audio.Held):
    """A sound in memory."""

    content: bytes

    def read(self) -> bytes:
        return self.content


class HuggingFace:
    """A data set with an Audio column.

    Args:
        name: OWNER/NAME on the Hub; or a folder: of parquet or sound files, as the Hub has them, or that `save_to_disk` wrote.
        audio: the column of sounds.
        captions: the columns of captions; each holds a text or a list of texts.
        root: the folder for the shards; those of other settings lie beside them.
        splits: for train, val and test the data set's own name for it, such as `{train: train, val: validation}`; a split
            without one is not there.
        config: the data set's configuration, where it has several.
        revision: branch, tag or commit, of the Hub. The commit that it stands for when `prepare` begins is kept beside the
            shards: an interrupted one goes on with it, whatever is on the Hub by then.
        streaming: True takes the rows as they come over the network; False has `datasets` download all of it first.
        name_column: the column with the name of each clip; None for its number.
        shard_mb: megabytes of a shard.
        unusable: the share of the rows that may be without a sound or a caption; they are told, and left out.
    """

    def __init__(
        self,
        name: str,
        audio: str,
        captions: str | list[str],
        root: str | Path,
        splits: Mapping[str, str] | None = None,
        config: str | None = None,
        revision: str | None = None,
        streaming: bool = True,
        name_column: str | None = None,
        shard_mb: float = 500.0,
        unusable: float = 0.0,
    ) -> None:
        self.splits = dict({"train": "train", "val": "validation", "test": "test"} if splits is None else splits)
        if unknown := set(self.splits) - set(SPLITS):
            raise ValueError(
                f"got splits for {sorted(unknown)}; expected some of {', '.join(SPLITS)}, such as {{train: train}}"
            )
        if not 0 <= unusable <= 1:
            raise ValueError(f"got unusable={unusable}; expected a share from 0 to 1")
        self.name, self.audio, self.config, self.revision = str(name), audio, config, revision
        self.captions = [captions] if isinstance(captions, str) else list(captions)
        self.streaming, self.name_column, self.shard_mb, self.unusable = streaming, name_column, shard_mb, unusable
        about = {
            key: getattr(self, key)
            for key in ("name", "audio", "captions", "config", "revision", "name_column", "splits")
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = Path(root).expanduser() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', self.name.strip('/'))[-80:]}-{key}"
        self._shards = Shards(self.folder)

    def prepare(self) -> None:
        """Write the shards of all splits that are not written yet. After an interruption it goes on with the next shard.

        Raises:
            FileNotFoundError: there is no such data set or split.
            ConnectionError: it can't be reached.
            ValueError: a column is missing or holds something else, or too many rows can't be used.
        """
        path = self.folder / DONE
        done = json.loads(path.read_bytes()) if path.is_file() else []
        for split, own in self.splits.items():
            if split not in done:
                failures = write_split(self.folder, split, self._source(split, own), None, self.shard_mb)
                self._tell(failures, split)
                done.append(split)
                write_whole(path, json.dumps(done).encode())

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, in the data set's order.

        Raises:
            FileNotFoundError: `prepare` was not called.
            ValueError: the data set has no such split, or no clip in it.
        """
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has no split for {split!r}; expected one of {', '.join(self.splits)}: data.splits"
            )
        if not (self.folder / DONE).is_file():
            raise FileNotFoundError(f"{self.folder}: no shards; expected those that python -m a2i.prepare writes")
        return self._shards.clips(split)

    def _tell(self, failures: list[str], split: str) -> None:
        if not failures:
            return
        shards = read_list(Place(str(self.folder), self.folder, 0))
        rows = len(failures) + sum(shard.clips for shard in shards if shard.name.startswith(f"{split}-"))
        if len(failures) > self.unusable * rows:
            raise ValueError(
                f"{len(failures)} of {rows} rows of {self.name} can't be used, and at most {self.unusable:.0%} may be so:"
                f" {'; '.join(failures[:TOLD])}; data.unusable={len(failures) / rows:.2f} goes on without them"
            )
        logger.warning("%s: %d of %d rows left out: %s", self.name, len(failures), rows, "; ".join(failures[:TOLD]))

    def _source(self, split: str, own: str) -> Any:
        def rows(first: int) -> Iterator[Packed | str]:
            data = self._opened(own)
            # `skip` passes over rows without reading them where it can; a stream is read up to there.
            for number, row in enumerate(self._told(data.skip(first) if first else data, own), start=first):
                try:
                    yield self._packed(row, number, split)
                except (ValueError, OSError) as error:
                    yield f"row {number} of {own}: {without_secrets(one_line(error))}"

        return rows

    def _told(self, rows: Any, own: str) -> Iterator[dict[str, Any]]:
        """The same rows; where they break off, that is told without the signed address of the file that was read."""
        try:
            yield from rows
        except Exception as error:  # of datasets, pyarrow, fsspec, or the client for the network
            raise OSError(
                f"{self.name} (split {own!r}): breaks off ({type(error).__name__}: {without_secrets(first_line(error))}); the"
                " same command goes on behind the shards that are written"
            ) from error

    def _opened(self, own: str) -> Any:
        """The rows of one of the data set's own splits, sounds as their bytes."""
        try:
            import datasets
        except ImportError as error:
            raise ImportError(
                f"{error}; data=huggingface needs the extra 'huggingface': pip install 'a2i[huggingface]'"
            ) from error
        what = f"{self.name} (split {own!r}{f', configuration {self.config!r}' if self.config else ''})"
        try:
            folder = Path(self.name).expanduser()
            if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(folder))
                data = found[own] if isinstance(found, dict) else found
            else:
                data = datasets.load_dataset(
                    str(folder) if folder.is_dir() else self.name,
                    self.config,
                    split=own,
                    revision=None if folder.is_dir() else self._commit(),
                    streaming=self.streaming,
                )
            columns = list(data.features or next(iter(data)))
        except (OSError, ValueError, KeyError, RuntimeError, StopIteration) as error:
            why = f"{type(error).__name__}: {without_secrets(first_line(error))}"
            raise FileNotFoundError(
                f"{what}: can't be opened ({why}); expected a data set of the Hub, or a"
                " folder of one, with that split: data.name, data.splits, data.config, data.revision"
            ) from error
        wanted = [self.audio, *self.captions, *([self.name_column] if self.name_column else [])]
        if absent := [column for column in wanted if column not in columns]:
            raise ValueError(f"{what}: has no column {absent}; expected some of {columns}: data.audio, data.captions")
        return data.cast_column(self.audio, datasets.Audio(decode=False))

    def _commit(self) -> str | None:
        """The commit of the Hub that all shards are written from; where it can't be told, the revision as it was given."""
        from huggingface_hub import HfApi

        path = self.folder / COMMIT
        if path.is_file():
            return path.read_text("ascii").strip()
        try:
            commit = HfApi().dataset_info(self.name, revision=self.revision).sha
        except (*hub.failures(), ValueError):  # a set in the cache can be opened all the same
            return self.revision
        if commit:
            write_whole(path, f"{commit}\n".encode())
        return commit or self.revision

    def _packed(self, row: dict[str, Any], number: int, split: str) -> Packed:
        sound = row[self.audio]
        if not isinstance(sound, dict):
            raise ValueError(f"{self.audio} holds {type(sound).__name__}; expected a sound")
        content, place = sound.get("bytes"), sound.get("path") or ""
        if content is None and place:
            content = self._content(place)
        if not content:
            raise ValueError(f"{self.audio} holds no sound")
        suffix = Path(place).suffix.lower()
        if suffix not in audio.SUFFIXES:
            suffix = next((ending for start, ending in ENDINGS if content.startswith(start)), ".wav")
        texts = [text for column in self.captions for text in _texts(row[column], column)]
        if not texts:
            raise ValueError(f"{', '.join(self.captions)}: no caption")
        name = str(row[self.name_column]) if self.name_column else f"{number:08d}"
        seconds = audio.duration(_Content(suffix, len(content), b"", 0.0, content), exact=False)
        about = {"name": name, "captions": texts, "split": split, "labels": None, "recording": None}
        return Packed({**about, "seconds": seconds, "start": None, "end": None}, suffix, content)

    def _content(self, place: str) -> bytes:
        """The sound file that a row names in place of holding it: one of the data set, and no other of this machine.

        Raises:
            ValueError: it lies elsewhere.
            OSError: it can't be read.
        """
        import datasets

        if re.match(r"(zip://[^:]*::)?hf://", place):
            import fsspec

            with fsspec.open(place, "rb") as file:
                return file.read()
        path = Path(place)
        folders = [
            Path(self.name).expanduser(),
            Path(datasets.config.HF_CACHE_HOME),
            Path(datasets.config.HF_DATASETS_CACHE),
        ]
        if not any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for folder in folders):
            raise ValueError(f"its sound would be {place!r}, outside the data set; expected one that belongs to it")
        return path.read_bytes()


def _texts(value: Any, column: str) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value or ())
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{column} holds {str(value)[:80]!r}; expected text, or a list of texts")
    return [" ".join(text.split()) for text in texts if text.strip()]
