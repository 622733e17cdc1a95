"""N captions by M seeds in one picture."""

import json
from pathlib import Path

import programs
import pytest
import soundfile
from conftest import make_captioner, tone
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from a2i.captioner.text import CaptionTokenizer
from a2i.grid import GAP, LABELS, PAPER, Row, Shape, drawn, write
from a2i.pipeline import AudioToImage


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_shape_is_read(captions: int, seeds: int) -> None:
    assert Shape.of(f"{captions}x{seeds}") == Shape(captions, seeds)


@pytest.mark.parametrize("text", ["", "3", "3x", "0x4", "3x21", "999x1", "3x4x5", "-1x2", "3 x 4", "1e1x2"])
def test_a_shape_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected captions x seeds such as 3x4, each from 1 to 20"):
        Shape.of(text)


@pytest.mark.parametrize(
    "caption", ["A dog barks.", "A very " + "long " * 80 + "caption.", "x" * 300, "Ein Hund, 犬, bellt."]
)
@pytest.mark.parametrize("size", [(32, 32), (300, 150), (900, 900)])
def test_labels_never_touch_the_pictures(caption: str, size: tuple[int, int]) -> None:
    pictures = [Image.new("RGB", size, color) for color in ("red", "green", "blue")]
    grid = drawn([Row(caption, "80% sure", pictures), Row("Rain.", "", pictures)], ["seed 0", "seed 1", "seed 2"])
    width = (grid.width - LABELS) // 3 - GAP
    left = grid.crop((LABELS - GAP, 0, LABELS, grid.height))
    assert left.getcolors() == [(left.width * left.height, (255, 255, 255))], "between captions and pictures is paper"
    assert PAPER == "#ffffff"
    y = grid.height - GAP - 5
    for column, color in enumerate([(255, 0, 0), (0, 128, 0), (0, 0, 255)]):
        assert grid.getpixel((LABELS + column * (width + GAP) + width // 2, y)) == color
    gap = grid.crop((LABELS, grid.height - GAP, grid.width, grid.height))
    assert len(gap.getcolors()) == 1


def test_cells_are_what_the_painter_draws(tokenizer: CaptionTokenizer, painter_folder: Path, tmp_path: Path) -> None:
    """In batches, and of one caption fewer than were asked for; each cell by its caption and seed."""
    a2i = AudioToImage.load(
        make_captioner(tokenizer), {"model": str(painter_folder), "steps": 1, "width": 160, "height": 160}, "cpu"
    )
    result = a2i((tone(400, 0.5), 16_000), seed=7)
    assert len(result.candidates) == 2
    assert a2i.painter is not None
    place = write(result, a2i.painter, Shape(3, 2), tmp_path / "x.grid.png", batch=2)
    grid = Image.open(place)
    text = grid.text  # type: ignore[attr-defined]
    assert json.loads(text["captions"]) == list(result.candidates)
    assert json.loads(text["seeds"]) == [7, 8]
    (wanted,) = a2i.painter.draw_batch([result.candidates[1]], [8])
    x, y = LABELS + 160 + GAP, grid.height - GAP - 160
    cell = grid.crop((x, y, x + 160, y + 160))
    different = max(abs(one - other) for one, other in zip(cell.tobytes(), wanted.image.tobytes(), strict=True))
    assert different <= 2


@pytest.mark.long
def test_the_program_keeps_grid_and_picture(captioner_folder: Path, painter_folder: Path, tmp_path: Path) -> None:
    """Also where another sound's own picture would have the grid's name; what is there is not drawn again."""
    sounds, out = tmp_path / "sounds", tmp_path / "out"
    sounds.mkdir()
    for name in ("dog.wav", "dog.grid.wav"):
        soundfile.write(sounds / name, tone(400, 0.3), 16_000)
    given = (
        f"audio={sounds}",
        f"captioner={captioner_folder}",
        f"image={painter_folder}",
        "image.steps=1",
        f"out={out}",
    )
    done = programs.run("infer", *given, "grid=3x2", "device=cpu")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    files = [Path(row[key]).name for row in rows for key in ("image", "grid")]
    assert len(set(files)) == 4
    assert all((out / name).is_file() for name in files)
    assert all(len(row["candidates"]) == 3 for row in rows)
    again = programs.run("infer", *given, "grid=3x2", "device=cpu")
    assert "2 of them already before" in again.stdout
    anew = programs.run("infer", *given, "grid=3x2", "device=cpu", "again=true")
    assert anew.returncode == 0
    assert sorted(path.name for path in out.glob("*.png")) == sorted(files), "under the same names"
    for wrong in ("grid=3by4", "image=none"):
        refused = programs.run("infer", *given[:2], f"out={out}", "grid=3x2", wrong)
        assert refused.returncode == 2
        assert (
            f"got {'grid=3by4; expected captions x' if 'by' in wrong else 'grid=3x2 with image=none'}" in refused.stderr
        )
