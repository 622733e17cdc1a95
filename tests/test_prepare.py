import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "a2i.prepare", *arguments], capture_output=True, text=True, check=False
    )


def test_made_sounds_are_prepared_once_and_counted(tmp_path: Path) -> None:
    arguments = ["data=foley", f"data.root={tmp_path / 'my sounds'}", "data.n_train=4", "data.n_val=2", "data.n_test=1"]
    done = run(*arguments, "data.workers=1", "splits=[train,val,test]")
    assert done.returncode == 0, done.stderr
    assert [line.split("│")[1:3] for line in done.stdout.splitlines() if line.startswith("│")] == [
        [" train ", " 4     "], [" val   ", " 2     "], [" test  ", " 1     "],
    ]  # fmt: skip
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(stamps) == 7
    assert run(*arguments).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")} == stamps


def test_what_is_missing_is_said_in_a_clear_line(tmp_path: Path) -> None:
    done = run("data=clotho", f"data.root={tmp_path}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr
