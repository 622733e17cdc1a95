from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from a2i.data import Clip
from a2i.data.combined import Combined
from a2i.data.tags import Tags
from a2i.training.labels import mixed_tags, stacked_tags, tag_count, tag_loss


def clips(root: Path) -> list[Clip]:
    return [Clip(name, root / "dogs" / name, ("A dog.",)) for name in ("a.ogg", "b.ogg")]


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_clips_get_their_tags(tmp_path: Path) -> None:
    table = write(
        tmp_path / "tags.npz",
        files=np.array(["dogs/b.ogg", "cats/a.ogg"]),
        probabilities=np.array([[0.25, 0.5], [1, 0]], np.float16),
    )
    first, second = Tags(table, tmp_path).of(clips(tmp_path))
    assert first.tags is None
    assert second.tags is not None
    assert second.tags.tolist() == [0.25, 0.5]
    assert second == replace(second, tags=None)  # a clip is the same with and without
    assert hash(second) == hash(replace(second, tags=None))


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        Tags(tmp_path / "none.npz", tmp_path).of(clips(tmp_path))
    (tmp_path / "text.npz").write_text("no table")
    with pytest.raises(ValueError, match="can't be read as tags"):
        Tags(tmp_path / "text.npz", tmp_path).of(clips(tmp_path))
    wrong = write(tmp_path / "wrong.npz", files=np.array(["a"]), probabilities=np.array([[2.0]]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        Tags(wrong, tmp_path).of(clips(tmp_path))


def test_tags_of_two_sounds_at_once() -> None:
    mixed = mixed_tags(np.array([0.5, 0.0, 1.0]), np.array([0.5, 0.25, 0.5]))
    assert mixed is not None
    assert mixed.tolist() == [0.75, 0.25, 1.0]
    assert mixed_tags(None, np.array([0.5])) is None


def test_the_loss_is_that_of_the_known_clips() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    tags = stacked_tags([np.array([0.5, 1.0], np.float32), None])
    assert tags is not None
    assert tags[1].isnan().all()
    expected = -(torch.tensor(0.5).log() + torch.tensor(2.0).sigmoid().log())
    assert float(tag_loss(logits, tags)) == pytest.approx(float(expected), rel=1e-6)
    assert float(tag_loss(logits, torch.full((2, 2), torch.nan))) == 0
    assert stacked_tags([None, None]) is None


def test_how_many_classes() -> None:
    clip = Clip("a", Path("a"), ("A.",))
    assert tag_count([clip]) == 0
    assert tag_count([clip, replace(clip, tags=np.zeros(3))]) == 3
    with pytest.raises(ValueError, match="one tagger"):
        tag_count([replace(clip, tags=np.zeros(3)), replace(clip, tags=np.zeros(4))])


class Two:
    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        pass

    def clips(self, split: str) -> list[Clip]:
        return clips(self.root)


def test_several_data_sets_share_a_table(tmp_path: Path) -> None:
    table = write(tmp_path / "tags.npz", files=np.array(["dogs/a.ogg"]), probabilities=np.array([[0.5]]))
    combined = Combined({"mine": Two(tmp_path)}, {"mine": 2}, Tags(table, tmp_path))
    assert [None if clip.tags is None else clip.tags.tolist() for clip in combined.clips("train")] == [[0.5], None] * 2
    assert [clip.tags for clip in Combined({"mine": Two(tmp_path)}).clips("train")] == [None, None]
