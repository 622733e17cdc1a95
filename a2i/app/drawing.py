"""A caption → pictures with seeds that follow each other."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from a2i.app.telling import Progress, Teller
from a2i.diffusion import Painter
from a2i.pipeline import AudioToImage
from a2i.result import Result

MOST_PICTURES = 8
LONGEST_CAPTION = 500  # characters
LAST_SEED = 2**32 - 1  # what a browser's number field still holds exactly, and more than anyone tries


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        png: the file's bytes; its text chunks tell caption, seed and model.
        caption: what was drawn.
        seed: of the picture.
        flagged: the picture model's safety checker's verdict, whereupon the picture is black; None where it has none.
        unseen_tokens: of the caption's end, beyond what the picture model reads.
    """

    png: bytes
    caption: str
    seed: int
    flagged: bool | None
    unseen_tokens: int


def draw(teller: Teller, a2i: AudioToImage, caption: str, seed: int, count: int) -> None:
    """Tell each `Picture` as soon as it is there, with `Progress` between.

    Between two denoising steps it can be stopped; with a picture model of a plug-in between two pictures.

    Args:
        teller: is told.
        a2i: with a picture model.
        caption: to draw.
        seed: of the first picture; the next ones have the next seeds.
        count: of pictures, from 1 to 8.

    Raises:
        ValueError: there is no caption, a number is out of range, or the picture can't be drawn.
        Stopped: the user stopped it.
    """
    painter, caption = a2i.painter, " ".join(caption.split())
    if painter is None:
        raise ValueError("no picture model is loaded; expected image= where the page was started")
    if not caption or len(caption) > LONGEST_CAPTION:
        raise ValueError(
            f"the caption has {len(caption)} characters; expected 1 to {LONGEST_CAPTION}: write what the picture is to show"
        )
    if not 1 <= count <= MOST_PICTURES:
        raise ValueError(f"got {count} pictures; expected 1 to {MOST_PICTURES}")
    if not 0 <= seed <= LAST_SEED - MOST_PICTURES:
        raise ValueError(f"got the seed {seed}; expected a whole number from 0 to {LAST_SEED - MOST_PICTURES:,}")
    unseen = painter.tokens_over(caption)
    steps = painter.steps if isinstance(painter, Painter) else 1
    for index in range(count):
        doing = "Drawing the picture" if count == 1 else f"Drawing picture {index + 1} of {count}"
        teller.tell(Progress(doing, index * steps, count * steps))
        if isinstance(painter, Painter):

            def step_done(
                step: int, before: int = index * steps, doing: str = doing, total: int = count * steps
            ) -> None:
                teller.tell(Progress(doing, min(before + step, total), total))

            (drawing,) = painter.draw_batch([caption], [seed + index], on_step=step_done)
        else:
            (drawing,) = painter.draw_batch([caption], [seed + index])
        result = Result(
            caption=caption,
            candidates=(caption,),
            image=drawing.image,
            log_probabilities=(),
            confidence=1.0,
            seed=seed + index,
            captioner=a2i.name,
            image_model=painter.name,
            flagged=drawing.flagged,
            unseen_tokens=unseen,
            seconds=0.0,
        )
        teller.tell(Picture(_png(result), caption, result.seed, result.flagged, unseen))


def _png(result: Result) -> bytes:
    with tempfile.TemporaryDirectory(prefix="a2i-") as folder:
        return result.save(Path(folder) / "picture.png").read_bytes()
