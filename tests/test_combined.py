"""Several sources as one."""

from pathlib import Path

import hydra
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.compose import build, plain
from a2i.data import Clip
from a2i.data.combined import Combined, shares
from a2i.data.folder import Folder
from a2i.paths import CONF
from a2i.training.batches import LengthBatchSampler


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


def test_a_set_without_a_clip_is_told() -> None:
    with pytest.raises(ValueError, match=r"none has no clip for training; leave it out: ~data.sources.KEY"):
        Combined({"none": Numbers(0), "many": Numbers(3)}, weights={}).drawn(0, 0)


class Numbers:
    """A data set of as many clips as it is told."""

    def __init__(self, count: int) -> None:
        self.count = count

    def prepare(self) -> None: ...

    def clips(self, split: str) -> list[Clip]:
        return [Clip(str(number), Path(str(number)), ("x",)) for number in range(self.count)]


def test_weights_decide_what_an_epoch_has() -> None:
    both = Combined({"few": Numbers(4), "many": Numbers(100)}, weights={"few": 1, "many": 3}, epoch_clips=24)
    epochs = [both.drawn(epoch, seed=5) for epoch in range(20)]
    assert {len(epoch or ()) for epoch in epochs} == {24}
    assert both.drawn(7, 5) == epochs[7], "a function of seed and epoch"
    assert both.drawn(7, 6) != epochs[7]
    drawn = [index for epoch in epochs for index in epoch or ()]
    assert sum(index < 4 for index in drawn) == 20 * 6
    assert [drawn.count(index) for index in range(4)] == [30] * 4
    assert {drawn.count(index) for index in range(4, 104)} == {3, 4}, "each as often as any other, or once more"
    assert Combined({"few": Numbers(4)}).drawn(0, 0) is None
    assert len(Combined({"few": Numbers(4), "many": Numbers(100)}, weights={}).drawn(0, 0) or ()) == 104


@settings(max_examples=60)
@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), extra=st.integers(0, 200))
def test_shares_add_up(weights: list[float], extra: int) -> None:
    total = len(weights) + extra
    found = shares(weights, total)
    assert sum(found) == total
    assert min(found) >= 1
    for share, weight in zip(found, weights, strict=True):
        exact = weight * total / sum(weights)
        assert share <= max(1, exact + 1)


def test_the_order_of_a_mixture_goes_on_in_mid_epoch() -> None:
    both = Combined({"few": Numbers(4), "many": Numbers(30)}, weights={"few": 1, "many": 1}, epoch_clips=10)

    def sampler() -> LengthBatchSampler:
        return LengthBatchSampler([1.0] * 34, 3, True, drawn=lambda epoch: both.drawn(epoch, 1) or [])

    whole = [batch for epoch in range(3) for batch in sampler().order(epoch)]
    assert len(sampler()) == 4
    assert [len(batch) for batch in whole].count(1) == 3
    late = sampler()
    late.given = 6
    assert [[index for _, index in batch] for batch in late] == whole[6:8]


def test_sets_that_are_scored(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "first", "a.wav,one,train\nc.wav,three,val\n")
    second = write_folder(tmp_path / "second", "a.wav,four,train\n")
    both = Combined({"x": first, "y": second}, scored=["x"])
    assert [clip.name for clip in both.clips("val")] == ["x/c.wav"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": {"z": 1}}, "got weights={'z': 1}; expected more than 0, of x, y"),
        ({"weights": {"x": 0}}, "got weights={'x': 0}"),
        ({"weights": {"x": 1}, "repeat": {"x": 2}}, "expected one of the two"),
        ({"epoch_clips": 10}, "got epoch_clips=10; expected weights beside it"),
        ({"weights": {}, "epoch_clips": 1}, "at least a clip of each set"),
        ({"scored": ["z"]}, "got scored=.'z'.; expected some of x, y"),
    ],
)
def test_a_mixture_that_does_not_fit(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Combined({"x": Numbers(1), "y": Numbers(1)}, **wrong)
