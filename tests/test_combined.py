"""Several sources as one."""

from pathlib import Path

import hydra
import pytest

from a2i.compose import build, plain
from a2i.data import Clip
from a2i.data.combined import Combined
from a2i.data.folder import Folder
from a2i.paths import CONF


def write_folder(root: Path, rows: str) -> Folder:
    root.mkdir()
    (root / "captions.csv").write_text(f"file_name,caption,split\n{rows}")
    for row in rows.splitlines():
        (root / row.split(",")[0]).touch()
    return Folder(root)


def test_clips_follow_one_another_with_their_source_in_front(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first", "a.wav,one,train\nb.wav,two,train\nc.wav,three,val\n")
    second = write_folder(tmp_path / "second", "a.wav,four,train\nd.wav,five,val\n")
    both = Combined({"x": first, "y": second})
    both.prepare()
    assert both.clips("train") == [
        Clip("x/a.wav", tmp_path / "first/a.wav", ("one",)),
        Clip("x/b.wav", tmp_path / "first/b.wav", ("two",)),
        Clip("y/a.wav", tmp_path / "second/a.wav", ("four",)),
    ]
    assert [clip.name for clip in both.clips("val")] == ["x/c.wav", "y/d.wav"]


def test_training_clips_of_a_source_may_come_several_times(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first", "a.wav,one,train\nc.wav,three,val\n")
    second = write_folder(tmp_path / "second", "a.wav,four,train\nd.wav,five,val\n")
    both = Combined({"x": first, "y": second}, repeat={"x": 3})
    assert [clip.name for clip in both.clips("train")] == ["x/a.wav"] * 3 + ["y/a.wav"]
    assert [clip.name for clip in both.clips("val")] == ["x/c.wav", "y/d.wav"]
    for wrong in ({"z": 2}, {"x": 0}):
        with pytest.raises(ValueError, match="expected 1 or more, of x, y"):
            Combined({"x": first, "y": second}, repeat=wrong)


def test_a_source_without_the_split_says_so(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first", "a.wav,one,train\nb.wav,two,test\n")
    second = write_folder(tmp_path / "second", "a.wav,four,train\n")
    with pytest.raises(ValueError, match=r"second/captions\.csv has no row for 'test'"):
        Combined({"x": first, "y": second}).clips("test")
    (tmp_path / "second/a.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.wav"):
        Combined({"x": first, "y": second}).prepare()
    with pytest.raises(ValueError, match="no source"):
        Combined({})


def test_hydra_builds_it_from_nested_targets(tmp_path: Path) -> None:
    write_folder(tmp_path / "first", "a.wav,one,train\n")
    config = {
        "_target_": "a2i.data.combined.Combined",
        "sources": {"x": {"_target_": "a2i.data.folder.Folder", "root": str(tmp_path / "first")}},
    }
    source = build(config)
    assert type(source.sources) is dict
    assert [clip.name for clip in source.clips("train")] == ["x/a.wav"]


def test_the_world_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2I_REAL_DATA", raising=False)
    monkeypatch.setenv("A2I_DATA", str(tmp_path))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        source = build(plain(hydra.compose("train", ["data=world"]).data))
    assert list(source.sources) == ["esc10", "sounds", "urban", "esc50", "effects", "foley", "unnamed"]
    assert source.sources["esc10"].root == tmp_path / "esc10"
    assert source.tags.table == tmp_path / "tags" / "audioset_mn04.npz"
