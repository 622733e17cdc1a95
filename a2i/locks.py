"""Locks that one process holds and others wait for: these say so, as silence looks like a hang."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock


def to_stderr(line: str) -> None:
    """Tell the user."""
    print(line, file=sys.stderr, flush=True)


def acquire(lock: "BaseFileLock", what: str, say: Callable[[str], object] = to_stderr) -> None:
    """Hold a lock, however long another process has it, which is said.

    Args:
        lock: to hold.
        what: another process is doing, for the line.
        say: the line.

    Raises:
        OSError: its file can't be written.
    """
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is {what}; waiting for it")
        lock.acquire()


@contextmanager
def preparing(folder: Path, say: Callable[[str], object] = to_stderr) -> Iterator[None]:
    """Hold the lock in a folder that is there.

    Raises:
        OSError: nothing can be written there.
    """
    from filelock import FileLock

    lock = FileLock(folder / ".lock")
    acquire(lock, f"preparing in {folder}", say)
    try:
        yield
    finally:
        lock.release()
