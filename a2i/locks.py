"""Locks that one process holds and others wait for: these say so, as silence looks like a hang."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock


BRIEFLY = 2.0  # seconds that nobody is told of: ranks, and jobs of a sweep, come together and find all prepared


def to_stderr(line: str) -> None:
    """Tell the user."""
    print(line, file=sys.stderr, flush=True)


def acquire(lock: "BaseFileLock", what: str, say: Callable[[str], object] = to_stderr) -> None:
    """Hold a lock, however long another process has it; more than `BRIEFLY` is said.

    Args:
        lock: to hold.
        what: another process is doing, for the line.
        say: the line.

    Raises:
        OSError: its file can't be written.
    """
    from filelock import Timeout

    try:
        lock.acquire(timeout=BRIEFLY)
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
