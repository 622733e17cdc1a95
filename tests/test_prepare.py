from pathlib import Path

from programs import run


def test_made_sounds_are_prepared_once_and_counted(tmp_path: Path) -> None:
    arguments = ["data=foley", f"data.root={tmp_path / 'my sounds'}", "data.n_train=4", "data.n_val=2", "data.n_test=1"]
    cache = tmp_path / "my cache"
    arguments += [f"cache={cache}", "features=64", "workers=0", "splits=[train,val,test]"]
    done = run("prepare", *arguments, "data.workers=1")
    assert done.returncode == 0, done.stderr
    assert "preparing 14 entries of at most" in done.stdout
    assert f"14 entries made, the others were there; to train from them: loader.cache={cache}" in done.stdout
    assert [line.split("│")[1:3] for line in done.stdout.splitlines() if line.startswith("│")] == [
        [" train ", " 4     "], [" val   ", " 2     "], [" test  ", " 1     "],
    ]  # fmt: skip
    made = [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.npy")]
    stamps = {path: path.stat().st_mtime_ns for path in made}
    assert len(stamps) == 7 + 14
    assert run("prepare", *arguments).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in made} == stamps


def test_what_is_missing_is_said_in_a_clear_line(tmp_path: Path) -> None:
    done = run("prepare", "data=clotho", f"data.root={tmp_path}", f"cache={tmp_path}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_setting_that_does_not_fit(tmp_path: Path) -> None:
    done = run("prepare", "data=foley", f"data.root={tmp_path}", "data.n_train=1", "splits=[train]", "workers=-1")
    assert done.returncode == 2
    assert "got workers=-1; expected null or a whole number of at least 0" in done.stderr
