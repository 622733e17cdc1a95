"""How a run is stopped from outside: between two steps, on all ranks the same two, so that it can go on from there."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from a2i.command_line import INTERRUPTED
from a2i.errors import first_line
from a2i.training import ranks
from a2i.training.run_folder import first_process

REQUEUE = getattr(signal, "SIGUSR1", None)  # SLURM's, before a job's time is up: `#SBATCH --signal=USR1@120`
TERMINATED = 143  # exit status, as a shell gives it after SIGTERM
JOB = re.compile(r"[0-9_]+")


class Stopped(KeyboardInterrupt):
    """The run stops after this step; raised on all ranks."""


class StopBetweenSteps(Callback):
    """Ctrl-C stops a run once the step is done; pressed again, at once. With several ranks SIGTERM does too.

    Under SLURM SIGUSR1 stops it likewise, and puts the job back into the queue: started again it goes on. Lightning's own way
    saves in the midst of a step, on each rank in another.

    Attributes:
        reason: the number of the signal that stopped the run, the same on all ranks; 0 for none.
    """

    def __init__(self) -> None:
        self.asked = self.reason = 0
        self.before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        # Here, before Lightning looks whether anyone handles this signal.
        if REQUEUE is not None and "SLURM_JOB_ID" in os.environ:
            self._handle(REQUEUE)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._handle(signal.SIGINT)
        if trainer.world_size > 1:  # Lightning's tells the others in the midst of whatever they do
            self._handle(signal.SIGTERM)

    def _handle(self, number: int) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = max(self.asked, number)
        if ranks.rank() == 0:
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            print(f"\nstopping after this step{again}", file=sys.stderr)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        self._stop_if_asked(module)

    def on_validation_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        self._stop_if_asked(module)

    def _stop_if_asked(self, module: LightningModule) -> None:
        self.reason = ranks.on_any(self.asked, module.device)
        if self.reason:
            raise Stopped

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


def end_stopped(trainer: Trainer, folder: Path) -> int:
    """Say how a run that was stopped goes on, and put its job back into the queue if that is why; returns the exit status."""
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    reason = next((each.reason for each in callbacks if isinstance(each, StopBetweenSteps)), 0)
    if trainer.received_sigterm:
        reason = signal.SIGTERM
    what = {signal.SIGTERM: "ended by SIGTERM", REQUEUE: "ended before the job's time is up"}.get(reason, "interrupted")
    if first_process():
        print(f"{what}; to go on: python -m a2i.train resume={folder}", file=sys.stderr)
    if REQUEUE is not None and reason == REQUEUE:
        if not first_process() or requeued():
            return 0
        return TERMINATED
    return TERMINATED if reason == signal.SIGTERM else INTERRUPTED


def requeued() -> bool:
    """Put this SLURM job back into the queue; False, and a line that says why, where that fails."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    if not JOB.fullmatch(job):
        print(f"got the job {job!r} of SLURM, which is no number: not put back into the queue", file=sys.stderr)
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"job {job}: not put back into the queue ({first_line(error)})", file=sys.stderr)
        return False
    if done.returncode:
        print(f"job {job}: not put back into the queue ({done.stderr.strip()})", file=sys.stderr)
    return done.returncode == 0
