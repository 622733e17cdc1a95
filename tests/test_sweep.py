"""Sweeps: every trial kept, none lost and none twice, whatever ends; with a stand-in for training that is quick."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import DictConfig
from programs import _left_as_it_was

import a2i.train  # noqa: F401  # what its configuration resolves with
from a2i import trials
from a2i.command_line import entry_point
from a2i.paths import CONF
from a2i.sweep import launching
from a2i.sweep.sweeper import LOCK, Settings

create_study = pytest.importorskip("optuna", reason="needs the extra sweep").create_study

Task = Callable[[DictConfig], Any]
QUICK = ["experiment=mini", "bertscore=null", "training.metrics=[]"]
VALIDATIONS = 3


def loss(config: DictConfig) -> float:
    return (config.training.optimizer.lr * 1000 - 2) ** 2 + config.training.warmup + config.seed / 100


def learn(config: DictConfig) -> float | None:
    """In place of training: some validations, each better than the one before."""
    trial = trials.here()
    assert trial is not None
    for left in reversed(range(VALIDATIONS)):
        if trial.report(loss(config) + left, "val/loss"):
            return None
    return loss(config)


class Program:
    """`python -m a2i.train` with a stand-in, in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        self.seen: list[tuple[int, float]] = []

    def run(self, *argv: str, task: Task = learn) -> tuple[int, str]:
        """Its exit status, and what it printed."""
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", f"hydra.sweep.dir={self.folder}"]
        self.monkeypatch.setattr(sys, "argv", ["a2i.train", "-m", *QUICK, *quiet, *argv])

        def work(config: DictConfig) -> object:
            self.seen.append((config.seed, config.training.optimizer.lr))
            return task(config)

        status = 0
        with _left_as_it_was():
            try:
                entry_point("train")(work)()
            except SystemExit as ended:
                status = int(ended.code or 0)
        printed = self.capsys.readouterr()
        return status, printed.out + printed.err

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "sweep.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return Program(tmp_path / "a sweep", monkeypatch, capsys)


@pytest.mark.long
def test_a_job_that_fails_takes_no_others_with_it_and_is_trained_again_later(program: Program) -> None:
    def fails(config: DictConfig) -> float | None:
        if config.seed == 1:
            raise ValueError("got 1;\nexpected another")
        if config.seed == 2:
            sys.exit(3)
        return learn(config)

    status, printed = program.run("seed=0,1,2,3", task=fails)
    assert status == 1
    assert [seed for seed, _ in program.seen] == [0, 1, 2, 3]
    assert [row["outcome"] for row in program.rows()] == ["finished", "failed", "failed", "finished"]
    assert program.rows()[1]["reason"] == "got 1; expected another"
    assert program.rows()[2]["reason"] == "ended with the exit status 3"
    assert re.search(r"failed: got 1; expected another", printed)
    assert f"the same command with hydra.sweep.dir={program.folder}" in printed
    assert "best: trial 0, val/loss" in printed
    assert f"'captioner={program.folder / '0' / 'captioner'}' data=foley split=val" in printed

    program.seen.clear()
    status, printed = program.run("seed=0,1,2,3")
    assert (status, [seed for seed, _ in program.seen]) == (0, [1, 2])
    assert [row["trained_again_as"] for row in program.rows()] == ["", "4", "5", "", "", ""]
    assert "trained again: 1 as 4, 2 as 5" in printed
    assert len({row["folder"] for row in program.rows()}) == 6

    (program.folder / "sweep.html").unlink()
    program.seen.clear()
    assert program.run("seed=0,1,2,3")[0] == 0  # nothing is left: the summary is written anew
    assert program.seen == []
    assert (program.folder / "sweep.html").is_file()


