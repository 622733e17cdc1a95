"""Checkpoints under kills, full disks and spoilt files."""

import errno
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from conftest import full_disk

from a2i.training.checkpoints import WholeCheckpoints, latest, read, whole_file
from a2i.training.finite import NotFiniteError


def checkpoint(steps: int, weight: float = 0.5, size: int = 1000) -> dict[str, Any]:
    """What of Lightning's a run's checkpoint needs to have."""
    return {
        "state_dict": {"weight": torch.full((size,), weight)},
        "global_step": steps,
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": steps // 5}}}},
        "callbacks": {"EarlyStopping{'monitor': 'val/loss'}": {"wait_count": 2}},
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose last checkpoint is of step 15, the one before of 10, the best of 5."""
    writer = WholeCheckpoints()
    for steps in (5, 10, 15):
        writer.save_checkpoint(checkpoint(steps), tmp_path / "checkpoints" / "last.ckpt")
    writer.save_checkpoint(checkpoint(5), tmp_path / "checkpoints" / "best.ckpt")
    return tmp_path


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_last_and_the_one_before_are_kept(run: Path) -> None:
    assert names(run) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert read(run / "checkpoints" / "previous.ckpt")["global_step"] == 10
    found = latest(run)
    assert (found.path.name, found.steps, found.epochs, found.waited) == ("last.ckpt", 15, 3, 2)


class Interruption:
    """What is interrupted as it is written."""

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


def test_an_interruption_in_the_middle_of_writing_leaves_what_was_there(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint(
            {**checkpoint(20), "more": Interruption()}, run / "checkpoints" / "last.ckpt"
        )
    assert names(run) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert latest(run).steps == 15


def test_a_kill_in_the_middle_of_writing_leaves_what_was_there(run: Path) -> None:
    if (child := os.fork()) == 0:
        with whole_file(run / "checkpoints" / "last.ckpt") as partial:
            partial.write_bytes(b"PK\3\4 the first part")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert latest(run).steps == 15
    WholeCheckpoints().save_checkpoint(checkpoint(20), run / "checkpoints" / "last.ckpt")
    assert names(run) == ["best.ckpt", "last.ckpt", "previous.ckpt"]  # and nothing of the kill


def test_the_temporary_folder_has_no_part_in_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    WholeCheckpoints().save_checkpoint(checkpoint(20), run / "checkpoints" / "last.ckpt")
    assert latest(run).steps == 20


@pytest.mark.parametrize("room", [0, 4_000, 300_000])
def test_a_full_disk_is_told_and_leaves_what_was_there(run: Path, room: int) -> None:
    with (
        full_disk(room),
        pytest.raises(OSError, match=r"last.ckpt: can't be written \(.*\); the checkpoint before it stays"),
    ):
        WholeCheckpoints().save_checkpoint(checkpoint(20, size=100_000), run / "checkpoints" / "last.ckpt")
    assert names(run) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert latest(run).steps == 15


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    where = content.index(torch.full((100,), 0.5).numpy().tobytes())
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "garbage": os.urandom(len(content)),
            "text": b"no checkpoint\n",
            "zeros": bytes(len(content)),
            "a hole": content[:where] + bytes(400) + content[where + 400 :],
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "garbage", "text", "zeros", "a hole"])
def test_one_that_cannot_be_read_is_named_and_the_one_before_taken(
    run: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run / "checkpoints" / "last.ckpt", how)
    assert latest(run).steps == 10
    told = capsys.readouterr().err
    assert f"{run / 'checkpoints' / 'last.ckpt'} (" in told
    assert f"Going on from the one before it: {run / 'checkpoints' / 'previous.ckpt'}, of step 10" in told
    # The next one to be written takes no good one's place.
    WholeCheckpoints().save_checkpoint(checkpoint(15), run / "checkpoints" / "last.ckpt")
    assert latest(run).steps == 15
    assert read(run / "checkpoints" / "previous.ckpt")["global_step"] == 10


def test_where_two_are_spoilt_the_best_is_left(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(run / "checkpoints" / "last.ckpt", "empty")
    spoil(run / "checkpoints" / "previous.ckpt", "cut")
    assert latest(run).path.name == "best.ckpt"
    assert capsys.readouterr().err.count("no checkpoint that can be read") == 2


def test_where_none_can_be_read_all_are_named(run: Path) -> None:
    for name in names(run):
        spoil(run / "checkpoints" / name, "garbage")
    with pytest.raises(ValueError, match=r"nothing to resume: .*last.ckpt .*; .*previous.ckpt .*; .*best.ckpt "):
        latest(run)
    with pytest.raises(FileNotFoundError, match="no such checkpoint, so nothing to resume"):
        latest(run / "elsewhere")


def test_a_kill_between_two_renames_is_no_loss(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    assert latest(run).steps == 10
    assert "last.ckpt: not there" in capsys.readouterr().err


def test_something_else_is_no_checkpoint(run: Path) -> None:
    for other in ({"state_dict": {}}, [1], {"state_dict": {}, "loops": 3, "global_step": 2}):
        torch.save(other, run / "checkpoints" / "last.ckpt")
        with pytest.raises(ValueError, match="no checkpoint that can be read"):
            read(run / "checkpoints" / "last.ckpt")


def test_weights_that_are_not_finite_are_neither_written_nor_taken(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFiniteError, match="not written, because of weights that are not finite: weight"):
        WholeCheckpoints().save_checkpoint(checkpoint(20, torch.nan), run / "checkpoints" / "last.ckpt")
    assert latest(run).steps == 15
    torch.save(checkpoint(20, torch.inf), run / "checkpoints" / "last.ckpt")  # as an earlier version wrote it
    assert latest(run).steps == 10
    assert "has weights that are not finite (weight)" in capsys.readouterr().err


def test_a_file_system_without_links_keeps_the_one_before_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    WholeCheckpoints().save_checkpoint(checkpoint(20), run / "checkpoints" / "last.ckpt")
    assert latest(run).steps == 20
    assert read(run / "checkpoints" / "previous.ckpt")["global_step"] == 15
