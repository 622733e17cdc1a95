"""Files that are there whole or not at all: written beside their place, then moved there."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
ABANDONED = 3_600  # seconds after which nobody is still writing a file


def write_whole(path: Path, content: bytes, flush: bool = True) -> None:
    """Write under another name and rename: the file is there whole or not at all.

    Args:
        path: of the file; missing folders are made.
        content: of the file.
        flush: to the disk before it gets its name, so that this holds for a power failure as well.

    Raises:
        OSError: it can't be written: the folder may not be written to, another program holds the file, or the disk is full.
    """
    try:
        with whole(path) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to piece by piece: renamed to `path` if all goes well, else gone.

    Args:
        path: of the file; missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path, below: str = "") -> None:
    """Remove what processes that were killed left half written; what another may still write to stays.

    Args:
        folder: where they wrote.
        below: a pattern of folders in it that are swept in its place, such as `*/`.
    """
    for path in folder.glob(f"{below}.{'[0-9a-f]' * 32}{PARTIAL}"):
        try:
            # One from the future as well: the clock went back.
            if abs(time.time() - path.stat().st_mtime) > ABANDONED:
                path.unlink()
        except FileNotFoundError:  # it got its name in the meantime
            continue


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all.

    A character that UTF-8 has no bytes for, as in a file name that is no text, is written as an escape.

    Raises:
        OSError: as `write_whole`.
    """
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def not_written(path: Path, error: OSError) -> OSError:
    """An error that says which file can't be written, and what to do."""
    expected = "expected a folder with room that you may write to, and no other program that holds the file"
    return OSError(error.errno, f"can't be written ({error.strerror or error}); {expected}", str(path))
