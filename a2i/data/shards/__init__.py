"""Shards: many clips in each of few large files, here or at an address, in WebDataset's format.

An index says where each clip's sound lies in its shard, so a set of shards is a list of clips as any other: an epoch's order,
ranks, batches of similar length, caches and resuming in mid-epoch are those of every data set, and there is no second kind of
loader.
"""

import hashlib
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from errno import EACCES, EPERM, EROFS
from pathlib import Path
from typing import Any, Literal, get_args

from a2i.audio.addresses import is_address, without_secrets
from a2i.data import Clip
from a2i.data.folder import SPLITS, position
from a2i.data.shards.index import Member, Shard, index_name, indexed, packed, unpacked
from a2i.data.shards.places import Place, ShardError
from a2i.errors import first_line, one_line
from a2i.whole import write_whole

logger = logging.getLogger(__name__)

LIST = "shards.json"  # of all shards of a folder, with what their indices begin with
NAMED = {"train": "train", "training": "train", "dev": "val", "val": "val", "valid": "val", "validation": "val", "test": "test",
         "eval": "test", "evaluation": "test"}  # fmt: skip  # splits that a shard's name begins with
FILE = re.compile(r"[^/\\\0]+\.tar")  # a name that leads nowhere else
READERS = 8  # indices that are read at once
TOLD = 5  # unusable clips of a shard that are told

Broken = Literal["leave_out", "stop"]
Fetch = Literal["shards", "clips"]


