"""What became of a sound: its caption, its picture, and how they came about."""

import os
from contextlib import suppress
from dataclasses import dataclass
from errno import ENAMETOOLONG
from hashlib import sha256
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from a2i.captioner.batching import Part


@dataclass(frozen=True)
class Result:
    """What became of a sound.

    Attributes:
        caption: what is heard.
        candidates: the best captions, `caption` the first of them.
        image: the picture, RGB; None without a picture model.
        log_probabilities: of the candidates: mean over a caption's tokens, natural logarithm.
        confidence: probability that `caption` names what is heard, as far as the captioner can tell; see `Candidate`.
        seed: of the picture.
        captioner: name or folder.
        image_model: name, Hub id or folder; None without a picture model.
        flagged: the picture model's safety checker's verdict; None where it has none.
        unseen_tokens: of the prompt's end, beyond what the picture model's text model takes (77 in Stable Diffusion).
        seconds: that it took.
        parts: of a recording longer than a minute, what is heard in each; `candidates` are those of the surest one.
        warning: what was wrong with the file though it was heard (it is cut short, some of it is damaged), in one line; None if
            nothing was.
    """

    caption: str
    candidates: tuple[str, ...]
    image: Image.Image | None
    log_probabilities: tuple[float, ...]
    confidence: float
    seed: int
    captioner: str
    image_model: str | None
    flagged: bool | None
    unseen_tokens: int
    seconds: float
    parts: tuple[Part, ...] = ()
    warning: str | None = None

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG, its text chunks telling `caption`, `seed` and `model`.

        Examples:
            >>> result.save("pictures/bell.png").stat().st_size > 0
            True

        Raises:
            ValueError: there is no picture.
            OSError: it can't be written there. What was there stays.
        """
        if self.image is None:
            raise ValueError("got a result without a picture; load the pipeline with a picture model to have one")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = PngInfo()
        for key, value in (
            ("caption", self.caption),
            ("seed", str(self.seed)),
            ("model", str(self.image_model)),
            ("captioner", self.captioner),
            ("Software", "a2i"),
        ):
            text.add_text(key, value)
        # Short, however long the picture's own name.
        part = path.with_name(f".{sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")
        try:
            self.image.save(part, format="PNG", pnginfo=text)
            return part.replace(path)
        except BaseException as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
                length = len(os.fsencode(os.path.abspath(path)))
                raise OSError(
                    ENAMETOOLONG,
                    f"its path has {length} bytes, more than this system takes; expected a shorter one",
                    str(path),
                ) from error
            raise
