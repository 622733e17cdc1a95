"""The sweeper that Hydra runs for `python -m a2i.train -m …`: it asks a study for trials, and has a launcher train them."""

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from a2i import trials
from a2i.audio.addresses import refuse_secrets, without_secrets
from a2i.command_line import quoted
from a2i.compose import plain, say_error
from a2i.errors import first_line, with_kind, without_account
from a2i.fitting import fitting
from a2i.sweep import launching
from a2i.sweep.rows import Row, progress
from a2i.sweep.space import Space, read_space
from a2i.sweep.summary import summarise
from a2i.training.monitor import monitored
from a2i.training.run_folder import is_held
from a2i.trials import Pruning
from a2i.whole import write_text

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

LOCK = ".sweep.lock"


@dataclass(frozen=True)
class Settings:
    """`conf/sweep`; as they stand, those of a sweep over lists of values on the command line.

    Attributes:
        sampler: how the next trial is chosen: all combinations in turn, at random, or by what was tried (Optuna's TPE).
        trials: how many; null for all combinations.
        seed: of what is drawn.
        prune: null, or `after_trials` and `after_validations` of `a2i.trials.Pruning`.
        at_once: trials that are trained at the same time; null for as many as the launcher takes.
        storage: address of the database that keeps the study; null for `study.db` in the sweep's folder.
        params: what is varied, in Hydra's grammar, by setting.
    """

    sampler: Literal["grid", "random", "tpe"] = "grid"
    trials: int | None = None
    seed: int = 0
    prune: dict[str, Any] | None = None
    at_once: int | None = None
    storage: str | None = None
    params: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"got sweep.{name}={value}; expected at least 1, or null")
        if self.trials is None and self.sampler != "grid":
            raise ValueError("got sweep.trials=null; expected a number, as a search has no end of its own")
        if self.seed < 0:
            raise ValueError(f"got sweep.seed={self.seed}; expected at least 0")

    def pruning(self) -> Pruning | None:
        return None if self.prune is None else Pruning(**fitting(Pruning, self.prune, "sweep.prune."))

    def drawn_by(self, number: int) -> "BaseSampler":
        """What draws the trial of a number: the same, whether the sweep was interrupted before it or not."""
        import numpy as np
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return TPESampler(seed=seed) if self.sampler == "tpe" else RandomSampler(seed=seed)


def check(sweep: dict[str, Any]) -> Settings:
    """The settings of `conf/sweep`, checked.

    Raises:
        ValueError: with the full name of one that does not fit, and what was expected.
    """
    settings = Settings(**fitting(Settings, sweep, "sweep."))
    settings.pruning()
    return settings


