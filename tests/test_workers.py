"""Several processes that caption: all that they are given comes back once, whatever becomes of them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import programs
import pytest
from conftest import listen_to_ctrl_c
from pretended_work import Missing, Pretended, Stillborn

from a2i import workers
from a2i.names import EMBEDDED
from a2i.results import ResultsFile, RowSettings
from a2i.work import Work
from a2i.workers import how_many, rows_by_workers

CAPTIONER = "a2i.captioner.model.Captioner"


def files(folder: Path, *names: str) -> list[Path]:
    sounds = folder / "sounds"
    sounds.mkdir()
    for name in names:
        (sounds / name).write_bytes(name.encode())
    return [sounds / name for name in names]


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.long), 4])
def test_a_process_that_dies_loses_only_the_sound_that_ended_it(tmp_path: Path, batch_size: int) -> None:
    """Two sounds end every process that gets them, one ends the first alone; the others stood in the same batches."""
    names = [f"{index:02}.wav" for index in range(20)] + ["deadly.wav", "once.wav", "deadly_too.wav"]
    sounds = files(tmp_path, *sorted(names, key=lambda name: sum(name.encode()) % 7))
    told: list[str] = []
    with ResultsFile(tmp_path / "out") as results:
        rows = list(rows_by_workers(Pretended(batch_size=batch_size), sounds, results, 2, told.append))
    assert Counter(Path(row["audio"]).name for row in rows) == Counter(names)
    failed = {Path(row["audio"]).name: row["error"] for row in rows if row["error"]}
    assert set(failed) == {"deadly.wav", "deadly_too.wav"}
    assert "ended twice (signal 9)" in failed["deadly.wav"]
    assert told == ["loaded"]
    assert all(row["caption"] == f"{Path(row['audio']).stem}.png" for row in rows if not row["error"])
    assert all(row["audio_file"]["sha256"] for row in rows)


@pytest.mark.long
def test_what_no_process_can_do_is_said_once(tmp_path: Path) -> None:
    sounds = files(tmp_path, "a.wav", "full.wav", "c.wav")
    with ResultsFile(tmp_path / "out") as results:
        with pytest.raises(ChildProcessError, match=r"loaded the models \(signal 9\).*expected fewer"):
            list(rows_by_workers(Stillborn(), sounds, results, 2, print))
        with pytest.raises(FileNotFoundError, match="no such captioner"):
            list(rows_by_workers(Missing(), sounds, results, 2, print))
        with pytest.raises(OSError, match="No space left"):
            list(rows_by_workers(Pretended(), sounds, results, 2, print))
        assert list(rows_by_workers(Pretended(), [], results, 2, print)) == []


def test_processes_end_with_who_asked(tmp_path: Path) -> None:
    """Those that work are ended, those that wait end themselves."""
    sounds = files(tmp_path, "a.wav", "slow.wav")
    with ResultsFile(tmp_path / "out") as results:
        rows = rows_by_workers(Pretended(), sounds, results, 2, print)
        assert Path(next(rows)["audio"]).name == "a.wav"
        assert len(multiprocessing.active_children()) == 2
        rows.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def chosen(captioner: str, image: str | None = None, device: str | None = "cpu") -> Any:
    model = None if image is None else {"_target_": "a2i.diffusion.Painter", "model": image}
    return SimpleNamespace(captioner={"_target_": CAPTIONER, "folder": captioner}, image=model, device=device)


def test_more_processes_only_where_they_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(chosen: Any, sounds: int, cores: int = 4, memory: int = 64 << 30) -> int:
        monkeypatch.setattr(workers, "cores", lambda: cores)
        monkeypatch.setattr(workers, "memory", lambda: memory)
        return how_many(Work(chosen, RowSettings("a", None)), sounds)

    small = chosen(EMBEDDED, EMBEDDED)
    assert found(small, 1000) == 4
    assert found(small, 1000, cores=1) == 1
    assert found(small, 63) == 1
    assert found(small, 64) == 2
    assert found(small, 1000, memory=5 << 30) == 2
    assert found(small, 1000, memory=0) == 1, "where nobody knows how much there is"
    assert found(chosen("OWNER/NAME"), 1000) == 1, "nobody knows how large it is"
    assert found(chosen(EMBEDDED, "OWNER/NAME"), 1000) == 1
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    assert found(chosen(str(tmp_path)), 1000) == 4
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(20 << 30)  # takes no room
    assert found(chosen(str(tmp_path)), 1000) == 1


@pytest.mark.long
def test_two_processes_find_what_one_finds(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    """The whole command, with a file that is no sound, then again with nothing to do."""
    (sounds / "broken.mp3").write_text("no sound")
    found = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        arguments = [f"audio={sounds}", f"captioner={captioner_folder}", f"image={painter_folder}", "image.steps=1"]
        arguments += [f"out={out}", f"workers={count}", "batch_size=1", "device=cpu", "grid=2x1"]
        done = programs.run("infer", *arguments)
        assert done.returncode == 1, done.stderr
        assert "3 of 4 done, 1 failed" in done.stdout
        rows = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        told = ("audio", "caption", "candidates", "error", "audio_file", "caption_settings", "image_settings")
        found[count] = {row["audio"]: [row[name] for name in told] for row in rows}
        assert {path.name for path in out.glob("*.png")} == {
            f"{name}{more}.png" for name in ("high", "middle", "low") for more in ("", ".grid")
        }
        again = programs.run("infer", *arguments)
        assert "3 of them already before" in again.stdout
    assert found[1] == found[2]


@pytest.mark.long
def test_ctrl_c_ends_them_all_and_what_is_done_is_kept(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    names = [sounds / f"more_{index}.wav" for index in range(40)]
    for name in names:
        name.symlink_to(sounds / "low.wav")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "a2i.infer", f"audio={sounds}", f"captioner={captioner_folder}", "image=none"]
    command += [f"out={out}", "workers=2", "batch_size=1", "device=cpu"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=listen_to_ctrl_c
    )
    deadline = time.monotonic() + 120
    while not (out / "results.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    rows = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 < len(rows) < 43
    assert all(json.loads(row)["error"] is None for row in rows)
    deadline = time.monotonic() + 20
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