@pytest.mark.long
def test_what_is_interrupted_is_kept_and_goes_on(program: Program) -> None:
    def interrupts(config: DictConfig) -> float | None:
        if config.seed == 1:
            raise KeyboardInterrupt
        if config.seed == 5:
            sys.exit(130)  # as training ends after Ctrl-C
        return learn(config)

    status, printed = program.run("seed=0,1,2", task=interrupts)
    assert status == 130
    assert [row["outcome"] for row in program.rows()] == ["finished", "stopped", "waiting"]
    assert f"interrupted; to go on: the same command with hydra.sweep.dir={program.folder}" in printed
    program.seen.clear()
    assert program.run("seed=0,1,2")[0] == 0
    assert sorted(seed for seed, _ in program.seen) == [1, 2]

    program.folder = program.folder / "another"
    assert program.run("seed=5,6", task=interrupts)[0] == 130
    assert [row["outcome"] for row in program.rows()] == ["stopped", "waiting"]


@pytest.mark.long
def test_a_search_is_the_same_however_it_is_interrupted(program: Program, tmp_path: Path) -> None:
    search = ["sweep=random", "sweep.trials=6", "sweep.prune=null", "seed=0,1"]
    assert program.run(*search)[0] == 0
    at_once, program.seen = program.seen, []
    program.folder = tmp_path / "interrupted"

    def interrupts(config: DictConfig) -> float | None:
        if len(program.seen) == 4:
            raise KeyboardInterrupt
        return learn(config)

    assert program.run(*search, task=interrupts)[0] == 130
    assert program.run(*search)[0] == 0
    assert program.seen == [*at_once[:4], at_once[3], *at_once[4:]]
    finished = [row["training.optimizer.lr"] for row in program.rows() if row["outcome"] == "finished"]
    assert len(finished) == len(set(finished)) == 6
    assert all(2e-3 / 5 <= float(lr) <= 2e-3 * 5 for lr in finished)  # about the experiment's own


@pytest.mark.long
def test_what_is_worse_than_the_median_is_stopped_early(program: Program) -> None:
    search = ["sweep=optuna", "sweep.trials=12", "sweep.prune.after_trials=3", "training.label_smoothing=0.1"]
    status, printed = program.run(*search)
    rows = program.rows()
    assert status == 0
    assert Counter(row["outcome"] for row in rows[:3]) == {"finished": 3}
    pruned = [row for row in rows if row["outcome"] == "pruned"]
    assert pruned
    assert all(row["validations"] == "2" and "worse than the median" in row["reason"] for row in pruned)
    assert "training.label_smoothing" not in rows[0]  # one value on the command line takes it out of the space
    best = min(float(row["val/loss"]) for row in rows if row["outcome"] == "finished")
    assert f"val/loss {best:.4g}; to evaluate it" in printed


@pytest.mark.long
def test_one_sweep_one_folder(program: Program) -> None:
    program.run("seed=0,1")
    status, printed = program.run("seed=0,2")
    assert status == 2
    assert "holds a sweep with another varied ({'seed': ['0', '1']}, not {'seed': ['0', '2']})" in printed
    lock = FileLock(program.folder / LOCK)
    with lock:
        assert "another process runs a sweep in this folder" in program.run("seed=0,1")[1]
    program.folder = program.folder.with_name("of before")
    (program.folder / "0").mkdir(parents=True)
    (program.folder / "0" / "config.yaml").touch()
    assert "a run that no sweep has a record of" in program.run("seed=0,1")[1]


