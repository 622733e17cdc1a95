"""Millions of sounds on Ray Data, on one machine or a cluster: what is left to do → actors with models → parts of results.

What is left is divided into groups (`a2i.parts`); a group's rows become a part, written by the actor that made them. Ray hands
the groups out and starts actors in place of those that die. A group that was in a dead actor's hands is done again, one sound
at a time, so that a sound which ends actors is known by itself; it becomes an error. That count is kept here, for Ray would
try it for ever, or give the whole run up.
"""

import gc
import json
import logging
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from a2i.audio.addresses import Sound, without_secrets
from a2i.audio.apart import begin as begin_decoder
from a2i.errors import first_line, with_kind
from a2i.file_names import DIGITS
from a2i.machine import begin_program, cores
from a2i.parts import LOCK, PartPlaces, Parts, Plan, Todo, full_key, key
from a2i.results import mark_of
from a2i.rows import Makers, begun
from a2i.work import Work

STORE = (
    256 << 20
)  # bytes of Ray's memory for what processes share, where it is started here: groups are numbers, rows are text
SHARES = 4  # groups for each actor at least, as far as the sounds go: so that all end at about the same time
PASSES = 5  # in which nothing may happen before a run is given up
PAUSE = 4.0  # seconds between them: Ray needs some to notice that a node is gone, and offers its cores until then
LOADS = 5  # actors that may die one after another while they load the models
SOCKETS = 107  # bytes of a socket's path at most, of which Ray's own part takes some 70
WAIT = "120"  # seconds in which Ray has to start; a busy machine needs more than its own 30


@dataclass(frozen=True)
class RaySettings:
    """The settings below `ray` of `conf/infer.yaml`.

    Attributes:
        address: of a cluster's head, HOST:PORT; `auto` for one that this machine belongs to; None to start Ray here.
        actors: processes with models of their own; None for as many as there are cores or GPUs for.
        cpus: cores of each.
        gpus: GPUs of each; a share for several on one.
        rows: of a part, which is what a death has done again at most.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1
    gpus: float = 0
    rows: int = 64

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise ValueError(f"got ray.actors={self.actors}; expected null or a whole number of at least 1")
        if self.cpus <= 0:
            raise ValueError(f"got ray.cpus={self.cpus:g}; expected a number above 0")
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise ValueError(f"got ray.gpus={self.gpus:g}; expected 0, a share such as 0.5, or a whole number")
        if self.rows < 1:
            raise ValueError(f"got ray.rows={self.rows}; expected a whole number of at least 1")


def caption_on_ray(
    work: Work,
    sounds: Iterable[Sound],
    out: str,
    settings: RaySettings,
    again: bool,
    show: Callable[[Iterator[dict[str, Any]], int], int],
    tell: Callable[[str], None],
) -> tuple[Plan, int]:
    """Caption and draw what is asked and not there yet.

    Args:
        work: what is done with each sound.
        sounds: which stream through.
        out: folder or address of the results.
        settings: of Ray.
        again: do what is done already.
        show: shows the rows as they come, with how many there will be; gives how many failed.
        tell: is called with each line that the user should read.

    Returns:
        what there was to do, and how many sounds failed.

    Raises:
        ValueError: what is asked does not fit.
        OSError: the results can't be written, or no process stays alive.
        ImportError: Ray is not installed.
    """
    _need_ray(settings.address is None)
    parts = Parts.of_a_run(out)
    with _alone(parts):
        parts.clear()
        parts.tidy()
        plan = Plan.of(sounds, parts, work.settings, again, settings.rows, SHARES * (settings.actors or cores()))
        failed = 0
        try:
            if plan.left:
                with _running(settings):
                    failed = show(_rows(work, parts, plan, settings, tell), plan.left)
        finally:
            parts.tidy()
            parts.clear()
    return plan, failed


def _need_ray(is_here: bool) -> None:
    """Import Ray, and have it listen to this machine alone where it `is_here`: whoever reaches its ports can run programs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported
    os.environ.setdefault("RAY_raylet_start_wait_time_s", WAIT)
    if is_here:
        # Ray replaces a 127.0.0.1 that it is told by the machine's own address, but for this setting of no cluster.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError("engine=ray needs packages that are not installed: pip install 'a2i[ray]'") from error


