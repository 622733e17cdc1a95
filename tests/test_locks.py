"""Whoever waits for another process says so."""

import threading
from pathlib import Path

from filelock import FileLock

from a2i.locks import acquire, preparing


def test_waiting_is_said_once_and_ends_when_the_other_does(tmp_path: Path) -> None:
    said: list[str] = []
    other = FileLock(tmp_path / ".lock")
    has_it, told = threading.Event(), threading.Event()

    def hold() -> None:
        with other:
            has_it.set()
            assert told.wait(10), "nothing was said while the other had the lock"

    def say(line: str) -> None:
        said.append(line)
        told.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_it.wait(10)
    with preparing(tmp_path, say):
        thread.join(10)
        assert not thread.is_alive()
    assert said == [f"another process is preparing in {tmp_path}; waiting for it"]


def test_nothing_is_said_of_a_free_lock(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with preparing(tmp_path, said.append):
            pass
    lock = FileLock(tmp_path / ".lock")
    acquire(lock, "trying", said.append)
    lock.release()
    assert not said
