"""Several processes that caption and draw, each with models of its own. One that dies loses no sound but the one that ended it.

Sounds are handed out in batches, as one process would take them; rows come as they are made. What a dead process had in hand
is given out again, one sound at a time, so that the one which ends processes is known by itself.
"""

import gc
import multiprocessing
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from a2i.audio.addresses import Sound
from a2i.errors import with_kind
from a2i.image_settings import is_mini_painter
from a2i.machine import begin_program, cores, find_device, memory
from a2i.names import is_mini
from a2i.results import GRID, ResultsFile, mark_of
from a2i.rows import Makers, begun
from a2i.work import Work

MANY = 32  # sounds for each process: with fewer, loading the models again costs more than it brings
ROOM = 2 << 30  # bytes that a process with the embedded models takes at most
PATIENCE = 5.0  # seconds in which a process ends when it is asked to


def how_many(work: Work, sounds: int) -> int:
    """Processes that pay: on a CPU one for each core, as far as there are sounds enough and memory; on a GPU one.

    Of models that lie on the Hub it is not known what they take: one.
    """
    most = min(cores(), sounds // MANY)
    if most < 2 or find_device(work.chosen.device).type != "cpu":
        return 1
    chosen, size = work.chosen, 0
    folders = [] if is_mini(chosen.captioner) else [chosen.captioner.get("folder")]
    folders += [] if not chosen.image or is_mini_painter(chosen.image) else [chosen.image.get("model")]
    for folder in map(Path, map(str, folders)):
        if not folder.is_dir():
            return 1
        size += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return max(1, min(most, memory() // (ROOM + 2 * size)))


def rows_by_workers(
    work: Work, sounds: Sequence[Sound], results: ResultsFile, workers: int, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each sound, as it stands in `results.jsonl`, in the order in which they are done.

    Args:
        work: what is done with each.
        sounds: files.
        results: which name the pictures.
        workers: processes.
        tell: is called with each line that the user should read.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a model or a decoding setting does not fit, or can't be loaded.
        OSError: the folder takes no more pictures, or no process stays alive.
    """
    left, alone = iter(sounds), deque[_Asked]()  # what is given out next; what is given out by itself
    threads = max(1, cores() // workers)
    crew = [_Worker.start(work, results.folder, threads, tells=not index) for index in range(workers)]
    try:
        while True:
            for worker in crew:
                worker.top_up(left, alone, work, results)
            if not any(worker.given for worker in crew):
                return
            for connection in wait([worker.connection for worker in crew]):
                worker = next(each for each in crew if each.connection is connection)
                try:
                    said = worker.connection.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    if (row := worker.buried(alone, work)) is not None:
                        yield row
                    if worker.makers is not None:
                        crew.append(_Worker.start(work, results.folder, threads, tells=False))
                    elif not crew:
                        raise ChildProcessError(
                            f"a process ended while it loaded the models ({worker.end}), perhaps for want of memory;"
                            f" got workers={workers}, expected fewer"
                        ) from None
                    continue
                if isinstance(said, dict):
                    worker.given.popleft()
                    yield said
                elif isinstance(said, Makers):
                    worker.makers = said
                elif isinstance(said, BaseException):
                    raise said
                else:
                    tell(said)
    finally:
        for worker in crew:
            worker.connection.close()  # what waits ends itself
            if worker.given:
                worker.process.terminate()
        for worker in crew:
            worker.process.join(PATIENCE)
            worker.process.kill()


@dataclass(frozen=True)
class _Asked:
    """A sound that is given out, with the names that the results gave.

    Attributes:
        sound: a file.
        name: what it is known by.
        picture: file name of its picture.
        grid: file name of its grid.
    """

    sound: Sound
    name: str | None
    picture: str
    grid: str


@dataclass
class _Worker:
    """A process, seen from here.

    Attributes:
        process: that works.
        connection: to it.
        given: what it was given and has not answered, in order.
        by_itself: whether that is one sound which was in a dead process's hands.
        makers: None as long as it loads the models.
        end: how it ended.
    """

    process: BaseProcess
    connection: Connection
    given: deque[_Asked] = field(default_factory=deque)
    by_itself: bool = False
    makers: Makers | None = None
    end: str = ""

    @classmethod
    def start(cls, work: Work, folder: Path, threads: int, tells: bool) -> "_Worker":
        """Start a process, which loads the models."""
        context = multiprocessing.get_context("spawn")  # threads that a fork would copy half run in here already
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work, folder, threads, tells), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def top_up(self, left: Iterator[Sound], alone: deque[_Asked], work: Work, results: ResultsFile) -> None:
        """Give out more, so that the process never waits: a batch beside the one that it works on."""
        if self.by_itself and self.given:
            return
        self.by_itself = False
        if alone:
            if not self.given:
                self.by_itself = True
                self._give([alone.popleft()])
            return
        while len(self.given) <= work.batch_size:
            batch = [
                _Asked(sound, results.key(sound), results.picture_name(sound), _grid_name(work, results, sound))
                for sound in islice(left, work.batch_size)
            ]
            if not batch:
                return
            self._give(batch)

    def _give(self, batch: list[_Asked]) -> None:
        self.given += batch
        with suppress(OSError):  # it died: that is seen when its answer is missed
            self.connection.send(batch)

    def buried(self, alone: deque[_Asked], work: Work) -> dict[str, Any] | None:
        """Have done again what a dead process had in hand; the row of a sound that ended it by itself."""
        self.connection.close()
        self.process.join(PATIENCE)
        code = self.process.exitcode
        self.end = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        if not self.by_itself or self.makers is None:
            alone += self.given
            return None
        (asked,) = self.given
        row = begun(self.makers, asked.sound, mark_of(asked.sound, asked.name), work.settings, work.seed)
        why = (
            f"the process that captioned it ended twice ({self.end}), perhaps for want of memory; workers=1 takes less"
        )
        return row | {"error": why, "seconds": 0.0}


def _grid_name(work: Work, results: ResultsFile, sound: Sound) -> str:
    return results.picture_name(sound, GRID) if work.grid is not None else ""


# --- In the process


class _Given:
    """Where what is made of the sounds in hand belongs, as the results said."""

    def __init__(self, folder: Path, batch: Sequence[_Asked]) -> None:
        self.folder, self._asked = folder, {asked.sound: asked for asked in batch}

    def mark(self, sound: Sound, file: Path) -> dict[str, Any]:
        return mark_of(file, self._asked[sound].name)

    def picture_name(self, sound: Sound, more: str = "") -> str:
        return self._asked[sound].grid if more == GRID else self._asked[sound].picture


def _serve(connection: Connection, work: Work, folder: Path, threads: int, tells: bool) -> None:
    """Load the models, then do what is asked, until nobody asks any more."""
    os.environ |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    begin_program()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # and takes away what is half written
    gc.disable()
    try:
        a2i = work.load(connection.send if tells else lambda line: None)
        gc.freeze()
        gc.enable()
        connection.send(Makers.of(a2i))
        while True:
            batch = connection.recv()
            for row in work.rows(a2i, [asked.sound for asked in batch], _Given(folder, batch)):
                connection.send(row)
    except (EOFError, ConnectionError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except Exception as error:
        with suppress(OSError):
            connection.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same, where it can't be pickled and read again."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(with_kind(error))
    return error