class Shards:
    """A folder of shards, as `python -m a2i.prepare data=NAME shards=FOLDER` writes it, or as the package webdataset does.

    A clip is members of one name but for their endings: a sound (`.flac`, `.wav` …), and `.json` with `captions` (a list) or
    `caption` or `text`, or `.txt` with a caption. JSON may also have `name`, `split`, `labels`, `recording`, `seconds`, `start`
    and `end`. A clip without a split has the one that its shard's name begins with (train, val, test …), or else one by a hash
    of its recording or name; one of a split by another name is left out. A name that clips of several shards have is told
    apart by the shard's.

    Args:
        root: the folder, or an address that fsspec reads: `s3://BUCKET/FOLDER` (the extra `s3`), `https://HOST/FOLDER` (the
            extra `shards`; where the server lists no folders it needs the `shards.json` that a2i writes).
        keep: the folder in which remote shards, and indices of shards that have none, are kept.
        keep_gb: gigabytes of remote shards that may lie there.
        fetch: of remote shards: whole `shards`, when they are first wanted, or `clips` alone, each when it is wanted; None for
            shards where all fit into `keep_gb`, else clips.
        broken: what becomes of a shard that can't be read: `leave_out` tells it in one line and goes on with the others, and a
            clip that can't be read in the middle of training has another in its place; `stop` raises the error.
        val_share: share of the recordings for validation where nothing names a split.
        test_share: likewise for the test.
        seed: another seed divides them in another way.
    """

    def __init__(
        self,
        root: str | Path,
        keep: str | Path = "data/cache/shards",
        keep_gb: float = 100.0,
        fetch: Fetch | None = None,
        broken: Broken = "leave_out",
        val_share: float = 0.0,
        test_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        if fetch is not None and fetch not in get_args(Fetch):
            raise ValueError(f"got fetch={fetch!r}; expected null or one of {', '.join(get_args(Fetch))}")
        if broken not in get_args(Broken):
            raise ValueError(f"got broken={broken!r}; expected one of {', '.join(get_args(Broken))}")
        if keep_gb <= 0 or min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(
                f"got keep_gb={keep_gb}, val_share={val_share} and test_share={test_share}; expected more than 0 GB, and shares"
                " of at least 0 with a sum below 1"
            )
        self.root, self.keep, self.keep_bytes = (
            str(root).rstrip("/") or "/",
            Path(keep).expanduser(),
            int(keep_gb * 1e9),
        )
        if not is_address(self.root):
            self.root = str(Path(self.root).expanduser())
        self.told = without_secrets(self.root)
        self.fetch, self.broken = fetch, broken
        self.val_share, self.test_share, self.seed = val_share, test_share, seed
        self._by_split: dict[str, list[Clip]] | None = None

    def prepare(self) -> None:
        """Read the indices, make those that are missing, and tell what is broken."""
        self._clips()

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, shard after shard.

        Raises:
            FileNotFoundError: there is no such folder or address, or it has no shard.
            OSError: the address can't be read.
            ValueError: the split is unknown or has no clip, or all shards are broken (or one, where that is to stop).
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        by_split = self._clips()
        if not by_split[split]:
            held = ", ".join(f"{name} {len(clips)}" for name, clips in by_split.items())
            raise ValueError(
                f"{self.told}: no clip is of the split {split!r} ({held}); write shards of it, or set val_share, test_share"
            )
        return list(by_split[split])

    def _clips(self) -> dict[str, list[Clip]]:
        if self._by_split is not None:
            return self._by_split
        place, names = self._place()
        by_split: dict[str, list[Clip]] = {split: [] for split in SPLITS}
        broken = 0
        for name, found in zip(names, self._all(place, names), strict=True):
            if isinstance(found, Exception):
                line = one_line(found)
                if self.broken == "stop":
                    raise ShardError(f"{line}; or go on without that shard: data.broken=leave_out") from found
                broken += 1
                logger.warning("%s left out: %s", name, line)
                continue
            for split, clip in found:
                by_split[split].append(clip)
        if broken:
            logger.warning("%s: %d of %d shards left out", self.told, broken, len(names))
        if broken == len(names):
            raise ShardError(f"{self.told}: none of its {broken} shards can be read; copy them anew")
        self._by_split = {split: _told_apart(clips) for split, clips in by_split.items()}
        return self._by_split

    def _place(self) -> tuple[Place, list[str]]:
        """Where the shards lie, and their names."""
        place = Place(self.root, self.keep, self.keep_bytes)
        listed = {shard.name: shard.bytes for shard in read_list(place)}
        names = sorted(listed) if place.is_remote and listed else sorted({*listed, *place.names(".tar")})
        if not names:
            raise FileNotFoundError(
                f"{self.told}: no shard there; expected .tar files, as python -m a2i.prepare data=NAME shards=FOLDER writes"
            )
        by_clip = self.fetch == "clips"
        if place.is_remote and self.fetch is None:
            by_clip = sum(listed.get(name) or place.size(name) for name in names) > self.keep_bytes
        return Place(self.root, self.keep, self.keep_bytes, by_clip), names

    def _all(self, place: Place, names: list[str]) -> Iterator[list[tuple[str, Clip]] | Exception]:
        from rich.progress import track

        def read(name: str) -> list[tuple[str, Clip]] | Exception:
            try:
                return self._shard(place, name)
            except (ShardError, OSError) as error:
                return error

        with ThreadPoolExecutor(READERS) as pool:
            hidden = not sys.stderr.isatty() or len(names) < READERS
            yield from track(pool.map(read, names), "reading indices", len(names), disable=hidden, transient=True)

    def _shard(self, place: Place, name: str) -> list[tuple[str, Clip]]:
        """The clips of a shard with their splits.

        Raises:
            ShardError: it is broken.
            OSError: it can't be read.
        """
        kept = self.keep / "indices" / hashlib.sha256(f"{self.root}/{name}".encode()).hexdigest()
        if (content := place.small(index_name(name))) is not None:
            shard, rows = unpacked(content, name)
        elif (own := _kept_index(kept, name)) is not None and own[0].bytes == place.size(name):
            shard, rows = own
        else:
            shard, rows = indexed(place.whole(name, place.size(name)) if place.is_remote else Path(self.root) / name)
            self._keep(place, kept, shard, rows)
        if not place.is_remote and (size := place.size(name)) != shard.bytes:
            raise ShardError(
                f"{self.told}/{name}: has {size:,} bytes, {shard.bytes:,} as its index says; copy it anew, or, if it is right,"
                f" delete {index_name(name)}"
            )
        strange = Counter(str(row["split"]) for row in rows if _named(row["split"]) is None and row["split"])
        if strange:  # they may be for a test: never learnt from by guess
            logger.warning(
                "%s: %d of its clips left out, of the split %s; expected one of %s",
                *(name, strange.total(), ", ".join(map(repr, strange)), ", ".join(NAMED)),
            )
            rows = [row for row in rows if str(row["split"]) not in strange]
        if shard.unusable:
            more = f" and {len(shard.unusable) - TOLD} more" if len(shard.unusable) > TOLD else ""
            some = "; ".join(shard.unusable[:TOLD])
            logger.warning("%s: %d of its clips left out: %s%s", name, len(shard.unusable), some, more)
        return [self._clip(place, shard, row) for row in rows]

    def _keep(self, place: Place, kept: Path, shard: Shard, rows: list[dict[str, Any]]) -> None:
        """Write an index beside its shard, or where that may not be."""
        content = packed(shard, rows)
        if not place.is_remote:
            try:
                return write_whole(Path(self.root) / index_name(shard.name), content)
            except OSError as error:
                if error.errno not in (EACCES, EPERM, EROFS):
                    raise
        return write_whole(kept, content)

    def _clip(self, place: Place, shard: Shard, row: dict[str, Any]) -> tuple[str, Clip]:
        split = _named(row["split"] or re.split("[-_.]", shard.name)[0])
        if split is None:
            place_of_it = position(row["recording"] or row["name"], self.seed)
            val = self.val_share
            split = "val" if place_of_it < val else "test" if place_of_it < val + self.test_share else "train"
        start, end, sha256 = row["start"], row["end"], bytes.fromhex(row["sha256"])
        held = row["suffix"], row["size"], sha256, (start or 0.0) + row["seconds"]
        member = Member(*held, place, shard.name, shard.bytes, row["key"], row["offset"], self.broken == "leave_out")
        labels = None if row["labels"] is None else frozenset(row["labels"])
        return split, Clip(row["name"], member, tuple(row["captions"]), start, end, labels, recording=row["recording"])


def _kept_index(path: Path, name: str) -> tuple[Shard, list[dict[str, Any]]] | None:
    """The index of a shard that was made here before; None where there is none, or it is damaged: a new one is made."""
    try:
        return unpacked(path.read_bytes(), name)
    except (FileNotFoundError, ShardError):
        return None


def _named(split: str | None) -> str | None:
    return NAMED.get(str(split).lower())


def _told_apart(clips: list[Clip]) -> list[Clip]:
    """The clips; those that have a name of another in their split are called SHARD/KEY: programs number anew in each shard."""
    counts = Counter(clip.name for clip in clips)
    if len(counts) == len(clips):
        return clips
    held: list[Any] = [clip.path for clip in clips]
    return [
        clip if counts[clip.name] == 1 else replace(clip, name=f"{member.shard.removesuffix('.tar')}/{member.key}")
        for clip, member in zip(clips, held, strict=True)
    ]


def read_list(place: Place) -> list[Shard]:
    """What the list of a folder's shards says of them; empty where there is no list.

    Raises:
        ShardError: it is no such list.
    """
    content = place.small(LIST)
    if content is None:
        return []
    try:
        shards = [Shard(**{**row, "unusable": tuple(row["unusable"])}) for row in json.loads(content)["shards"]]
        if any(not isinstance(shard.bytes, int) or FILE.fullmatch(shard.name) is None for shard in shards):
            raise ValueError("names or bytes")
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{place.told}/{LIST}: is no list of shards ({type(error).__name__}: {first_line(error)}); copy it anew"
        ) from error
    return shards
