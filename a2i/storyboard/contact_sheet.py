"""Storyboard → `contact_sheet.png`: the pictures in a grid, with time and caption under each."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from a2i.lettering import fitted_lines
from a2i.report.media import small_picture
from a2i.storyboard import Scene, Storyboard, clock
from a2i.storyboard.told import Tell, nobody
from a2i.whole import write_whole

SHEET = "contact_sheet.png"
WIDTH, HEIGHT = 2400, 8000  # pixels of a sheet, at most
SIDES = (256, 192, 128, 96, 64, 48)  # pixels of a picture's sides: the first with which all fit
LINES = 3  # of a caption, of which the last ends in … where there is more
PAPER, INK, SOFT, EMPTY = "#fbfaf7", "#1d2127", "#5c6470", "#dcdad3"


def write_contact_sheet(storyboard: Storyboard, folder: Path, tell: Tell = nobody) -> Path | None:
    """Write the sheet, of at most 2400 × 8000 px. More scenes than fit are shown in part, at equal steps; the head says so.

    Returns:
        `contact_sheet.png`; None where no scene has a picture.

    Raises:
        OSError: it can't be written.
    """
    if not any(scene.image for scene in storyboard.scenes):
        return None
    file = io.BytesIO()
    draw_sheet(storyboard, tell).save(file, format="PNG")
    path = folder / SHEET
    write_whole(path, file.getvalue())
    return path


@dataclass(frozen=True)
class Grid:
    """Where tiles stand.

    Attributes:
        side: pixels of a picture's sides.
        columns: tiles in a row.
        rows: of tiles.
    """

    side: int
    columns: int
    rows: int

    @property
    def gap(self) -> int:
        """Pixels between tiles, and around all."""
        return max(4, self.side // 12)

    @property
    def text_size(self) -> int:
        """Pixels."""
        return max(9, self.side // 15)

    @property
    def text_height(self) -> int:
        """Pixels below a picture: the time, and the caption where there is room to read it."""
        return round(self.text_size * 1.3) * (1 + (LINES if self.has_captions else 0))

    @property
    def has_captions(self) -> bool:
        """Whether a line of a caption holds more than a word."""
        return self.side >= 96

    @property
    def step(self) -> tuple[int, int]:
        """Pixels from a tile to the next, across and down."""
        return self.side + self.gap, self.side + self.text_height + self.gap

    @property
    def head(self) -> int:
        """Pixels above the tiles."""
        return 3 * max(20, self.text_size)


def grid_for(count: int) -> Grid:
    """The largest tiles with which a sheet holds all scenes, or the most that it can."""
    for side in SIDES:
        across, down = Grid(side, 1, 1).step
        gap = Grid(side, 1, 1).gap
        most = (WIDTH - gap) // across
        # About twice as wide as high, where there are few.
        columns = min(most, max(min(count, 4), math.ceil(math.sqrt(2 * count))))
        grid = Grid(side, columns, math.ceil(count / columns))
        room = (HEIGHT - grid.head - gap) // down
        if grid.rows <= room:
            return grid
        if math.ceil(count / most) <= room:
            return Grid(side, most, math.ceil(count / most))
    return Grid(side, most, room)


def draw_sheet(storyboard: Storyboard, tell: Tell = nobody) -> Image.Image:
    """The sheet as an RGB picture. A scene whose picture is missing or can't be read has an empty tile."""
    count = len(storyboard.scenes)
    grid = grid_for(count)
    held = min(count, grid.columns * grid.rows)
    scenes = [storyboard.scenes[index * count // held] for index in range(held)]
    across, down = grid.step
    size = (grid.gap + grid.columns * across, grid.head + grid.gap + grid.rows * down)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(grid.text_size)
    said = f"{storyboard.source.name}, {clock(storyboard.seconds)}, {count:,} scene{'s' if count > 1 else ''}"
    said += f", of which {held:,} are shown" if held < count else ""
    title = ImageFont.load_default(max(20, grid.text_size))
    draw.text((grid.gap, grid.head // 3), fitted_lines(said, title, size[0] - 2 * grid.gap, 1)[0], INK, title)
    for index, scene in enumerate(scenes):
        place = (grid.gap + index % grid.columns * across, grid.head + index // grid.columns * down)
        _draw_tile(page, draw, font, grid, place, scene)
        tell("pictures of the contact sheet", index + 1, held)
    return page


def _draw_tile(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
    grid: Grid,
    place: tuple[int, int],
    scene: Scene,
) -> None:
    left, top = place
    draw.rectangle((left, top, left + grid.side - 1, top + grid.side - 1), EMPTY)
    if scene.image is not None and (picture := _picture(scene.image, grid.side)) is not None:
        page.paste(picture, (left + (grid.side - picture.width) // 2, top + (grid.side - picture.height) // 2))
    line = round(grid.text_size * 1.3)
    top += grid.side + line // 4
    time = f"{clock(scene.start)} to {clock(scene.end)}" if grid.has_captions else clock(scene.start)
    draw.text((left, top), time, SOFT, font)
    for text in fitted_lines(scene.caption, font, grid.side, LINES) if grid.has_captions else ():
        top += line
        draw.text((left, top), text, INK, font)


def _picture(path: Path, side: int) -> Image.Image | None:
    try:
        # Small ones fill their tile, too.
        return ImageOps.contain(small_picture(path, side), (side, side), Image.Resampling.LANCZOS)
    except (OSError, ValueError):
        return None