class StudySweeper(Sweeper):
    """Keeps every trial in a study: what was trained is not trained again, and no job that fails takes others with it."""

    settings: Settings
    space: Space
    folder: Path
    study: "Study"
    launcher: Launcher

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        """Set up.

        Args:
            max_batch_size: trials at once, where `sweep.at_once` says nothing.
            params: what is varied beside `sweep.params`.
        """
        self.max_batch_size = max_batch_size
        self.params = params
        self.task: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Fix the folder of the sweep: each process would make a new one of the time, or of a name that is taken."""
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        given: Any = config.hydra.overrides.hydra
        with open_dict(config):
            config.hydra.sweep.dir = str(self.folder)
            given.append(f"hydra.sweep.dir={quoted(str(self.folder))}")
        self.hydra_context, self.config, self.task = hydra_context, config, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Train what the study has not.

        Raises:
            ValueError: settings do not fit, or the folder is that of another sweep, or in use.
            SystemExit: with the status 1, where a trial failed.
        """
        assert self.config is not None
        if (tasks := launching.tasks_of_srun()) > 1:
            raise ValueError(
                f"got a sweep that srun starts {tasks} times at once, and each would train all of it; start it once: without"
                " srun in the batch script, or with srun --ntasks=1"
            )
        chosen = plain(self.config.get("sweep"))
        ranks = launching.ranks_from_outside()
        installed = find_spec("optuna") is not None
        if chosen is None and (ranks or not installed):
            if not installed:
                print("no record is kept of this sweep; one that can be gone on with needs pip install 'a2i[sweep]'")
            return self._as_hydra_does(arguments)
        if ranks:
            raise ValueError(
                "got sweep= under torchrun, where each rank would choose trials of its own. Start the sweep without torchrun,"
                " with trainer.devices=1; or sweep over lists (training.optimizer.lr=1e-3,2e-3), which all ranks read alike"
            )
        if not installed:
            raise ImportError("optuna is not installed: pip install 'a2i[sweep]'")
        trials.quieten()
        self.settings = check(chosen or {})
        self.space = self._space(arguments)
        self.validate_batch_is_legal(self.space.each_value())
        with alone(self.folder):
            assert self.config is not None
            # An address may hold a password, and others may read the folder.
            write_text(self.folder / "multirun.yaml", without_secrets(OmegaConf.to_yaml(self.config)))
            self.study = self._opened()
            self._take_up()
            try:
                self._train()
            except (KeyboardInterrupt, SystemExit):
                self._close_running("interrupted")
                self._summarise()
                print(f"interrupted; to go on: the same command with hydra.sweep.dir={self.folder}", file=sys.stderr)
                raise
            rows = self._summarise()
        if any(row.outcome in ("failed", "stopped") for row in rows):
            print(f"to train again what failed: the same command with hydra.sweep.dir={self.folder}", file=sys.stderr)
            sys.exit(1)
        return None

    def _as_hydra_does(self, arguments: list[str]) -> Any:
        """Train all combinations without a record."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.task is not None
        basic = BasicSweeper(self.max_batch_size, self.params)
        basic.setup(hydra_context=self.hydra_context, task_function=self.task, config=self.config)
        return basic.sweep(arguments)

    def _space(self, arguments: Sequence[str]) -> Space:
        """What is varied; the jobs are not given what `sweep=` and `sweep.…` say."""
        assert self.hydra_context is not None
        own = [item for item in arguments if re.split("[./@=]", item.lstrip("+~"))[0] != "sweep"]
        params = {**(self.params or {}), **(self.settings.params or {})}
        space = read_space(params, own, self.hydra_context.config_loader)
        if not space.varied and self.settings.sampler != "grid":
            raise ValueError("got a search that varies nothing; expected sweep.params, or SETTING=interval(LOW,HIGH)")
        return space

    def _job(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job."""
        assert self.hydra_context is not None
        assert self.config is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))

    def _opened(self) -> "Study":
        """The study, with what it is of; the jobs are told where it is.

        Raises:
            ValueError: the database can't be had, or the study is of another sweep.
        """
        from optuna import create_study

        assert self.config is not None
        storage = self.settings.storage or trials.storage_of(self.folder)
        # In a database that others use too, a study is known by all of its folder's path.
        name = "sweep" if self.settings.storage is None else self.folder.as_posix()
        first = self._job(self.space.each_value()[0])
        refuse_secrets(OmegaConf.to_container(first.data), "data")  # what all jobs are given is in the study
        monitor, mode = monitored(_needed(first))
        try:
            study = create_study(
                study_name=name,
                storage=storage,
                direction="maximize" if mode == "max" else "minimize",
                load_if_exists=True,
            )
        except Exception as error:  # of SQLAlchemy, of a database's driver, of Optuna
            why = without_account(first_line(error))
            raise ValueError(
                f"got a database for the study that can't be used ({why}); expected sweep.storage=null for one in the sweep's"
                " folder, or an address such as postgresql://USER@HOST/NAME"
            ) from error
        pruning = self.settings.pruning()
        now = {
            **self.space.described(),
            "sampler": self.settings.sampler,
            "seed": self.settings.seed,
            "pruning": None if pruning is None else asdict(pruning),
            "monitor": monitor,
        }
        before = study.user_attrs.get("of")
        if before is None:
            if runs := sorted(self.folder.glob("*/config.yaml")):
                raise ValueError(f"{runs[0].parent}: a run that no sweep has a record of; give another hydra.sweep.dir")
            study.set_user_attr("pruning", now["pruning"])
            study.set_user_attr("of", now)
        elif other := [name for name in now if now[name] != before.get(name)]:
            raise ValueError(
                f"{self.folder}: holds a sweep with another {other[0]} ({_shown(before.get(other[0]))}, not"
                f" {_shown(now[other[0]])}). To go on with it, give the same settings; for another sweep, another"
                " hydra.sweep.dir"
            )
        # The jobs' numbers are those of their trials; what is added here is in no job's record.
        where = quoted(trials.address(storage, name))
        given: Any = self.config.hydra.overrides.hydra
        with open_dict(self.config):
            given.append(f"+hydra.job.env_set={{{trials.STUDY}:{where},{trials.NUMBER}:${{hydra.job.num}}}}")
        return study

    def _trials(self) -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)

    def _take_up(self) -> None:
        """Go on from where the sweep was left: what was killed, stopped or failed is to be trained again."""
        from optuna.trial import TrialState

        for trial in self._trials():
            if trial.state == TrialState.RUNNING and (folder := trials.folder_of(trial)) and is_held(folder):
                raise ValueError(
                    f"{folder}: trial {trial.number} is still being trained by a process of the sweep before. Wait until it has"
                    " ended, or stop it"
                )
        self._close_running("its process ended early")
        again = trials.replaced(self._trials())
        for trial in self._trials():
            wanting = trial.user_attrs.get("outcome") in ("failed", "stopped")
            if trial.state == TrialState.FAIL and wanting and trial.number not in again:
                self._again(trial)
        if self.settings.sampler == "grid":
            begun = sum("again_of" not in trial.user_attrs for trial in self._trials())
            for chosen in self.space.combinations()[begun : self.settings.trials]:
                self.study.enqueue_trial(chosen)

    def _again(self, trial: "FrozenTrial", **attributes: Any) -> None:
        chosen = trial.system_attrs.get("fixed_params", trial.params)  # one that was killed early may lack some
        self.study.enqueue_trial(chosen, user_attrs={"again_of": trial.number, **attributes})

    def _close_running(self, reason: str) -> None:
        from optuna.trial import TrialState

        for trial in self._trials():
            if trial.state == TrialState.RUNNING:
                trials.close(self.study, trial.number, "stopped", reason=reason)

    def _train(self) -> None:
        while count := self._next():
            asked = [self._ask() for _ in range(count)]
            for _, group in itertools.groupby(enumerate(asked), lambda each: each[1].number - each[0]):
                self._launch([trial for _, trial in group])  # a launcher counts its jobs on
            print(progress(self.study, self._total()))

    def _total(self) -> int:
        every = self._trials()
        found = len(every) - len(trials.replaced(every))
        return found if self.settings.sampler == "grid" else max(found, self.settings.trials or 0)

    def _next(self) -> int:
        """How many trials come next, at once."""
        from optuna.trial import TrialState

        every = self._trials()
        waiting = [trial for trial in every if trial.state == TrialState.WAITING]
        if waiting and "alone" in waiting[0].user_attrs:
            return 1
        ready = sum(1 for _ in itertools.takewhile(lambda trial: "alone" not in trial.user_attrs, waiting))
        if ready == len(waiting):
            ready += self._total() - (len(every) - len(trials.replaced(every)))
        asked = self.settings.at_once or self.max_batch_size
        most = launching.at_once(self.launcher, asked, self.settings.sampler != "grid")
        return ready if most is None else min(ready, most)

    def _ask(self) -> "Trial":
        every = self._trials()
        self.study.sampler = self.settings.drawn_by(len(every) - len(trials.replaced(every)))
        return self.study.ask(fixed_distributions=self.space.distributions())

    def _launch(self, asked: "list[Trial]") -> None:
        """Have trials trained; afterwards none of them is running."""
        jobs = [self.space.overrides(trial.params) for trial in asked]
        problem: Exception | None = None
        results: Sequence[JobReturn] = []
        try:
            with launching.threads_for(self.launcher, len(jobs)), launching.every_job_returns(self.launcher):
                results = self.launcher.launch(jobs, initial_job_idx=asked[0].number)
        except Exception as error:
            problem = error
        self._settle([trial.number for trial in asked], results, problem)

    def _settle(self, numbers: Sequence[int], results: Sequence[JobReturn], problem: Exception | None) -> None:
        """Note what became of trials whose jobs could not tell it themselves.

        A process that is killed takes those of joblib's other jobs with it, and which it was can't be told: all of them are
        trained again, each alone.
        """
        from optuna.trial import TrialState

        for place, number in enumerate(numbers):
            trial = self._trials()[number]
            if trial.state != TrialState.RUNNING:
                continue
            if problem is not None and len(numbers) > 1:
                reason = f"a process ended early while trials {numbers[0]} to {numbers[-1]} were trained at once"
                trials.close(self.study, number, "stopped", reason=reason)
                self._again(trial, alone=True)
                continue
            error: Any = problem or getattr(results[place], "_return_value", None)
            told = isinstance(error, Exception) and not isinstance(error, BrokenExecutor)
            reason = with_kind(error) if told else "its process ended early: killed, or for want of memory"
            trials.close(self.study, number, "failed", reason=reason)
            say_error(f"trial {number}: {reason}")

    def _summarise(self) -> list[Row]:
        """Write the summary, and show it."""
        best, words = trials.best_of(self.study), None
        if best is not None:
            config = self._job(self.space.overrides(best.params))
            own = [item for item in self.space.overrides(best.params) if item.startswith("data.")]
            words = [f"data={config.hydra.runtime.choices.data}", *own]
        return summarise(self.study, self.folder, list(self.space.varied), words)


def _needed(config: DictConfig) -> dict[str, Any]:
    """Of a job's configuration, what the monitored value depends on; other settings may have no value here yet."""
    section = {"metrics": plain(OmegaConf.select(config, "training.metrics"))}
    return {"monitor": config.get("monitor"), "bertscore": config.get("bertscore"), "training": section}


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) < 120 else f"{text[:117]}…"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder.

    Raises:
        ValueError: another process has it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{folder}: another process runs a sweep in this folder. Wait until it has ended, or stop it; for a second sweep"
            " beside it give another hydra.sweep.dir"
        ) from None
    try:
        yield
    finally:
        lock.release()
