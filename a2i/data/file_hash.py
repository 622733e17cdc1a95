"""Content hashes of sound files, remembered so that unchanged files are not read again.

As in git, a file's hash is stored with its inode, size, modification time and change time; if one of them differs, the file
is read again. (Programs can set the modification time, but not the change time.) A file that changed less than `RACY` seconds
before it was read could change again without a different time stamp: its hash is not stored.
"""

import hashlib
import os
import time
from pathlib import Path

from a2i.audio import Held
from a2i.whole import write_whole

RACY = 3.0  # seconds; time stamps of FAT have steps of two

Signature = tuple[int, int, int, int]  # inode, size, modification and change times in ns


class Contents:
    """Sound files' content hashes, remembered on disk and in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, tuple[Signature, str]] = {}

    def known(self, path: Path | Held) -> str | None:
        """The stored hash of a file's content; None if the file would have to be read."""
        if isinstance(path, Held):
            return path.digest
        return self._remembered(path, _signature(path))

    def digest(self, path: Path | Held) -> str:
        """SHA-256 of a file's content, hexadecimal.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if isinstance(path, Held):
            return path.digest
        signature = _signature(path)
        if (found := self._remembered(path, signature)) is not None:
            return found
        began = time.time()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = began - max(signature[2:]) / 1e9 > RACY
        if settled and signature == _signature(path):
            self.seen[path] = (signature, digest)
            write_whole(self._record(path), " ".join(map(str, (*signature, digest))).encode(), flush=False)
        return digest

    def _remembered(self, path: Path, signature: Signature) -> str | None:
        if path not in self.seen:
            try:
                *numbers, digest = self._record(path).read_text(encoding="ascii").split()
                # Not flushed to disk when it was written: after a power failure it may hold anything.
                if len(numbers) == 4 and len(digest) == 64:
                    self.seen[path] = ((*map(int, numbers),), digest)  # type: ignore[assignment]
            except (OSError, ValueError):
                return None
        known, digest = self.seen.get(path, (None, ""))
        return digest if known == signature else None

    def _record(self, path: Path) -> Path:
        key = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        return self.folder / key[:2] / key[2:]


def _signature(path: Path) -> Signature:
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; expected a sound file") from error
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
