from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from a2i.storyboard import Scene, Storyboard, contact_sheet
from a2i.storyboard.contact_sheet import HEIGHT, WIDTH, draw_sheet, grid_for, write_contact_sheet

COLOURS = ["red", "lime", "blue", "yellow", "cyan"]


@pytest.fixture
def storyboard(tmp_path: Path) -> Storyboard:
    """Five scenes, each with a picture of one colour."""
    scenes = []
    for index, colour in enumerate(COLOURS):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (512, 512), colour).save(path)
        scenes.append(Scene(10.0 * index, 10.0 * index + 10, f"Something {colour} sounds.", 0.5, (), path))
    return Storyboard(tmp_path / "recording.wav", tuple(scenes), 0, "tiny", "mini")


def pixels(sheet: Image.Image, colour: str) -> int:
    """How many have exactly this colour."""
    return int((np.asarray(sheet.convert("RGB")) == ImageColor.getrgb(colour)).all(-1).sum())


def test_every_picture_is_on_the_sheet(storyboard: Storyboard, tmp_path: Path) -> None:
    path = write_contact_sheet(storyboard, tmp_path / "new")
    assert path == tmp_path / "new" / "contact_sheet.png"
    with Image.open(path) as sheet:
        assert [pixels(sheet, colour) for colour in COLOURS] == [256 * 256] * 5
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_without_pictures_there_is_no_sheet(storyboard: Storyboard, tmp_path: Path) -> None:
    bare = replace(storyboard, scenes=tuple(replace(scene, image=None) for scene in storyboard.scenes))
    assert write_contact_sheet(bare, tmp_path / "new") is None
    assert not (tmp_path / "new").exists()


def test_a_picture_that_is_gone_or_broken_leaves_its_tile_empty(storyboard: Storyboard, tmp_path: Path) -> None:
    (tmp_path / "red.png").unlink()
    (tmp_path / "blue.png").write_bytes(b"no picture")
    sheet = draw_sheet(storyboard)
    assert [pixels(sheet, colour) for colour in COLOURS] == [0, 256 * 256, 0, 256 * 256, 256 * 256]


@given(st.integers(1, 100_000))
def test_a_sheet_of_any_number_of_scenes_is_bounded(count: int) -> None:
    grid = grid_for(count)
    across, down = grid.step
    assert grid.gap + grid.columns * across <= WIDTH
    assert grid.head + grid.gap + grid.rows * down <= HEIGHT
    assert grid.columns * grid.rows >= min(count, 4000)
    assert grid.columns * (grid.rows - 1) < count, "an empty row"


def test_of_more_scenes_than_fit_some_are_shown_from_the_first_to_the_end(
    storyboard: Storyboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "HEIGHT", 250)
    scenes = tuple(storyboard.scenes[index // 1000] for index in range(5000))
    sheet = draw_sheet(replace(storyboard, scenes=scenes))
    assert sheet.height <= 250
    held = [pixels(sheet, colour) // 48**2 for colour in COLOURS]
    assert max(held) - min(held) <= 1
    assert sum(held) == 2 * 46