@pytest.mark.long
def test_a_trial_that_is_still_trained_is_left_alone(program: Program) -> None:
    def dies(config: DictConfig) -> None:
        raise KeyboardInterrupt

    program.monkeypatch.setattr("a2i.sweep.sweeper.StudySweeper._close_running", lambda *_: None)  # as if killed
    program.run("seed=0,1", task=dies)
    program.monkeypatch.undo()
    (program.folder / "0" / ".lock").touch()
    with FileLock(program.folder / "0" / ".lock"):
        status, printed = program.run("seed=0,1")
    assert status == 2
    assert "trial 0 is still being trained by a process of the sweep before" in printed
    program.seen.clear()
    assert program.run("seed=0,1")[0] == 0
    assert sorted(seed for seed, _ in program.seen) == [0, 1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sweep=optuna", "sweep.trials=null"], "got sweep.trials=null; expected a number"),
        (["sweep=optuna", "sweep.trials=0"], "got sweep.trials=0; expected at least 1"),
        (["sweep=optuna", "sweep.sampler=best"], "got sweep.sampler='best'; expected one of grid, random, tpe"),
        (["sweep=optuna", "sweep.prune.after=3"], "no setting sweep.prune.after here; did you mean"),
        (
            ["sweep=optuna", "sweep.prune.after_trials=many"],
            "got sweep.prune.after_trials='many'; expected a whole number",
        ),
        (["sweep=optuna", "sweep.prune.after_trials=-1"], "got sweep.prune.after_trials=-1; expected"),
        (["sweep=optuna", "sweep.params=null"], "a search that varies nothing"),
        (["sweep=optuna", "sweep.storage=nowhere://x"], "a database for the study that can't be used"),
        (["sweep=optun"], "did you mean optuna?"),
        (["training.warmup=interval(0.0,0.2)"], "an interval for training.warmup in a sweep over all combinations"),
        (["sweep=grid", "model=mini,nothing"], "nothing"),
        (["monitor=val/los"], "expected one of val/loss"),
    ],
)
def test_bad_settings_are_told_before_anything_is_trained(program: Program, argv: list[str], said: str) -> None:
    status, printed = program.run(*argv)
    assert (status, program.seen) == (2, [])
    assert said in printed
    assert "Traceback" not in printed


@pytest.mark.long
def test_ranks_from_outside_read_lists_alike_and_may_not_search(program: Program) -> None:
    program.monkeypatch.setenv("WORLD_SIZE", "2")
    assert "under torchrun, where each rank would choose" in program.run("sweep=optuna")[1]
    assert program.run("seed=0,1", task=lambda _: None)[0] == 0
    assert [seed for seed, _ in program.seen] == [0, 1]
    assert not (program.folder / "study.db").exists()


def test_a_sweep_that_srun_starts_several_times_does_not_begin(program: Program) -> None:
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "sweep"), ("SLURM_NTASKS", "8")):
        program.monkeypatch.setenv(name, value)
    assert launching.tasks_of_srun() == 1, "a batch script, which runs once for all of its tasks"
    program.monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    status, printed = program.run("seed=0,1")
    assert (status, program.seen) == (2, [])
    assert "srun starts 8 times at once" in printed


@pytest.mark.long
def test_without_optuna_lists_are_trained_as_hydra_does(program: Program) -> None:
    program.monkeypatch.setattr("a2i.sweep.sweeper.find_spec", lambda _: None)
    status, printed = program.run("seed=0,1", task=lambda _: None)
    assert (status, [seed for seed, _ in program.seen]) == (0, [0, 1])
    assert "pip install 'a2i[sweep]'" in printed
    assert "pip install 'a2i[sweep]'" in program.run("sweep=optuna")[1]


@pytest.mark.long
def test_sweeps_that_share_a_database_share_no_study(program: Program, tmp_path: Path) -> None:
    """Two folders with the same name and parent's name."""
    storage = f"sweep.storage=sqlite:///{tmp_path / 'all.db'}"
    for own in ("mine", "yours"):
        program.folder = tmp_path / own / "runs" / "rates"
        status, printed = program.run("seed=0,1", "+sweep.sampler=grid", f"+{storage}")
        assert status == 0, printed
    assert len(program.seen) == 4, "each trained its own"


def test_a_databases_password_is_not_told(program: Program) -> None:
    status, printed = program.run("seed=0,1", "+sweep.sampler=grid", "+sweep.storage=nodatabase://me:HIDDEN@host/all")
    assert status == 2
    assert "a database for the study that can't be used" in printed
    assert "HIDDEN" not in printed + (program.folder / "multirun.yaml").read_text()


