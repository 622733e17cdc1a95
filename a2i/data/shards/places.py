"""Where shards lie: a folder, or an address that fsspec reads (`s3://…`, `https://…`).

What is remote is read in one of two ways. Where the whole set fits into a folder here, of bounded size, each shard is fetched
once, when it is first wanted. Where it does not, each member is asked for alone, by its range of bytes: every clip comes over
the network once an epoch, to the rank that learns from it, in any order. Both ways give random access, so the order of an epoch
can be shuffled over all clips, and not over a few shards and a buffer.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from a2i.audio import AudioError
from a2i.audio.addresses import is_address, opened_system, without_secrets
from a2i.errors import first_line
from a2i.whole import PARTIAL, sweep, whole

Found = TypeVar("Found")

ATTEMPTS = 3  # at what is remote
CHUNK = 1 << 22  # bytes of a shard that is fetched
_forgotten: set[Path] = set()


class ShardError(AudioError):
    """A shard that can't be read, or holds something else than its index says. In one line."""


@dataclass(frozen=True)
class Place:
    """A folder of shards.

    Attributes:
        root: a folder or an address.
        keep: the folder for what is remote.
        keep_bytes: that may lie there.
        by_clip: whether members of remote shards are asked for alone; else the whole shard comes.
    """

    root: str
    keep: Path
    keep_bytes: int
    by_clip: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether it is an address and no folder."""
        return is_address(self.root)

    @property
    def told(self) -> str:
        """The folder or address for messages: without names, passwords and signatures."""
        return without_secrets(self.root)

    def names(self, ending: str) -> list[str]:
        """Names of the files there that end so, sorted.

        Raises:
            FileNotFoundError: there is no such folder or address, or none that can be listed.
        """
        if not self.is_remote:
            if not os.path.isdir(self.root):
                raise FileNotFoundError(f"{self.told}: no such folder; expected a folder of shards, or an address")
            return sorted(name for name in os.listdir(self.root) if name.endswith(ending) and not name.startswith("."))
        system, path = _system(self.root, os.getpid())
        found = _tried(self.told, lambda: system.ls(path, detail=False))
        return sorted(name for name in (each.rsplit("/", 1)[-1] for each in found) if name.endswith(ending))

    def small(self, name: str) -> bytes | None:
        """All of a small file; None where there is none.

        Raises:
            OSError: it can't be read.
        """
        try:
            if not self.is_remote:
                return (Path(self.root) / name).read_bytes()
            system, path = _system(self.root, os.getpid())
            return bytes(_tried(f"{self.told}/{name}", lambda: system.cat_file(f"{path}/{name}")))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        if not self.is_remote:
            return os.stat(os.path.join(self.root, name)).st_size
        system, path = _system(self.root, os.getpid())
        return int(_tried(f"{self.told}/{name}", lambda: system.size(f"{path}/{name}")) or 0)

    def read(self, name: str, offset: int, size: int, total: int | None = None) -> bytes:
        """Some bytes of a shard; `total` is what it should have.

        Raises:
            OSError: it can't be read.
        """
        if self.is_remote and self.by_clip:
            system, path = _system(self.root, os.getpid())
            what = f"{self.told}/{name}"
            content = bytes(_tried(what, lambda: system.cat_file(f"{path}/{name}", start=offset, end=offset + size)))
            if len(content) > size:
                raise ShardError(
                    f"{what}: the server sent {len(content):,} bytes where {size:,} were asked for: it does not know ranges of"
                    " bytes; set data.fetch=shards"
                )
            return content
        for _ in range(ATTEMPTS):
            path = self.whole(name, total) if self.is_remote else Path(self.root) / name
            try:
                with open(path, "rb") as file:
                    file.seek(offset)
                    return file.read(size)
            except FileNotFoundError:
                if not self.is_remote:
                    raise
        raise FileNotFoundError(
            f"{self.told}/{name}: other processes removed it from {self.keep} {ATTEMPTS} times; set a larger keep_gb"
        )

    def whole(self, name: str, total: int | None = None) -> Path:
        """A remote shard's file here, fetched if it is not. What was not used longest makes room for it.

        Raises:
            OSError: it can't be fetched, or the disk is full.
        """
        path = self._copy(name)
        folder = path.parent
        if _is_whole(path, total):
            os.utime(path)
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            if not _is_whole(path, total):
                sweep(folder)
                with whole(path) as partial:
                    with FileLock(self.keep / ".lock"):
                        self._make_room(total or 0)
                        partial.touch()
                        os.truncate(partial, total or 0)  # others who make room count what is being fetched
                    _tried(f"{self.told}/{name}", lambda: self._fetch(name, partial))
                    if total is not None and (size := partial.stat().st_size) != total:
                        raise ShardError(
                            f"{self.told}/{name}: got {size:,} bytes, expected {total:,} as its index says; copy it anew"
                        )
        return path

    def forget(self, name: str) -> bool:
        """Remove the copy of a remote shard, of which some is not what it should be; False where there is none, or it was
        removed by this process before: then what is remote is damaged."""
        path = self._copy(name)
        if not self.is_remote or self.by_clip or path in _forgotten:
            return False
        _forgotten.add(path)
        path.unlink(missing_ok=True)
        return True

    def _copy(self, name: str) -> Path:
        return self.keep / hashlib.sha256(self.root.encode()).hexdigest()[:16] / name

    def _fetch(self, name: str, partial: Path) -> None:
        system, path = _system(self.root, os.getpid())
        with system.open(f"{path}/{name}", "rb", block_size=CHUNK) as remote, partial.open("r+b") as file:
            while chunk := remote.read(CHUNK):
                file.write(chunk)
            file.truncate()

    def _make_room(self, needed: int) -> None:
        found = {}
        # In this order: what gets its name meanwhile is counted twice, and not missed.
        for pattern in (f"*/.*{PARTIAL}", "*/*.tar"):
            for path in self.keep.glob(pattern):
                with suppress(FileNotFoundError):
                    found[path] = path.stat()
        free = self.keep_bytes - sum(stat.st_size for stat in found.values())
        kept = [(stat, path) for path, stat in found.items() if path.suffix == ".tar"]
        for stat, path in sorted(kept, key=lambda each: each[0].st_mtime):
            if free >= needed:
                break
            path.unlink(missing_ok=True)
            free += stat.st_size


def _is_whole(path: Path, total: int | None) -> bool:
    try:
        return total in (None, os.stat(path).st_size)
    except FileNotFoundError:
        return False


@functools.lru_cache(maxsize=16)
def _system(root: str, process: int) -> Any:
    """fsspec's file system of an address, and the path in it. Its connections are of one process."""
    return opened_system(root.rstrip("/"))


def _tried(what: str, work: Callable[[], Found]) -> Found:
    """What some work on a remote file returns, tried again where the connection fails.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it can't be read; says which.
    """
    for attempt in range(ATTEMPTS):
        try:
            return work()
        except FileNotFoundError:
            raise FileNotFoundError(f"{what}: no such file or address; expected one that holds shards") from None
        except ShardError:
            raise
        except Exception as error:  # each of fsspec's systems has errors of its own
            if isinstance(error, OSError) and error.filename is not None and str(error.filename).startswith("/"):
                raise  # of this machine's disk
            if attempt + 1 == ATTEMPTS:
                raise OSError(
                    f"{what}: can't be read ({type(error).__name__}: {without_secrets(first_line(error))})"
                ) from error
    raise AssertionError("unreachable")
