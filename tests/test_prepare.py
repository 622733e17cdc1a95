from pathlib import Path

import pytest
from programs import run
from shard_sets import noises

from a2i.data.shards import Shards
from a2i.prepare import check


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


@pytest.mark.parametrize("name", ["shards", "cache"])
def test_nothing_is_written_to_an_address(name: str) -> None:
    """As a path it would be the folder `s3:` here."""
    about = {"data": {}, "splits": ["train"], "cache": None, "waveforms": True, "features": None, "kind": "ast"}
    rest = {"workers": None, "shards": None, "shard_mb": 500.0, "encoding": "original"}
    with pytest.raises(ValueError, match=rf"got {name}=s3://…@bucket/x, an address; expected a folder of this machine"):
        check({**about, **rest, name: "s3://me:password@bucket/x"})


@pytest.mark.long
def test_shards_are_written_and_prepared_from(tmp_path: Path) -> None:
    made = [
        "data=foley",
        f"data.root={tmp_path / 'made'}",
        "data.n_train=4",
        "data.n_val=2",
        "data.n_test=1",
        "data.workers=1",
    ]
    shards, every = tmp_path / "shards", "splits=[train,val,test]"
    done = run("prepare", *made, every, f"shards={shards}", "shard_mb=0.5")
    assert done.returncode == 0, done.stderr
    assert (
        f"7 clips, 0.01 hours, 0.00 GB in {shards}; to learn from them: data=shards data.root={shards}" in done.stdout
    )
    assert not (tmp_path / "made" / "cache").exists()
    cache = tmp_path / "cache"
    again = run("prepare", "data=shards", f"data.root={shards}", every, f"cache={cache}", "workers=0")
    assert again.returncode == 0, again.stderr
    assert "7 entries made" in again.stdout
    assert (
        "error: got encoding='mp3'; expected one of original, flac"
        in run("prepare", *made, f"shards={shards}", "encoding=mp3").stderr
    )
    assert (
        "error: got shard_mb=0; expected more than 0" in run("prepare", *made, f"shards={shards}", "shard_mb=0").stderr
    )


def test_what_cannot_be_written_into_shards_is_listed_and_the_rest_is_there(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    (good,) = noises(tmp_path, 1)
    (tmp_path / "captions.csv").write_text(f"file_name,caption,split\nbad.wav,x,train\n{good.name},y,train\n")
    done = run("prepare", "data=folder", f"data.root={tmp_path}", "splits=[train]", f"shards={tmp_path / 'shards'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "1 clip is not in the shards in " in done.stderr
    assert "'bad.wav': " in done.stderr
    assert [clip.name for clip in Shards(tmp_path / "shards").clips("train")] == [good.name]
