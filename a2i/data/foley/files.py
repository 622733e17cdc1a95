"""Writing the made sounds: whole files or none, in several processes, with a progress bar."""

import logging
import multiprocessing
import os
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from a2i.data.foley.recipe import FoleySettings, wav_of

logger = logging.getLogger(__name__)

CLIPS_A_PROCESS = 32  # fewer are made sooner than a process starts
PATIENCE = 2.0  # seconds after which a progress bar is shown

Task = tuple[FoleySettings, str, int, Path]  # settings, split, index, and the file to be made


def make(tasks: list[Task], workers: int) -> None:
    """Make the files, in several processes where that is worth it, with a progress bar if it takes long."""
    processes = min(workers, len(tasks) // CLIPS_A_PROCESS)
    if processes < 2:
        _watch(map(_write_clip, tasks), len(tasks))
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe where torch has threads
    try:
        with ProcessPoolExecutor(processes, context) as pool:
            _watch(pool.map(_write_clip, tasks, chunksize=8), len(tasks))
    except BrokenProcessPool:  # for instance where the program was piped into Python and can't be started again
        logger.warning("the %d processes that make sounds ended early; going on in this one", processes)
        rest = [task for task in tasks if not task[3].exists()]
        _watch(map(_write_clip, rest), len(rest))


def _watch(steps: Iterable[None], total: int) -> None:
    """Go through the steps; from `PATIENCE` seconds on, show how far they are."""
    began = time.monotonic()
    progress = Progress(console=Console(stderr=True), transient=True)
    bar = progress.add_task("Making sounds", total=total)
    try:
        for _ in steps:
            progress.advance(bar)
            if time.monotonic() - began > PATIENCE:
                progress.start()  # a second start does nothing
    finally:
        progress.stop()


def _write_clip(task: Task) -> None:
    """Make one file; at the module's top level, so that another process can be told to do it."""
    settings, split, index, path = task
    replace(path, wav_of(settings, split, index))


def replace(path: Path, content: bytes) -> None:
    """Write the file under another name and put it in place at once: it is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
