"""A run's folder belongs to one process, and its record stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from a2i.training import run_folder
from a2i.training.run_folder import CHANGES, RANKS, changed, first_process, held, new_folder, note_start, saved_settings

CONFIG: dict[str, Any] = {
    "data": {"_target_": "a2i.data.folder.Folder", "root": "sounds"},
    "model": {},
    "trainer": {"max_epochs": 3, "devices": 1},
    "loader": {"batch_size": 4, "cache": None},
    "training": {},
    "patience": None,
    "logger": {},
}


@pytest.fixture(autouse=True)
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def test_two_that_want_the_same_folder_get_one_each(tmp_path: Path) -> None:
    wanted = str(tmp_path / "runs" / "mini" / "2026-01-31_12-00-00")
    made = []
    for _ in range(3):  # as in three processes
        run_folder._made.clear()
        made += [new_folder(wanted), new_folder(wanted)]
    assert made == [wanted] * 2 + [f"{wanted}_2"] * 2 + [f"{wanted}_3"] * 2
    assert all(Path(name).is_dir() for name in made)


def test_a_folder_is_held_by_one_process_and_let_go_when_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from a2i.training.run_folder import held
with held(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"{tmp_path}: another process is training in this folder"), held(tmp_path):
            raise AssertionError
        other.send_signal(signal.SIGKILL)
    with held(tmp_path):
        pass


def test_a_workers_copy_of_the_process_holds_nothing(tmp_path: Path) -> None:
    """What reads sounds is forked from the run, and may outlive it for seconds when that is killed."""
    reading, writing = os.pipe()
    with held(tmp_path):
        if (worker := os.fork()) == 0:
            os.close(writing)
            os.read(reading, 1)  # until told to end
            os._exit(0)
    with held(tmp_path):
        pass
    os.close(reading)
    os.close(writing)
    os.waitpid(worker, 0)


@pytest.mark.parametrize("name", RANKS)
def test_other_ranks_come_with_the_first(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_process()
    monkeypatch.setenv(name, "0")
    assert first_process()
    with held(tmp_path):
        monkeypatch.setenv(name, "1")
        assert not first_process()
        with held(tmp_path):
            pass


def test_the_record_is_how_it_began_and_what_changed_when(run: Path) -> None:
    note_start(run, run / "checkpoints" / "last.ckpt", 15, {"trainer.max_epochs": 5})
    note_start(run, run / "checkpoints" / "last.ckpt", 20, {})
    note_start(run, run / "checkpoints" / "previous.ckpt", 20, {"data.root": "elsewhere", "loader.num_workers": 0})
    note_start(run, None, 0, {})
    assert yaml.safe_load((run / "config.yaml").read_text()) == CONFIG
    entries = yaml.safe_load((run / "resumed.yaml").read_text())
    assert [(entry["from"], entry["step"]) for entry in entries] == [
        ("last.ckpt", 15),
        ("last.ckpt", 20),
        ("previous.ckpt", 20),
        (None, 0),
    ]
    found = saved_settings(run)
    assert found["trainer"]["max_epochs"] == 5
    assert found["data"]["root"] == "elsewhere"
    assert found["loader"] == {"batch_size": 4, "cache": None, "num_workers": 0}


@pytest.mark.parametrize(("old", "new"), [(False, None), (True, "memory"), ("memory", "memory"), ("folder", "folder")])
def test_the_cache_of_an_older_run(run: Path, old: bool | str, new: str | None) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "loader": {**CONFIG["loader"], "cache": old}}))
    assert saved_settings(run)["loader"]["cache"] == new
    (run / "resumed.yaml").write_text(yaml.safe_dump([{"changes": {"loader.cache": old}}]))
    assert saved_settings(run)["loader"]["cache"] == new


def test_what_an_older_run_read_of_a_clip(run: Path) -> None:
    loader = {**CONFIG["loader"], "prepared": "states"}
    (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "loader": loader}))
    assert saved_settings(run)["loader"] == {**CONFIG["loader"], "inputs": "states"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loader.batch_size", 8),
        ("seed", 1),
        ("experiment", "mini"),
        ("training.optimizer.lr", 0.1),
        ("data._target_", "os.system"),
        ("data.sources.x.root", "y"),
        ("trainer._target_", "a2i.x"),
        ("trainer.callbacks", []),
        ("hydra.run.dir", "x"),
        ("hydra/launcher", "x"),
        ("model", {"bridge": "identity"}),
        ("logger.csv", {}),
        ("loader.cache.x", 1),
    ],
)
def test_what_its_checkpoint_is_of_may_not_change(run: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected no other change than of trainer\.max_epochs, .*begin a new run"):
        changed(CONFIG, {key: value})
    # Neither by the folder itself.
    (run / "resumed.yaml").write_text(yaml.safe_dump([{"changes": {key: value}}]))
    with pytest.raises(ValueError, match="expected no other change"):
        saved_settings(run)


def test_what_it_has_already_is_no_change() -> None:
    assert changed(CONFIG, {"loader.batch_size": 4}) == CONFIG


def test_every_change_that_is_allowed_is_one(run: Path) -> None:
    config = {**CONFIG, "data": {"root": "a", "sources": {"esc10": {"root": "b"}}}}
    for key in CHANGES:
        changed(config, {key.replace("*", "esc10"): "new"})
    assert config["data"]["root"] == "a"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "- 1", "config.yaml: expected the sections data, model"),
        ("config.yaml", "data: {}", "config.yaml: expected the sections data, model"),
        ("config.yaml", "a: [", "config.yaml: can't be read"),
        ("config.yaml", "!!python/object/apply:os.system ['true']", "config.yaml: can't be read"),
        ("resumed.yaml", "a: b", "resumed.yaml: expected a list of entries"),
        ("resumed.yaml", "- 3", "resumed.yaml: expected a list of entries"),
        ("resumed.yaml", "- changes: 3", "resumed.yaml: expected a list of entries"),
    ],
)
def test_a_record_that_is_none(run: Path, file: str, content: str, message: str) -> None:
    (run / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        saved_settings(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected resume=RUN, the folder of a training run"):
        saved_settings(tmp_path / "nothing")


def test_an_older_run_finds_the_modules_where_they_are_now(run: Path) -> None:
    parts = {
        "encoder": {"_target_": "a2i.encoders.ast.ASTEncoder"},
        "decoder": {"_target_": "a2i.decoders.gru.GRUDecoder"},
    }
    (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "model": parts}))
    found = saved_settings(run)["model"]
    assert found["encoder"]["_target_"] == "a2i.captioner.encoders.ast.ASTEncoder"
    assert found["decoder"]["_target_"] == "a2i.captioner.decoders.gru.GRUDecoder"
