"""A trial of a sweep, as the job that trains it knows it. Optuna keeps the record of a sweep, its study.

A job may run in another process or on another machine than the sweep; it finds its trial by an environment variable, and
tells the study itself what became of it. So nothing is lost where the sweep ends before its jobs do.
"""

import functools
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from a2i.bounds import number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

STUDY, NUMBER = "A2I_STUDY", "A2I_TRIAL"  # environment variables of a sweep's job
Outcome = Literal["finished", "pruned", "failed", "stopped"]


@dataclass(frozen=True)
class Pruning:
    """When a trial is stopped early: where its best value so far is worse than the median of the others at that validation.

    Attributes:
        after_trials: that have finished before any is stopped.
        after_validations: of a trial before it may be stopped.
    """

    after_trials: int = 5
    after_validations: int = 2

    def __post_init__(self) -> None:
        for name in ("after_trials", "after_validations"):
            number(f"sweep.prune.{name}", getattr(self, name), 0, whole=True)

    def pruner(self) -> "BasePruner":
        """Optuna's, for which a trial's first validation is step 1."""
        from optuna.pruners import MedianPruner

        return MedianPruner(self.after_trials, self.after_validations)


class Trial:
    """A trial that a job of this process trains."""

    def __init__(self, study: "Study", number: int) -> None:
        from optuna.trial import Trial as OptunasTrial

        known = study.get_trials(deepcopy=False)[number]
        self.study = study
        self.number = number
        self.validations = len(known.intermediate_values)  # of a job that SLURM started again, not 0
        self.pruned = False
        self.trial = OptunasTrial(study, known._trial_id)

    def began(self, folder: str) -> None:
        """Note the folder of its run.

        Raises:
            ValueError: the sweep has closed the trial, as where it was killed and run again while this job waited in a queue.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.trial.set_user_attr("folder", folder)
        except UpdateFinishedTrialError:
            raise ValueError(
                f"trial {self.number} was closed by its sweep before this job began; nothing is trained. The sweep, run again,"
                " trains what is left"
            ) from None

    def report(self, value: float, monitor: str) -> bool:
        """Tell the study a validation's value.

        Args:
            value: of the monitored value.
            monitor: its name.

        Returns:
            whether training should stop here, because others were better by then.
        """
        if not self.validations:
            self.trial.set_user_attr("monitor", monitor)
        self.validations += 1
        self.trial.report(value, self.validations)
        self.pruned = self.trial.should_prune()
        return self.pruned

    def ended(self, outcome: Outcome, value: float | None = None, reason: str = "") -> None:
        """Tell the study what became of it.

        Args:
            outcome: of the run; one that was pruned is that, whatever is given.
            value: the monitored value at its best; None for none.
            reason: one line, of what failed or was stopped.
        """
        if self.pruned and outcome == "finished":
            outcome = "pruned"
            reason = f"worse than the median at validation {self.validations}; no captioner"
        close(self.study, self.number, outcome, value, reason)


def here() -> Trial | None:
    """The trial that this job trains; None for a run that is no trial."""
    study, number = os.environ.get(STUDY), os.environ.get(NUMBER)
    return _trial(study, int(number)) if study and number else None


@functools.lru_cache(maxsize=1)
def _trial(address: str, number: int) -> Trial:
    from optuna import load_study
    from optuna.pruners import NopPruner
    from optuna.samplers import RandomSampler

    quieten()
    where = json.loads(address)
    study = load_study(study_name=where["study"], storage=where["storage"], sampler=RandomSampler())
    pruning = study.user_attrs.get("pruning")
    study.pruner = NopPruner() if pruning is None else Pruning(**pruning).pruner()
    return Trial(study, number)


def address(storage: str, study: str) -> str:
    """Of a study, as the environment variable has it: the database's address, and the study's name in it."""
    return json.dumps({"storage": storage, "study": study})


def close(study: "Study", number: int, outcome: Outcome, value: float | None = None, reason: str = "") -> None:
    """Note in a study what became of one of its trials; what a job and its sweep note at the same time, counts once.

    A value that is none, or is not finite, can't be compared: to Optuna such a trial has failed, whatever its outcome.
    """
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    trial_id = study.get_trials(deepcopy=False)[number]._trial_id
    state = TrialState.FAIL
    if outcome == "pruned":
        state, value = TrialState.PRUNED, None
    elif outcome == "finished" and value is not None and math.isfinite(value):
        state = TrialState.COMPLETE
    with suppress(UpdateFinishedTrialError):
        for name, text in (("outcome", outcome), ("reason", reason)):
            study._storage.set_trial_user_attr(trial_id, name, text)
        study.tell(number, value if state == TrialState.COMPLETE else None, state, skip_if_finished=True)


def folder_of(trial: "FrozenTrial") -> Path | None:
    """The run folder of a trial; None where its job never began."""
    folder = trial.user_attrs.get("folder")
    return None if folder is None else Path(folder)


def best_of(study: "Study") -> "FrozenTrial | None":
    """The trial with the best value; None where none has finished with one, or they are not of the same monitored value."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not finished or len({trial.user_attrs.get("monitor") for trial in finished}) > 1:
        return None
    return study.best_trial


def replaced(trials: "list[FrozenTrial]") -> dict[int, int]:
    """Of trials that were run again: the number of the other, by their own."""
    return {each.user_attrs["again_of"]: each.number for each in trials if "again_of" in each.user_attrs}


def quieten() -> None:
    """Leave Optuna's words on warnings and errors; all else is in the summary."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage_of(folder: Path) -> str:
    """The address of the database that a sweep's folder holds."""
    return f"sqlite:///{folder / 'study.db'}"
