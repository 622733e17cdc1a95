"""What a shard holds: a WebDataset tar file, in which members of one name but for their endings belong to one clip.

The index of `train-000000.tar` is `train-000000.index.jsonl`: a line for the shard, then one for each clip, with the place of
its sound in the tar file. A shard that another program wrote gets its index when it is first opened. No name that stands in a
tar file ever becomes a name on disk: nothing is unpacked, sounds are read where they lie.
"""

import hashlib
import json
import math
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from a2i import audio
from a2i.data.shards.places import Place, ShardError
from a2i.errors import first_line

FORMAT = 1
ENDING = ".index.jsonl"
MEMBER = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)")  # WebDataset's key and ending: the name's first dot divides them
LARGEST_TEXT = 1 << 20  # bytes of a member with a clip's captions
LARGEST_SOUND = 1 << 31
CAPTIONS = ("captions", "caption", "text")  # of a clip's JSON, the first that is there


@dataclass(frozen=True, slots=True)
class Member(audio.Held):
    """The sound of a clip in a shard.

    Attributes:
        place: where the shard lies.
        shard: its file's name.
        total: its bytes.
        key: the member's name without its ending.
        offset: of its first byte in the shard.
        replaceable: whether training may take another clip in its place where it can't be read.
    """

    place: Place
    shard: str
    total: int
    key: str
    offset: int
    replaceable: bool = True

    def read(self) -> bytes:
        content = self._content()
        if content is None and self.place.forget(self.shard):
            content = self._content()
        if content is None:
            raise ShardError(f"{self}: is not what the index of {self.shard} says; copy that shard anew")
        return content

    def _content(self) -> bytes | None:
        """None where it has another hash."""
        content = self.place.read(self.shard, self.offset, self.size, self.total)
        return content if hashlib.sha256(content).digest() == self.sha256 else None

    def __str__(self) -> str:
        return f"{self.place.told}/{self.shard}: {self.key!r}"


@dataclass(frozen=True)
class Shard:
    """A shard, as the first line of its index tells.

    Attributes:
        name: of its file.
        bytes: of it.
        sha256: of it, hexadecimal.
        clips: that it holds.
        seconds: of these together.
        next: the number of the first clip of the data set that a2i did not try to put into it or those before; None for a
            shard that another program wrote.
        unusable: what was wrong with members that are left out, a line each.
    """

    name: str
    bytes: int
    sha256: str
    clips: int
    seconds: float
    next: int | None = None
    unusable: tuple[str, ...] = ()


def index_name(shard: str) -> str:
    """The name of a shard's index."""
    return shard.removesuffix(".tar") + ENDING


def packed(shard: Shard, rows: Iterable[dict[str, Any]]) -> bytes:
    """An index as its file holds it."""
    head = {"format": FORMAT, **{name: getattr(shard, name) for name in Shard.__dataclass_fields__}}
    lines = [head, *rows]
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()


def unpacked(content: bytes, name: str) -> tuple[Shard, list[dict[str, Any]]]:
    """A shard and its clips, from its index.

    Raises:
        ShardError: it is no index of that shard, or an unknown kind of index.
    """
    try:
        # Not str.splitlines, for which a line ends at some characters that a caption may have, too.
        head, *rows = [json.loads(line) for line in content.decode().removesuffix("\n").split("\n")]
        if head.pop("format") != FORMAT or head["name"] != name:
            raise ValueError(f"format or name {head['name']!r}")
        shard = Shard(**{**head, "unusable": tuple(head["unusable"])})
        if len(rows) != shard.clips:
            raise ValueError(f"{len(rows)} clips where it says {shard.clips}")
        for row in rows:
            _check(row)
            if (
                not 0 <= row["offset"] <= row["offset"] + row["size"] <= shard.bytes
                or len(bytes.fromhex(row["sha256"])) != 32
            ):
                raise ValueError(f"the place of {row['key']!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(
            f"{index_name(name)}: is no index of {name} ({type(error).__name__}: {first_line(error)}); delete it, and a new one"
            " is made"
        ) from error
    return shard, rows


def indexed(path: Path) -> tuple[Shard, list[dict[str, Any]]]:
    """The index of a shard that has none, read from the tar file itself.

    Raises:
        FileNotFoundError: there is no such file.
        ShardError: it is no tar file, or is cut short.
    """
    rows, unusable = [], []
    try:
        with path.open("rb") as file:
            for key, members in _grouped(file, path.name):
                try:
                    rows.append(_row(file, path, key, members))
                except (ValueError, OSError, RecursionError) as error:
                    unusable.append(f"{key!r}: {' '.join(str(error).split())}")
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(
            f"{path}: can't be read as a tar file ({first_line(error)}); expected a .tar without compression, whole"
        ) from error
    seconds = math.fsum(row["seconds"] for row in rows)
    return Shard(path.name, size, sha256, len(rows), seconds, None, tuple(unusable)), rows


