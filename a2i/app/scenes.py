"""A long recording → its storyboard, as the page needs it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2i.app.telling import Progress, Teller
from a2i.pipeline import AudioToImage
from a2i.storyboard import Storyboard
from a2i.storyboard.make import CAPTIONING, DRAWING, HEARING, make_storyboard
from a2i.storyboard.page import EMBEDDED, write_page
from a2i.storyboard.subtitles import write_subtitles

DOING = {HEARING: "Looking for scenes", CAPTIONING: "Listening to the scenes", DRAWING: "Drawing the scenes"}


@dataclass(frozen=True)
class Board:
    """A storyboard without files.

    Attributes:
        storyboard: whose files are gone.
        pictures: PNG of each scene, None without a picture model.
        files: to save, by name: subtitles, and the page of a recording that is short enough to lie in it.
    """

    storyboard: Storyboard
    pictures: tuple[bytes | None, ...]
    files: dict[str, bytes]


def make_board(teller: Teller, a2i: AudioToImage, sound: Path, decoding: dict[str, Any]) -> None:
    """Tell a recording's `Board`, with `Progress` between.

    Args:
        teller: is told.
        a2i: captions and draws.
        sound: a sound file.
        decoding: changes of the captioner's decoding settings, by name.

    Raises:
        ValueError: the sound can't be used.
        Stopped: the user stopped it.
    """

    def tell(what: str, done: float, of: float) -> None:
        teller.tell(Progress(DOING[what], round(done), round(of)))

    with tempfile.TemporaryDirectory(prefix="a2i-") as temporary:
        folder = Path(temporary)
        board = make_storyboard(a2i, sound, folder, tell=tell, **decoding)
        files = list(write_subtitles(board, folder))
        if board.seconds <= EMBEDDED:
            files.append(write_page(board, folder))
        pictures = tuple(scene.image.read_bytes() if scene.image else None for scene in board.scenes)
        teller.tell(Board(board, pictures, {file.name: file.read_bytes() for file in files}))
