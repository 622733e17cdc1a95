"""Clips → shards: tar files that are there whole or not at all, each with its index. Killed, it goes on with the next shard."""

import hashlib
import io
import json
import math
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from a2i import audio
from a2i.data import Clip
from a2i.data.shards import LIST
from a2i.data.shards.index import ENDING, FORMAT, Shard, index_name, packed, unpacked
from a2i.errors import one_line
from a2i.locks import preparing
from a2i.whole import sweep, whole, write_whole

Encoding = Literal["original", "flac"]
LISTED = 20  # failures in a message
BLOCK = 512  # bytes of a tar file's header, and to which members are filled up


@dataclass(frozen=True)
class Packed:
    """A clip to be written.

    Attributes:
        about: what its JSON says.
        suffix: its sound's ending, such as `.flac`.
        content: of its sound file.
    """

    about: dict[str, Any]
    suffix: str
    content: bytes


# From the number of a clip on: each clip that follows, or one line that says why it can't be used.
Source = Callable[[int], Iterator[Packed | str]]


def write_clips(
    folder: Path,
    split: str,
    clips: Sequence[Clip],
    shard_mb: float,
    encoding: Encoding = "original",
    rate: int = 16_000,
) -> list[str]:
    """Write a split's clips as shards `SPLIT-000000.tar` and so on. What is there from an earlier call stays.

    Args:
        folder: of the shards; made if missing.
        split: `train`, `val` or `test`.
        clips: of the split, in an order that an earlier call had too.
        shard_mb: megabytes of sound after which a shard is full.
        encoding: `original` copies the bytes of sound files; `flac` keeps what is heard of each clip alone: one channel of
            `rate` Hz and 16 bits.
        rate: in Hz.

    Returns:
        what was wrong with each clip that was left out, in one line.

    Raises:
        ValueError: the folder holds shards of other clips, or an argument does not fit.
        OSError: the disk is full.
    """
    if encoding not in get_args(Encoding):
        raise ValueError(f"got {encoding!r}; expected one of {', '.join(get_args(Encoding))}")

    def source(first: int) -> Iterator[Packed | str]:
        for clip in clips[first:]:
            try:
                yield _packed(clip, split, encoding, rate)
            except (OSError, ValueError) as error:
                yield f"{clip.name!r}: {one_line(error)}"

    return write_split(folder, split, source, [clip.name for clip in clips], shard_mb)


