"""N captions by M seeds of one sound in one picture: what else it could be, and what else that could look like."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from a2i.lettering import fitted_lines
from a2i.whole import write_whole

if TYPE_CHECKING:
    from a2i.diffusion import PictureModel
    from a2i.result import Result

MOST = 20  # captions, and seeds
CELL = (160, 512)  # px: the least and the most width of a cell
LABELS = 240  # px: of the column with the captions
GAP, LETTERS, SMALL = 12, 16, 13  # px
PAPER, INK, FAINT = "#ffffff", "#1a1a1a", "#595959"


@dataclass(frozen=True)
class Shape:
    """How many captions and seeds a grid has."""

    captions: int
    seeds: int

    @classmethod
    def of(cls, text: str) -> "Shape":
        """From `NxM`, as the setting `grid` has it.

        Raises:
            ValueError: it is something else.
        """
        found = re.fullmatch(r"(\d{1,3})[x×](\d{1,3})", text)
        shape = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not (1 <= shape.captions <= MOST and 1 <= shape.seeds <= MOST):
            raise ValueError(f"got grid={text}; expected captions x seeds such as 3x4, each from 1 to {MOST}")
        return shape


@dataclass(frozen=True)
class Row:
    """A caption with its pictures.

    Attributes:
        caption: a sentence.
        note: how good it is, in a few words.
        pictures: one for each seed.
    """

    caption: str
    note: str
    pictures: Sequence[Image.Image]


def write(
    result: "Result", painter: "PictureModel", shape: Shape, path: Path, batch: int = 1, show_progress: bool = False
) -> Path:
    """Draw a sound's candidates, each with several seeds, and write them as one PNG.

    Its text chunks hold `captions` and `seeds`, so that each cell can be drawn again alone.

    Args:
        result: of the sound; its picture is the first cell, and its seed the first seed.
        painter: of the pictures.
        shape: of the grid; it has fewer rows where there are fewer candidates.
        path: of the PNG.
        batch: pictures drawn at once.
        show_progress: a bar over the pictures.

    Raises:
        ValueError: a caption can't be drawn.
        OSError: it can't be written.
    """
    from rich.progress import track

    captions = result.candidates[: shape.captions]
    seeds = [result.seed + number for number in range(shape.seeds)]
    cells = [(caption, seed) for caption in captions for seed in seeds]
    first = 1 if result.image is not None else 0
    pictures = [result.image] if result.image is not None else []
    starts = range(first, len(cells), batch)
    for start in track(starts, "drawing the grid", disable=not show_progress, transient=True):
        some = cells[start : start + batch]
        pictures += [each.image for each in painter.draw_batch([cell[0] for cell in some], [cell[1] for cell in some])]
    rows = []
    for number, (caption, value) in enumerate(zip(captions, result.log_probabilities, strict=False)):
        note = f"log-probability {value:.2f}"
        note = f"{result.confidence:.0%} sure, {note}" if number == 0 else note
        rows.append(Row(caption, note, pictures[number * shape.seeds : (number + 1) * shape.seeds]))
    text = PngInfo()
    for key, told in (("captions", json.dumps(captions)), ("seeds", json.dumps(seeds)), ("model", painter.name)):
        text.add_text(key, told)
    text.add_text("Software", "a2i")
    png = BytesIO()
    drawn(rows, [f"seed {seed}" for seed in seeds]).save(png, format="PNG", pnginfo=text)
    write_whole(path, png.getvalue())
    return path


def drawn(rows: Sequence[Row], columns: Sequence[str]) -> Image.Image:
    """The grid as one picture: a caption beside each row of pictures, a label above each column.

    Args:
        rows: at least one, each with as many pictures as there are columns.
        columns: labels.
    """
    size = rows[0].pictures[0]
    width = min(max(size.width, CELL[0]), CELL[1])
    height = round(size.height * width / size.width)
    font, small = ImageFont.load_default(LETTERS), ImageFont.load_default(SMALL)
    top = LETTERS + 2 * GAP
    grid = Image.new("RGB", (LABELS + len(columns) * (width + GAP), top + len(rows) * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(grid)
    for number, label in enumerate(columns):
        draw.text((LABELS + number * (width + GAP) + width / 2, top / 2), label, INK, font, anchor="mm")
    for number, row in enumerate(rows):
        y = top + number * (height + GAP)
        # As many lines as there is room for, the last of them for the note.
        lines = fitted_lines(row.caption, font, LABELS - 2 * GAP, most=max((height - 2 * SMALL) // (LETTERS + 4), 1))
        draw.multiline_text((GAP, y), "\n".join(lines), INK, font, spacing=4)
        draw.text((GAP, y + len(lines) * (LETTERS + 4) + 4), row.note, FAINT, small)
        for column, picture in enumerate(row.pictures):
            fitted = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            grid.paste(fitted, (LABELS + column * (width + GAP), y))
    return grid
