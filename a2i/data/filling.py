"""Fill caches with all clips, in several processes, with a progress bar. It may be interrupted and started again."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from a2i.data import Clip
from a2i.data.cache import Cache
from a2i.data.download import require_space
from a2i.locks import preparing
from a2i.machine import cores
from a2i.whole import sweep

AHEAD = 4  # clips of each process that wait for it
BYTES = 4  # of a float32
BLOCK = 4_096  # bytes in which disks give room
LISTED = 20  # failures in a message

Task = tuple[Cache, Clip]


def fill(caches: Sequence[Cache], clips: Iterable[Clip], workers: int | None, say: Callable[[str], None]) -> int:
    """Make the entries that are missing. A second call for the same folder waits for the first, then makes the rest.

    Args:
        caches: that share one folder.
        clips: duplicates count once.
        workers: processes; None for one per core, 0 for this process alone.
        say: prints a line for the user.

    Returns:
        how many entries were made.

    Raises:
        OSError: the disk has too little space (checked before the first entry is made), or became full.
        ValueError: some sound files can't be used; the message lists them. The entries of all others exist.
        ChildProcessError: a worker process was killed.
    """
    folder = caches[0].folder
    folder.mkdir(parents=True, exist_ok=True)
    once = list({(clip.path, clip.start, clip.end): clip for clip in clips}.values())
    with preparing(folder, say):
        for below in ("*/", "*/*/"):  # records of settings, and entries
            sweep(folder, below)
        tasks = [(cache, clip) for clip in once for cache in caches if not cache.has(clip)]
        if not tasks:
            return 0
        needed = sum(size(cache, clip) for cache, clip in tasks)
        require_space(folder, needed, f"preparing {len(tasks)} entries")
        say(f"preparing {len(tasks)} entries of at most {needed / 1e9:.2f} GB in {folder}")
        failures = _run(tasks, cores() if workers is None else workers)
    if failures:
        more = f" and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
        raise ValueError(f"{len(failures)} of {len(tasks)} entries can't be made: {'; '.join(failures[:LISTED])}{more}")
    return len(tasks)


def size(cache: Cache, clip: Clip) -> int:
    """Upper bound of an entry's bytes, estimated from the sound file's header."""
    try:
        seconds = clip.seconds()
    except (OSError, ValueError):  # said when it is made
        return 0
    return int(seconds * cache.values_per_second * BYTES) + BLOCK


def _run(tasks: Sequence[Task], workers: int) -> list[str]:
    """Make all entries; returns an error message for each that could not be made."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("preparing", total=len(tasks))
        failures = []
        workers = min(workers, len(tasks))
        for failure in map(_make, tasks) if workers < 2 else _in_processes(tasks, workers):
            failures += [failure] if failure else []
            progress.advance(bar)
    return failures


def _in_processes(tasks: Sequence[Task], workers: int) -> Iterator[str | None]:
    context = multiprocessing.get_context("spawn")  # fork is unsafe where torch has threads
    pool = ProcessPoolExecutor(workers, context, initializer=_begin)
    left, waiting = iter(tasks), set[Future[str | None]]()
    try:
        while True:
            # Not all at once: after Ctrl-C, or where the disk is full, what has not begun never does.
            for _, task in zip(range(workers * AHEAD - len(waiting)), left, strict=False):
                waiting.add(pool.submit(_make, task))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise ChildProcessError("a worker process ended early (out of memory?); run again, or set workers=0") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Start a worker process: it leaves Ctrl-C to the first process, and ends when the first process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    first = multiprocessing.parent_process()
    assert first is not None

    def follow() -> None:
        first.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make(task: Task) -> str | None:
    """Make one entry; returns an error message if its sound file can't be used, else None."""
    cache, clip = task
    try:
        cache(clip)
    except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError) as error:
        return " ".join(str(error).split())
    return None
