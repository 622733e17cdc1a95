"""What differs between Hydra's launchers: how many trials they take at once, their threads, and how a job of theirs dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from a2i.machine import cores
from a2i.training.launch import by_slurm

ON_CLUSTER = (
    4  # trials at once of a search there, where nothing else is said: what they come to, it can't learn from yet
)


def ranks_from_outside() -> bool:
    """Whether torchrun started several processes, each of which runs this program."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def tasks_of_srun() -> int:
    """How many processes srun started, each of which runs this program; 1 in a batch script, or where there is no SLURM."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) if by_slurm() else 1


def at_once(launcher: Any, asked: int | None, search: bool) -> int | None:
    """How many trials a launcher is given at once.

    Args:
        launcher: of Hydra.
        asked: by the user; None for nothing.
        search: whether what was tried decides what comes next: then fewer at once are better.

    Returns:
        None for all that there are.
    """
    kind = type(launcher).__name__
    if kind == "BasicLauncher":
        return 1  # trains them one after the other
    if kind == "JoblibLauncher":
        jobs = launcher.joblib["n_jobs"]
        return asked or ((jobs if jobs > 0 else cores()) if search else None)
    if kind == "LocalLauncher":  # starts all that it is given
        return asked or cores()
    return asked or (ON_CLUSTER if search else None)


@contextmanager
def threads_for(launcher: Launcher, jobs: int) -> Iterator[None]:
    """Have jobs that are trained at once on this machine share its cores, unless OMP_NUM_THREADS says how many each has.

    joblib sees to that itself, and SLURM gives each job cores of its own.
    """
    ours = type(launcher).__name__ == "LocalLauncher" and "OMP_NUM_THREADS" not in os.environ
    if ours:
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    try:
        yield
    finally:
        if ours:
            del os.environ["OMP_NUM_THREADS"]


@contextmanager
def every_job_returns(launcher: Launcher) -> Iterator[None]:
    """Have submitit's launcher wait for all of its jobs, also where one died; end them all where the sweep is interrupted.

    It asks them for their results in turn, and by itself leaves the others alone at the first that has none.
    """
    if not hasattr(launcher, "_EXECUTOR"):
        yield
        return
    import submitit

    started: list[Any] = []

    before: Any = submitit.AutoExecutor

    class Executor(before):
        def map_array(self, *arguments: Any) -> list[Any]:
            started.extend(super().map_array(*arguments))
            return [_Job(job) for job in started]

    submitit.AutoExecutor = Executor  # type: ignore[misc]  # the launcher takes it from there
    try:
        yield
    except BaseException:
        for job in started:
            if not job.done():
                job.cancel(check=False)
        raise
    finally:
        submitit.AutoExecutor = before  # type: ignore[misc]


class _Job:
    """A job of submitit that has a result however it ended."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def results(self) -> list[JobReturn]:
        try:
            return self.job.results()
        except Exception as error:
            died = ChildProcessError(f"its process ended early; what it wrote: {self.job.paths.stderr}")
            died.__cause__ = error
            return [JobReturn(status=JobStatus.FAILED, _return_value=died)]