def test_a_password_for_data_gets_into_no_record(program: Program) -> None:
    status, printed = program.run("seed=0,1", "data=shards", "data.root=https://me:HIDDEN@host/shards")
    assert (status, program.seen) == (2, [])
    assert "got data.root=https://…@host/shards, an address with a password" in printed
    kept = b"".join(path.read_bytes() for path in program.folder.rglob("*") if path.is_file())
    assert b"HIDDEN" not in printed.encode() + kept


def test_a_job_whose_sweep_closed_its_trial_says_so() -> None:
    study = create_study()
    number = study.ask().number
    trials.close(study, number, "stopped", reason="killed")
    with pytest.raises(ValueError, match=r"^trial 0 was closed by its sweep before this job began"):
        trials.Trial(study, number).began("runs/0")


def test_a_trial_is_drawn_by_its_number_alone() -> None:
    def drawn(settings: Settings, number: int) -> int:
        return settings.drawn_by(number)._rng.rng.randint(2**31)  # type: ignore[attr-defined]

    ours = Settings("random", trials=3)
    assert drawn(ours, 1) == drawn(ours, 1)
    assert len({drawn(ours, 0), drawn(ours, 1), drawn(Settings("random", trials=3, seed=1), 0)}) == 3


STAND_IN = """
import os, signal, sys, time
from a2i import train, trials
from a2i.command_line import entry_point

@entry_point("train")
def main(config):
    trial, seed = trials.here(), config.seed
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{trial.number} {seed} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\\n")
    time.sleep(float(os.environ.get("PAUSE", "0")))
    if seed == 7:
        raise ValueError("got 7; expected another")
    if seed == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    trial.report(seed / 10, "val/loss")
    return seed / 10

main()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return path


def begin(stand_in: Path, *argv: str, **environment: str) -> "subprocess.Popen[str]":
    """The stand-in, in a process of its own."""
    folder = stand_in.parent
    own = {**os.environ, "PYTHONPATH": str(CONF.parent), "SEEN": str(folder / "seen"), **environment}
    command = [sys.executable, str(stand_in), "-m", *QUICK, f"hydra.sweep.dir={folder / 'sweep'}", *argv]
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep" / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_job_that_is_killed_takes_no_others_with_it(stand_in: Path, launcher: str) -> None:
    pytest.importorskip("submitit", reason="needs the extra cluster")
    two = (
        ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else ["sweep=grid", "sweep.params=null", "sweep.at_once=3"]
    )
    process = begin(stand_in, "seed=0,8,7", f"hydra/launcher={launcher}", *two)
    printed = process.communicate(timeout=200)[0]
    assert process.returncode == 1, printed
    rows = [row for row in table(stand_in.parent) if not row["trained_again_as"]]
    assert sorted((row["seed"], row["outcome"]) for row in rows) == [
        ("0", "finished"),
        ("7", "failed"),
        ("8", "failed"),
    ]
    reasons = {row["seed"]: row["reason"] for row in rows}
    assert reasons["8"].startswith("its process ended early")
    assert reasons["7"] == "got 7; expected another"
    seen = [line.split() for line in (stand_in.parent / "seen").read_text().splitlines()]
    assert str(process.pid) not in {pid for _, _, pid, _ in seen}
    assert len({number for number, *_ in seen}) == len(seen)  # no two jobs in one folder


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_sweep_that_is_killed_loses_nothing_and_trains_nothing_twice(stand_in: Path) -> None:
    search = ["sweep=random", "sweep.trials=5", "sweep.prune=null", "seed=0"]
    process = begin(stand_in, *search, PAUSE="0.7")
    seen = stand_in.parent / "seen"
    while len(seen.read_text().splitlines()) < 3 if seen.exists() else True:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = begin(stand_in, *search)
    printed = process.communicate(timeout=200)[0]
    assert process.returncode == 0, printed
    rows = table(stand_in.parent)
    finished = [row for row in rows if row["outcome"] == "finished"]
    assert [row["trial"] for row in rows if row["outcome"] == "stopped"] == ["2"]
    assert len({row["training.optimizer.lr"] for row in finished}) == len(finished) == 5
    assert len(seen.read_text().splitlines()) == 6