def _grouped(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """The regular members of each clip by ending; whatever else may lie there (links, devices, folders) is passed over."""
    key, members = "", dict[str, tarfile.TarInfo]()
    end = file.seek(0, 2)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            matched = MEMBER.fullmatch(member.name)
            if member.offset_data + member.size > end:
                raise ShardError(f"{name}: is cut short in {member.name!r}; copy it anew")
            if not member.isreg() or member.issparse() or matched is None:
                continue
            own = matched[1].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # not all is UTF-8
            if own != key and members:
                yield key, members
                members = {}
            key = own
            members[matched[2].lower()] = member
            tar.members = []  # type: ignore[attr-defined] # flat memory, however many there are
        if members:
            yield key, members


def _row(file: BinaryIO, path: Path, key: str, members: dict[str, tarfile.TarInfo]) -> dict[str, Any]:
    """A clip's line of the index.

    Raises:
        ValueError: it has no sound, or no caption; or they can't be read.
    """
    sounds = {ending: member for ending, member in members.items() if f".{ending.rsplit('.', 1)[-1]}" in audio.SUFFIXES}
    if len(sounds) != 1:
        raise ValueError(f"has {len(sounds)} sounds among {sorted(members)}; expected one, such as .flac")
    ((ending, sound),) = sounds.items()
    if sound.size > LARGEST_SOUND:
        raise ValueError(f"its sound has {sound.size:,} bytes; expected at most {LARGEST_SOUND:,}")
    about: dict[str, Any] = {}
    if (member := members.get("json")) is not None:
        about = json.loads(_content(file, member))
        if not isinstance(about, dict):
            raise ValueError("its JSON is no object")
    elif (member := members.get("txt")) is not None:
        about = {"caption": _content(file, member).decode()}
    file.seek(sound.offset_data)
    content = file.read(sound.size)
    row = {
        "key": key,
        "suffix": "." + ending.rsplit(".", 1)[-1],
        "offset": sound.offset_data,
        "size": sound.size,
        "sha256": hashlib.sha256(content).hexdigest(),
        "name": about.get("name", key),
        "captions": _captions(about),
        **{name: about.get(name) for name in ("split", "labels", "recording", "start", "end")},
        "seconds": about.get("seconds", about.get("duration")),
    }
    if not isinstance(row["seconds"], int | float):
        place = Place(str(path.parent), path.parent, 0)
        held = row["suffix"], sound.size, bytes.fromhex(row["sha256"]), 0.0
        row["seconds"] = audio.duration(Member(*held, place, path.name, 0, key, sound.offset_data), exact=False)
    _check(row)
    return row


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST_TEXT:
        raise ValueError(f"{member.name!r} has {member.size:,} bytes; expected at most {LARGEST_TEXT:,}")
    file.seek(member.offset_data)
    return file.read(member.size)


def _captions(about: dict[str, Any]) -> list[str]:
    found: Any = next((about[name] for name in CAPTIONS if about.get(name)), [])
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"its captions are {str(found)[:80]!r}; expected text, or a list of texts")
    if not (kept := [text.strip() for text in texts if text.strip()]):
        raise ValueError(
            f"has no caption; expected {', '.join(CAPTIONS[:-1])} or {CAPTIONS[-1]} in its JSON, or a .txt"
        )
    return kept


def _check(row: dict[str, Any]) -> None:
    """Raise a ValueError where a row does not hold what it should."""
    kinds: dict[str, Any] = {
        "key": str, "suffix": str, "offset": int, "size": int, "sha256": str, "name": str, "captions": list,
        "split": str | None, "labels": list | None, "recording": str | None, "start": int | float | None,
        "end": int | float | None, "seconds": int | float,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(row[name], kind):
            raise ValueError(f"{name} is {str(row[name])[:80]!r}; expected {kind}")
    if not all(isinstance(text, str) for text in [*row["captions"], *(row["labels"] or [])]):
        raise ValueError("captions or labels are not all text")
    numbers = [row[name] for name in ("start", "end", "seconds") if row[name] is not None]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("start, end or seconds are no numbers of at least 0")
    json.dumps(row, ensure_ascii=False).encode()  # a ValueError: half a character, as JSON may hold one
