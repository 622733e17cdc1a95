"""Results as parquet, for millions of sounds: `rows/part-*.parquet` with the columns of `results.jsonl`, and `pictures/`.

The folder is here or at an address. A part holds the rows of some sounds and is there whole or not at all, so that a kill at
any moment loses only what was in hand. A sound is known by its path or address alone; what is done with the same settings is
not done again, and of two rows of a sound the later one stays: `tidy` takes the other away, and puts small parts together.

Every name is a function of the sound alone, as no process knows what others name: the picture of s3://bucket/rain.wav is
`pictures/3f/rain~3f….png`, in one of 256 folders, since no folder should hold millions of files.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes
from uuid import uuid4

from a2i.audio.addresses import (
    Address,
    AddressError,
    Sound,
    is_address,
    key_of,
    opened_system,
    refused,
    without_secrets,
)
from a2i.audio.inputs import readable
from a2i.file_names import DIGITS
from a2i.results import RowSettings, mark_of
from a2i.whole import sweep, write_whole

ROWS, PICTURES = "rows", "pictures"
TODO = ".todo.parquet"  # what is left to do, of results on this machine's disks
LOCK = ".rows.lock"
ABANDONED = timedelta(days=7)  # after which no run follows a plan
STEM = 120  # bytes of a sound's name that its picture keeps
LARGE = 20_000  # rows of a part that is left as it is
READERS = 8  # parts read at once


def full_key(sound: Sound) -> str:
    """A sound's address, or the path of its file, percent-encoded."""
    if isinstance(sound, Address):
        return key_of(sound)
    return quote_from_bytes(os.fsencode(os.path.abspath(sound)), safe="/:+,=@()' ")


def key(sound: Sound) -> str:
    """What a sound is known by: the first 16 hexadecimal digits of its address's SHA-256."""
    return hashlib.sha256(full_key(sound).encode()).hexdigest()[:DIGITS]


def picture_of(sound: Sound, more: str = "") -> str:
    """The name of a sound's picture, relative to the results.

    Args:
        sound: of the picture.
        more: behind its stem, as for a grid.
    """
    stem = os.fsencode(readable(sound.stem))[:STEM].decode("utf-8", "ignore")
    return f"{PICTURES}/{key(sound)[:2]}/{stem}~{key(sound)}{more}.png"


@dataclass(frozen=True)
class Kept:
    """What is known of a sound's row.

    Attributes:
        part: that holds it.
        failed: whether it is an error.
        settings: that made it.
    """

    part: str
    failed: bool
    settings: RowSettings

    def answers(self, asked: RowSettings) -> bool:
        """Whether what is asked is there."""
        is_same = self.settings.caption == asked.caption and asked.image in (None, self.settings.image)
        return not self.failed and is_same