def write_split(folder: Path, split: str, source: Source, names: Sequence[str] | None, shard_mb: float) -> list[str]:
    """As `write_clips`, from any source; `names` of its clips, None where they are unknown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not 0 < shard_mb < math.inf:
        raise ValueError(f"got {shard_mb} MB for a shard; expected more than 0, such as 500")
    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        preparing(folder),
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
    ):
        sweep(folder)
        done, written = _done(folder, split)
        number, first = len(done), (done[-1].next or 0) if done else 0
        failures = [line for shard in done for line in shard.unusable]
        if first:
            _check_same(folder, written, first, source, names)
        total = None if names is None else len(names)
        bar = progress.add_task(f"writing {split}", total=total, completed=first)
        items = source(first)
        more = next(items, None)
        while more is not None:
            name = f"{split}-{number:06d}.tar"
            shard, more = _write_shard(folder / name, first, items, more, shard_mb * 1e6, lambda: progress.advance(bar))
            failures += shard.unusable
            number, first = number + 1, shard.next or 0
        _remove_older(folder, split, number)
        _write_list(folder)
    return failures


def failed(failures: Sequence[str], folder: Path) -> ValueError:
    """An error that lists what was left out."""
    more = f" and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
    clips = "1 clip is" if len(failures) == 1 else f"{len(failures)} clips are"
    return ValueError(
        f"{clips} not in the shards in {folder}: {'; '.join(failures[:LISTED])}{more}. To have all,"
        " mend these and write into a new folder"
    )


def _done(folder: Path, split: str) -> tuple[list[Shard], list[str]]:
    """The shards of a split that are complete: those with an index. And the names of their clips."""
    found: list[Shard] = []
    names: list[str] = []
    while True:
        name = f"{split}-{len(found):06d}.tar"
        if not ((folder / index_name(name)).is_file() and (folder / name).is_file()):
            return found, names
        shard, rows = unpacked((folder / index_name(name)).read_bytes(), name)
        if shard.next is None:
            raise ValueError(
                f"{folder / name}: was written by another program; expected a folder without shards of others"
            )
        found.append(shard)
        names += [row["name"] for row in rows]


def _check_same(folder: Path, written: Sequence[str], first: int, source: Source, names: Sequence[str] | None) -> None:
    """Raise a ValueError where shards hold others than the first clips: else some would be there twice, and others never.

    Args:
        folder: of the shards.
        written: names of the clips that they hold.
        first: number of the clip that comes next.
        source: of the clips.
        names: of all clips; None where they are unknown: then the first is compared alone.
    """
    if names is None and written:
        now = next((item for item in source(0) if isinstance(item, Packed)), None)
        names, written = [] if now is None else [now.about["name"]], written[:1]
    names = (names or [])[:first]
    left = iter(names)
    if (other := next((name for name in written if name not in left), None)) is not None:
        expected = repr(names[0]) if other == written[0] and names else "the clips of an earlier call, in their order"
        place = "the first" if other == written[0] else "one"
        raise ValueError(
            f"{folder}: holds shards of other clips: {place} is {other!r}, expected {expected}; choose a new folder"
        )


def _remove_older(folder: Path, split: str, number: int) -> None:
    """Remove the shards from a number on, behind the last clip: an earlier call wrote them, of another size."""
    while (index := folder / index_name(name := f"{split}-{number:06d}.tar")).is_file():
        index.unlink()
        (folder / name).unlink(missing_ok=True)
        number += 1


def _write_shard(
    path: Path, first: int, items: Iterator[Packed | str], item: Packed | str, most: float, step: Callable[[], None]
) -> tuple[Shard, Packed | str | None]:
    """Write a shard and then its index; returns the next item too, which it had no room for."""
    rows: list[dict[str, Any]] = []
    unusable: list[str] = []
    more: Packed | str | None = item
    taken = 0
    with whole(path) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            while more is not None:
                if isinstance(more, str):
                    unusable.append(more)
                else:
                    if rows and tar.offset + len(more.content) > most:
                        break
                    rows.append(_add(tar, f"{first + taken:09d}", more))
                taken += 1
                step()
                more = next(items, None)
        with partial.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = partial.stat().st_size
    seconds = math.fsum(row["seconds"] for row in rows)
    shard = Shard(path.name, size, sha256, len(rows), seconds, first + taken, tuple(unusable))
    write_whole(path.with_name(index_name(path.name)), packed(shard, rows))  # last: where it is, the shard is done
    return shard, more


def _add(tar: tarfile.TarFile, key: str, item: Packed) -> dict[str, Any]:
    """Add a clip to a shard; returns its line of the index."""
    about = json.dumps(item.about, ensure_ascii=False, allow_nan=False).encode()
    for ending, content in ((".json", about), (item.suffix, item.content)):
        member = tarfile.TarInfo(key + ending)
        member.size, member.mode = len(content), 0o644
        offset = tar.offset + BLOCK
        tar.addfile(member, io.BytesIO(content))
        tar.members = []  # type: ignore[attr-defined] # flat memory
    place = {"offset": offset, "size": len(item.content), "sha256": hashlib.sha256(item.content).hexdigest()}
    return {"key": key, "suffix": item.suffix, **place, **item.about}


def _write_list(folder: Path) -> None:
    """Write what the indices of all shards in a folder begin with."""
    shards = []
    for path in sorted(folder.glob(f"*{ENDING}")):
        with path.open("rb") as file:
            head = json.loads(file.readline())
        head.pop("format")
        shards.append(head)
    write_whole(folder / LIST, (json.dumps({"format": FORMAT, "shards": shards}, indent=1) + "\n").encode())


def _packed(clip: Clip, split: str, encoding: Encoding, rate: int) -> Packed:
    start, end, path = clip.start, clip.end, clip.path
    if encoding == "flac":
        suffix, content = ".flac", _flac(audio.load(path, rate, start, end), rate)
        start = end = None
    elif isinstance(path, audio.Held):
        suffix, content = path.suffix, path.read()
    else:
        suffix, content = path.suffix.lower(), path.read_bytes()
        if suffix not in audio.SUFFIXES:
            suffix = ".wav"  # what a sound file is, its content decides
    seconds = clip.seconds()
    if not seconds > 0:
        raise ValueError(f"lasts {seconds:g} s; expected a sound")
    about = {
        "name": clip.name,
        "captions": list(clip.captions),
        "split": split,
        "labels": None if clip.labels is None else sorted(clip.labels),
        "recording": clip.recording,
        "seconds": seconds,
        "start": start,
        "end": end,
    }
    return Packed(about, suffix, content)


def _flac(waveform: Any, rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def told(shards: Sequence[Shard]) -> str:
    """What shards hold, in one line."""
    clips, seconds, size = (sum(getattr(shard, name) for shard in shards) for name in ("clips", "seconds", "bytes"))
    return f"{len(shards)} shards, {clips} clips, {seconds / 3600:.2f} hours, {size / 1e9:.2f} GB"
