"""How ranks are started: by torchrun, by SLURM, by Lightning; their folder, and starting again."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_train import ENVIRONMENT, FAST, SMALL, recordings

from a2i.training import launch, run_folder

__all__ = ["recordings"]
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "2",
    "RANK": "0",
    "TORCHELASTIC_MAX_RESTARTS": "0",
}
SLURM = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in (
            *run_folder.RANKS,
            "WORLD_SIZE",
            "LOCAL_WORLD_SIZE",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setattr(run_folder, "_made", {})


def among(monkeypatch: pytest.MonkeyPatch, ranks: dict[str, str], **more: str) -> None:
    for name, value in {**ranks, **more}.items():
        monkeypatch.setenv(name, value)


def test_as_many_devices_as_processes_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"devices": "auto", "max_epochs": 3}
    assert launch.outside(settings) == settings
    with monkeypatch.context() as torchrun:
        among(torchrun, TORCHRUN)
        assert launch.outside(settings) == {"devices": 2, "num_nodes": 3, "max_epochs": 3}
    among(monkeypatch, SLURM)
    assert launch.outside(settings) == {"devices": 4, "num_nodes": 2, "max_epochs": 3}
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # there Lightning starts the ranks
    assert launch.outside(settings) == settings


def test_the_folder_of_a_slurm_job_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all its ranks, and when the job starts again; another command in the same job has another."""
    among(monkeypatch, SLURM)
    monkeypatch.setattr(sys, "argv", ["train", "experiment=mini"])
    folder = launch.shared_folder(str(tmp_path / "mini" / "2026-01-31_12-00-00"))
    assert re.fullmatch(r"slurm_77_[0-9a-f]{6}", Path(folder).name)
    assert Path(folder).is_dir()
    among(monkeypatch, {"SLURM_PROCID": "5", "SLURM_RESTART_COUNT": "1"})
    assert launch.shared_folder(str(tmp_path / "mini" / "2026-01-31_12-00-09")) == folder
    monkeypatch.setattr(sys, "argv", ["train", "experiment=mini", "seed=1"])
    assert launch.shared_folder(str(tmp_path / "mini" / "2026-01-31_12-00-09")) != folder


def test_a_run_has_a_folder_of_its_own_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = str(tmp_path / "run")
    assert launch.shared_folder(wanted) == wanted
    with monkeypatch.context() as by_hand:
        among(by_hand, {"RANK": "1", "WORLD_SIZE": "2"})
        with pytest.raises(ValueError, match=r"got rank 1 of 2, .* set hydra\.run\.dir=FOLDER"):
            launch.shared_folder(wanted)
    among(monkeypatch, TORCHRUN, TORCHELASTIC_MAX_RESTARTS="3")
    with pytest.raises(ValueError, match=r"--max-restarts, .* set hydra\.run\.dir=FOLDER"):
        launch.shared_folder(wanted)


def test_only_what_started_again_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["experiment=mini"]
    (tmp_path / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not launch.goes_on(tmp_path, overrides), "it has no checkpoint yet"
    (tmp_path / "checkpoints").mkdir()
    assert launch.goes_on(tmp_path, overrides)
    with pytest.raises(ValueError, match="holds a run already"):
        launch.goes_on(tmp_path, ["experiment=world"])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    with pytest.raises(ValueError, match="holds a run already"):
        launch.goes_on(tmp_path, overrides)
    monkeypatch.setenv("LOCAL_RANK", "1")  # which Lightning starts when the first has begun
    assert not launch.goes_on(tmp_path, overrides)


def test_a_sweep_is_no_others_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.check_sweep(1, [])
    for devices in (2, "auto", [0, 1]):
        with pytest.raises(ValueError, match="would start the whole sweep anew"):
            launch.check_sweep(devices, [])
    among(monkeypatch, TORCHRUN)
    with pytest.raises(ValueError, match=r"set hydra\.sweep\.dir=FOLDER"):
        launch.check_sweep(2, [])
    launch.check_sweep(2, ["hydra.sweep.dir=sweep"])


@pytest.mark.long
def test_torchruns_ranks_share_a_folder(recordings: Path, tmp_path: Path) -> None:
    """That nobody named: the first rank tells the others."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "a2i.train"]
    settings = [*SMALL, *FAST, f"data.root={recordings}", "trainer.max_epochs=1"]
    done = subprocess.run(
        [*torchrun, *settings], cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs" / "mini").iterdir()
    assert (folder / "captioner" / "captioner.json").exists()
    assert done.stdout.count("run folder: ") == 1


@pytest.mark.long
def test_a_job_that_slurm_starts_again_goes_on(recordings: Path, tmp_path: Path) -> None:
    """Two tasks as srun starts them. One of them gets the signal that announces the end of the job's time: both stop after
    the same step, the job is put back into the queue once, and started again it trains the rest."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.txt\n')
    scontrol.chmod(0o755)
    job = {
        **ENVIRONMENT,
        **SLURM,
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"},
        "SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000),  # Lightning makes the port of it
        "SLURM_NODELIST": "127.0.0.1",
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
    }
    settings = [*SMALL, *FAST, f"data.root={recordings}", "trainer.max_epochs=400", "loader.batch_size=2"]

    def srun(**more: str) -> list[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "a2i.train", *settings]
        places = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}
        return [subprocess.Popen(command, env={**job, **place, **more}, **pipes) for place in places]  # type: ignore[call-overload]

    def ended(tasks: list[subprocess.Popen[str]]) -> list[str]:
        told = [task.communicate(timeout=120)[0] for task in tasks]
        assert [task.returncode for task in tasks] == [0, 0], told
        return told

    tasks = srun()
    last = f"runs/mini/slurm_{job['SLURM_JOB_ID']}_*/checkpoints/last.ckpt"
    until = time.monotonic() + 100
    while not list(tmp_path.glob(last)) and time.monotonic() < until:
        time.sleep(0.1)
    tasks[1].send_signal(signal.SIGUSR1)
    told = ended(tasks)
    assert "ended before the job's time is up; to go on: " in told[0]
    assert (tmp_path / "scontrol.txt").read_text() == f"requeue {job['SLURM_JOB_ID']}\n"
    [folder] = (tmp_path / "runs" / "mini").iterdir()
    tasks = srun(SLURM_RESTART_COUNT="1")
    until = time.monotonic() + 100
    while not (folder / "resumed.yaml").exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.5)
    tasks[0].send_signal(signal.SIGUSR1)
    ended(tasks)
    [again] = yaml.safe_load((folder / "resumed.yaml").read_text())
    assert again["from"] == "last.ckpt"
    assert again["step"] > 0
    assert again["changes"] == {}
    assert len((tmp_path / "scontrol.txt").read_text().splitlines()) == 2