@dataclass(frozen=True)
class Parts:
    """The results in a folder. It can be pickled.

    Attributes:
        out: the folder, or its address.
        todo: name of the file with what is left to do, while a run goes on.
    """

    out: str
    todo: str = TODO

    @classmethod
    def of_a_run(cls, out: str) -> "Parts":
        """The results of a run, with a plan of its own where no lock keeps another from writing there at the same time."""
        return cls(out, f".todo-{uuid4().hex[:DIGITS]}.parquet") if is_address(out) else cls(out)

    @property
    def is_here(self) -> bool:
        """Whether the folder is on this machine's disks."""
        return not is_address(self.out)

    @property
    def told(self) -> str:
        """The folder, as it can be shown."""
        return without_secrets(self.out)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is there whole or not at all.

        Raises:
            OSError: it can't be written.
        """
        if self.is_here:
            write_whole(Path(self.out, name), content)
            return
        try:
            system, root = opened_system(self.out)
            system.pipe_file(f"{root.rstrip('/')}/{name}", content)
        except Exception as error:
            raise refused(error, self.out) from error

    def put(self, file: Path, name: str) -> str:
        """Take a file into the folder, from where it goes; its path or address then."""
        if self.is_here:
            return str(file)
        self.write(name, file.read_bytes())
        file.unlink()
        return f"{self.told.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """The parts that are there.

        Raises:
            OSError: they can't be looked at.
        """
        if self.is_here:
            return sorted(path.name for path in Path(self.out, ROWS).glob("part-*.parquet"))
        try:
            system, root = opened_system(self.out)
            system.invalidate_cache()
            found = system.glob(f"{root.rstrip('/')}/{ROWS}/part-*.parquet")
        except FileNotFoundError:
            return []
        except Exception as error:
            raise refused(error, self.out) from error
        return sorted(path.rpartition("/")[2] for path in found)

    def read(self, name: str, columns: Sequence[str] | None = None) -> Any:
        """A part as a pyarrow table.

        Raises:
            OSError: it can't be read.
        """
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        with self.opened(f"{ROWS}/{name}") as file:
            try:
                return ParquetFile(file).read(columns)
            except ArrowException as error:
                raise OSError(f"{self.told}/{ROWS}/{name}: is no part of results ({error}); take it away") from error

    def opened(self, name: str, mode: str = "rb") -> Any:
        """A file of the folder.

        Raises:
            OSError: it can't be opened.
        """
        try:
            system, root = opened_system(self.out if not self.is_here else os.path.abspath(self.out))
            return system.open(f"{root.rstrip('/')}/{name}", mode)
        except Exception as error:
            if self.is_here:
                raise
            raise refused(error, self.out) from error

    def remove(self, names: Iterable[str]) -> None:
        """Take files away; one that is gone is none the worse."""
        system, root = opened_system(self.out if not self.is_here else os.path.abspath(self.out))
        for name in names:
            with suppress(FileNotFoundError):
                system.rm_file(f"{root.rstrip('/')}/{name}")

    def add(self, rows: Sequence[dict[str, Any]], run: int, name: str) -> None:
        """Write rows as a part, in place of one of that name.

        Args:
            rows: as `results.jsonl` has them, with `key`.
            run: number of the run; later ones count.
            name: of the part in the run: the same, if the same sounds are done again.
        """
        import pyarrow

        table = pyarrow.Table.from_pylist([_without_more(row) for row in rows], schema())
        self.write(f"{ROWS}/part-{run:06}-{name}.parquet", _parquet(table))

    def kept(self) -> dict[str, Kept]:
        """The rows that count, by key: of two of a sound the later, but an error replaces no row of the same settings.

        Raises:
            OSError: a part can't be read.
        """
        found: dict[str, Kept] = {}
        for name, table in self._all(["key", "caption_settings", "image_settings", "error"]):
            shared: dict[tuple[str, str | None, bool], Kept] = {}
            for each, caption, image, error in zip(*(column.to_pylist() for column in table.columns), strict=True):
                row = shared.setdefault(
                    (caption, image, error is not None), Kept(name, error is not None, RowSettings(caption, image))
                )
                before = found.get(each)
                if before is None or not (row.failed and before.answers(row.settings)):
                    found[each] = row
        return found

    def _all(self, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Each part with some columns, in the order of the runs."""
        names = iter(self.names())
        with ThreadPoolExecutor(READERS) as pool:
            while some := list(islice(names, 8 * READERS)):
                yield from zip(some, pool.map(lambda name: self.read(name, columns), some), strict=True)

    def tidy(self) -> int:
        """Take away rows that others replaced, and put small parts together; how many sounds have a row then.

        Raises:
            OSError: a part can't be read or written. No row that counts is lost then.
        """
        import pyarrow

        kept = self.kept()
        counts = Counter(row.part for row in kept.values())
        sizes = {name: table.num_rows for name, table in self._all(["key"])}
        small = [name for name, size in sizes.items() if counts[name] < size or size < LARGE]
        if len(small) == 1 and counts[small[0]] == sizes[small[0]]:
            return len(kept)
        waiting: list[Any] = []
        for place, name in enumerate(small):
            table = self.read(name)
            stays = [kept[each].part == name for each in table["key"].to_pylist()]
            waiting.append(table.filter(pyarrow.array(stays, pyarrow.bool_())))
            done = small[place + 1 - len(waiting) : place + 1]
            if sum(part.num_rows for part in waiting) >= LARGE or place == len(small) - 1:
                whole = pyarrow.concat_tables(waiting)
                merged = None
                if whole.num_rows:
                    merged = f"{name[:11]}-{hashlib.sha256(''.join(done).encode()).hexdigest()[:DIGITS]}.parquet"
                    self.write(f"{ROWS}/{merged}", _parquet(whole))
                self.remove(f"{ROWS}/{old}" for old in done if old != merged)
                waiting = []
        return len(kept)

    def next_run(self) -> int:
        """The number of a run that begins."""
        return max((int(name[5:11]) for name in self.names()), default=0) + 1

    def clear(self) -> None:
        """Take away what a kill left: what was to do then, and half-written files."""
        with suppress(OSError):
            self.remove([self.todo])
        if self.is_here:
            sweep(Path(self.out, ROWS))
            return
        with suppress(Exception):  # plans of runs that were killed, which hold addresses as they were given
            system, root = opened_system(self.out)
            for path in system.glob(f"{root.rstrip('/')}/.todo-*.parquet"):
                if datetime.now(UTC) - system.modified(path) > ABANDONED:
                    system.rm_file(path)