@contextmanager
def _alone(parts: Parts) -> Iterator[None]:
    """No other run writes to the results, as far as that can be known: of an address it can't."""
    if not parts.is_here:
        yield
        return
    from filelock import FileLock, Timeout

    Path(parts.out).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(parts.out, LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{parts.out}: another run writes to it; wait for its end, or choose another out=") from None
    try:
        yield
    finally:
        Path(parts.out, LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _running(settings: RaySettings) -> Iterator[None]:
    """Ray, joined or started here: without a dashboard, its logs in its own files, and reached from this machine alone."""
    import ray

    was_there = ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    with _quiet_data():
        if not was_there:
            try:
                if settings.address is not None:
                    ray.init(address=settings.address, **quiet)
                else:
                    ray.init(
                        address="local",
                        num_cpus=cores(),
                        include_dashboard=False,
                        object_store_memory=STORE,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=_folder(),
                        **quiet,
                    )
            except Exception as error:
                where = f"ray.address={settings.address}" if settings.address else "Ray here"
                raise ConnectionError(f"can't reach or start {where} ({first_line(error)})") from error
        try:
            _check_room(settings, ray.cluster_resources())
            yield
        finally:
            if not was_there:
                ray.shutdown()


def _folder() -> str | None:
    """Where Ray keeps its sockets and logs; None for its own default, where the usual place has too long a name for sockets."""
    folder = os.path.join(tempfile.gettempdir(), "ray")
    return folder if len(folder) < SOCKETS - 70 else None


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Have Ray Data say nothing here: progress is shown by who asked, and its log is in a file of Ray's."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before = context.enable_progress_bars, context.max_errored_blocks
    # A block whose actor died is left out, and found missing.
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    logger = logging.getLogger("ray.data")
    handlers, level, propagate = [*logger.handlers], logger.level, logger.propagate
    logger.handlers, logger.propagate = [], False
    logger.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        context.enable_progress_bars, context.max_errored_blocks = before
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


def _check_room(settings: RaySettings, there: dict[str, float]) -> None:
    """Raise a ValueError where not even one actor has room: Ray would wait for ever."""
    for name, wanted, kind in (("cpus", settings.cpus, "CPU"), ("gpus", settings.gpus, "GPU")):
        if wanted > there.get(kind, 0):
            raise ValueError(f"got ray.{name}={wanted:g}; expected at most {there.get(kind, 0):g}, all there are")


def actors_of(settings: RaySettings, there: dict[str, float], groups: int) -> int:
    """Actors that there is room and work for.

    Args:
        settings: of Ray.
        there: resources of the cluster, by Ray's names.
        groups: to be done.
    """
    room = there.get("CPU", 0) / settings.cpus
    if settings.gpus:
        room = min(room, there.get("GPU", 0) / settings.gpus)
    return max(1, min(int(room), groups, settings.actors or groups))


def _rows(
    work: Work, parts: Parts, plan: Plan, settings: RaySettings, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Each sound's row, as soon as its group is done and written; until none is left, however many actors die.

    Raises:
        ValueError, OSError: what stops all: models that can't be loaded, results that can't be written.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    attempts: Any = ray.remote(Attempts).options(num_cpus=0, scheduling_strategy=here).remote()
    left, run, told, idle = set(range(plan.groups)), parts.next_run(), False, 0
    while left:
        before = len(left), ray.get(attempts.count.remote())
        for group, rows, said in _passed(work, parts, sorted(left), run, settings, attempts):
            for line in said if not told else ():
                tell(line)
            told = told or bool(said)
            left.discard(group)
            yield from rows
        idle = idle + 1 if before == (len(left), ray.get(attempts.count.remote())) else 0
        if left and idle:
            time.sleep(PAUSE)
        if left and idle >= PASSES:
            raise ChildProcessError(
                f"{len(left):,} groups of sounds were not done, as no process stayed alive to do them, perhaps for want of"
                " memory; fewer ray.actors take less. The same command again goes on"
            )


def _passed(
    work: Work, parts: Parts, groups: Sequence[int], run: int, settings: RaySettings, attempts: Any
) -> Iterator[tuple[int, list[dict[str, Any]], list[str]]]:
    """Those of the groups whose actors stayed alive, each with its rows, and with what is to be told of the models."""
    import ray

    actors = actors_of(settings, ray.cluster_resources(), len(groups))
    data = ray.data.from_items([{"group": group} for group in groups], override_num_blocks=len(groups))
    with warnings.catch_warnings():  # Ray means to take the last two away, and offers nothing in their place yet
        warnings.simplefilter("ignore", DeprecationWarning)
        done = data.map_batches(
            _Captioner,
            fn_constructor_args=(work, parts, run, attempts, actors),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            num_cpus=settings.cpus,
            num_gpus=settings.gpus or None,
            max_restarts=0,
            max_task_retries=0,
        )
    rows = iter(done.iter_rows())
    while True:
        try:
            found = next(rows, None)
        except ray.exceptions.RayError:  # the actors died before they began: the next pass asks for others
            return
        if found is None:
            return
        if found["failure"]:
            kind, message = json.loads(found["failure"])
            raise (ValueError if kind == "ValueError" else OSError)(message)
        yield int(found["group"]), json.loads(found["rows"]), json.loads(found["said"])


class Attempts:
    """Counts what was begun and not ended, as its process died."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._all = 0

    def begin(self, name: str) -> int:
        """Begin something; how often it was begun before without an end."""
        self._all += 1
        self._begun[name] += 1
        return self._begun[name] - 1

    def end(self, *names: str) -> None:
        """It is done."""
        for name in names:
            self._begun.pop(name, None)

    def count(self) -> int:
        """How often anything was begun."""
        return self._all


# --- In the actors


class _Captioner:
    """Loads the models once, then makes a part of each group; one of so many actors."""

    def __init__(self, work: Work, parts: Parts, run: int, attempts: Any, actors: int) -> None:
        self._begin_process()
        self._work, self._parts, self._run, self._attempts = work, parts, run, attempts
        self._said: list[str] = []
        self._failure: Exception | None = None
        gc.disable()
        try:
            if self._begin("load") >= LOADS + actors - 1:  # the others may be loading them at this moment
                raise ChildProcessError(
                    f"{LOADS} processes ended one after another while they loaded the models, perhaps for want of memory;"
                    " fewer ray.actors take less"
                )
            begin_decoder()
            self._a2i = work.load(self._said.append)
            self._makers = Makers.of(self._a2i)
            self._todo = Todo(parts)
            self._end("load")
        except Exception as error:
            self._failure = error
        gc.freeze()
        gc.enable()

    def _begin_process(self) -> None:
        """Set up the process, which is this actor's own."""
        begin_program()
        logging.getLogger().setLevel(logging.ERROR)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (group,) = batch["group"]
        answer: dict[str, list[Any]] = {
            "group": [int(group)],
            "rows": ["[]"],
            "said": [json.dumps(self._said)],
            "failure": [""],
        }
        try:
            if self._failure is not None:
                raise self._failure
            answer["rows"] = [json.dumps(self._done(int(group)))]
        except Exception as error:
            kind = "ValueError" if isinstance(error, ValueError) else "OSError"
            answer["failure"] = [json.dumps([kind, without_secrets(with_kind(error))])]
        return answer

    def _done(self, group: int) -> list[dict[str, Any]]:
        """The rows of a group, which are in the results then."""
        sounds = self._todo.group(group)
        name = f"group {group}"
        is_first = not self._begin(name)
        rows = self._rows(sounds) if is_first else [row for sound in sounds for row in self._alone(sound)]
        digest = sha256("".join(map(key, sounds)).encode()).hexdigest()[:DIGITS]
        self._parts.add(rows, self._run, digest)
        self._end(name, *(f"sound {key(sound)}" for sound in sounds))
        return rows

    def _rows(self, sounds: Sequence[Sound]) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="a2i-") as folder:  # for each group: Ray ends actors without a farewell
            places = PartPlaces(self._parts, Path(folder))
            made = self._work.rows(self._a2i, sounds, places)
            return [places.sent(row, sound) for sound, row in zip(sounds, made, strict=True)]

    def _alone(self, sound: Sound) -> list[dict[str, Any]]:
        """The row of a sound which was in a dead process's hands; an error, if it alone ended one."""
        name = f"sound {key(sound)}"
        if not self._begin(name):
            rows = self._rows([sound])
            self._end(name)
            return rows
        row = begun(self._makers, sound, mark_of(sound, full_key(sound)), self._work.settings, self._work.seed)
        why = "the process that captioned it ended twice, perhaps for want of memory; fewer ray.actors leave more of it"
        return [{"key": key(sound)} | row | {"error": why, "seconds": 0.0}]

    def _begin(self, name: str) -> int:
        import ray

        return int(ray.get(self._attempts.begin.remote(name)))

    def _end(self, *names: str) -> None:
        self._attempts.end.remote(*names)