@dataclass
class Plan:
    """What is left to do.

    Attributes:
        sounds: that were asked for.
        left: of them that are not done yet.
        groups: of these, each of which makes a part.
    """

    sounds: int = 0
    left: int = 0
    groups: int = 0
    _known: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls, sounds: Iterable[Sound], parts: Parts, asked: RowSettings, again: bool, rows: int, shares: int
    ) -> "Plan":
        """Write down, in the folder of the results, which sounds are left; they stream through.

        Args:
            sounds: that are asked for.
            parts: the results.
            asked: settings of the rows.
            again: do what is done already.
            rows: of a group at most.
            shares: groups into which a few sounds are divided at least, as far as they go.

        Raises:
            ValueError: no sound was asked for.
            OSError: they can't be written down.
        """
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        plan = cls()
        done = set() if again else {each for each, row in parts.kept().items() if row.answers(asked)}
        left = plan._left(sounds, done)
        head = list(islice(left, rows * shares))
        size = max(1, min(rows, -(-len(head) // shares)))
        if parts.is_here:
            Path(parts.out, ROWS).mkdir(parents=True, exist_ok=True)
            # Addresses stand in it as they were given, signatures too: it is for this user alone, and goes at the end.
            os.close(os.open(Path(parts.out, parts.todo), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        todo = pyarrow.schema([("sound", pyarrow.binary()), ("is_address", pyarrow.bool_())])
        waiting = chain(head, left)
        try:
            with parts.opened(parts.todo, "wb") as file, ParquetWriter(file, todo) as writer:
                while group := list(islice(waiting, size)):
                    texts = [each.text.encode() if isinstance(each, Address) else os.fsencode(each) for each in group]
                    flags = [isinstance(each, Address) for each in group]
                    writer.write_table(pyarrow.table([texts, flags], schema=todo), row_group_size=size)
                    plan.left, plan.groups = plan.left + len(group), plan.groups + 1
        except AddressError:
            raise  # of what is read: a manifest
        except OSError as error:
            raise OSError(
                f"{parts.told}: can't be written to ({without_secrets(str(error))}); expected another out=FOLDER"
            ) from error
        if not plan.sounds:
            raise ValueError("no sound in the manifest; expected one at least")
        return plan

    def _left(self, sounds: Iterable[Sound], done: set[str]) -> Iterator[Sound]:
        for sound in sounds:
            if (name := key(sound)) not in self._known:
                self._known.add(name)
                self.sounds += 1
                if name not in done:
                    yield sound


class Todo:
    """The plan, as those read it who carry it out: group by group."""

    def __init__(self, parts: Parts) -> None:
        from pyarrow.parquet import ParquetFile

        self._table = ParquetFile(parts.opened(parts.todo))

    def group(self, number: int) -> list[Sound]:
        """The sounds of a group."""
        rows = self._table.read_row_group(number).to_pylist()
        return [
            Address(row["sound"].decode()) if row["is_address"] else Path(os.fsdecode(row["sound"])) for row in rows
        ]


class PartPlaces:
    """Where what is made of sounds belongs: in the results, if they are here, else in a folder on the way there.

    Args:
        parts: the results.
        folder: on the way.
    """

    def __init__(self, parts: Parts, folder: Path) -> None:
        self._parts = parts
        self.folder = Path(parts.out) if parts.is_here else folder

    def mark(self, sound: Sound, file: Path) -> dict[str, Any]:
        """What tells a sound's file, as `mark_of` gives it."""
        return mark_of(file, full_key(sound))

    def picture_name(self, sound: Sound, more: str = "") -> str:
        """The name of a sound's picture, relative to `folder`."""
        return picture_of(sound, more)

    def sent(self, row: dict[str, Any], sound: Sound) -> dict[str, Any]:
        """A sound's row with its key, and its pictures in the results.

        Raises:
            OSError: they can't be written there.
        """
        for name in ("image", "grid"):
            if row.get(name):
                file = Path(row[name])
                row[name] = readable(self._parts.put(file, file.relative_to(self.folder).as_posix()))
        return {"key": key(sound)} | row


def schema() -> Any:
    """The columns of a part, as pyarrow has them; those of a row that no column has are in `more`, as JSON."""
    import pyarrow as pa

    words, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    part = pa.struct(
        [("start", pa.float64()), ("end", pa.float64()), ("caption", pa.string()), ("confidence", pa.float64())]
    )
    mark = pa.struct([("name", pa.string()), ("bytes", pa.int64()), ("modified", pa.int64()), ("sha256", pa.string())])
    kinds = {
        pa.string(): "key audio caption image captioner image_model caption_settings image_settings warning grid"
        " captioner_licence image_licence error more",
        pa.float64(): "confidence seconds",
        pa.int64(): "seed image_bytes unseen_tokens",
        pa.bool_(): "flagged",
        words: "candidates",
        numbers: "log_probabilities",
        pa.list_(part): "parts",
        mark: "audio_file",
    }
    order = (
        "key audio caption candidates confidence image error seed captioner image_model seconds warning log_probabilities"
        " flagged unseen_tokens parts image_bytes grid captioner_licence image_licence audio_file caption_settings"
        " image_settings more"
    )
    of = {name: kind for kind, names in kinds.items() for name in names.split()}
    return pa.schema([(name, of[name]) for name in order.split()])


def _without_more(row: dict[str, Any]) -> dict[str, Any]:
    columns = set(schema().names)
    more = {name: value for name, value in row.items() if name not in columns}
    return {name: value for name, value in row.items() if name in columns} | {
        "more": json.dumps(more) if more else None
    }


def _parquet(table: Any) -> bytes:
    from pyarrow.parquet import write_table

    buffer = BytesIO()
    write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
