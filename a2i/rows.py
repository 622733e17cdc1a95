"""Sounds → the rows of `results.jsonl`, each with its picture on disk; and when no more rows are worth trying."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from errno import EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from a2i.audio.addresses import Fetched, Sound
from a2i.audio.inputs import readable
from a2i.errors import with_kind
from a2i.grid import Shape
from a2i.grid import write as write_grid
from a2i.results import GRID, KEPT, RowSettings

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage

NO_MORE = frozenset(
    {EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS}
)  # a folder that takes no file takes no other either


class Places(Protocol):
    """Where what is made of sounds belongs; `a2i.results.ResultsFile` is the usual one."""

    @property
    def folder(self) -> Path:
        """Of the pictures."""
        ...

    def mark(self, sound: Sound, file: Path) -> dict[str, Any]:
        """What tells a sound's file, and whether it changed, as `ResultsFile.mark` gives it."""
        ...

    def picture_name(self, sound: Sound, more: str = "") -> str:
        """File name for a sound's picture, or for its grid, as `ResultsFile.picture_name` gives it."""
        ...


@dataclass(frozen=True)
class Makers:
    """What every row tells of the models that made it."""

    captioner: str
    image_model: str | None
    captioner_licence: str | None
    image_licence: str | None

    @classmethod
    def of(cls, a2i: "AudioToImage") -> "Makers":
        """Of a pipeline's models."""
        painter = a2i.painter
        named, drawn = readable(a2i.name), readable(painter.name) if painter else None
        return cls(named, drawn, a2i.captioner.licence, painter.licence if painter else None)


def begun(makers: Makers, sound: Sound, mark: dict[str, Any], settings: RowSettings, seed: int) -> dict[str, Any]:
    """A sound's row, as far as it is known before the sound is heard."""
    return {
        "audio": readable(sound),
        "caption": None,
        "candidates": [],
        "confidence": None,
        "image": None,
        "seed": seed,
        "captioner": makers.captioner,
        "image_model": makers.image_model,
        "audio_file": mark,
        "caption_settings": settings.caption,
        "image_settings": settings.image,
        "warning": None,
        "captioner_licence": makers.captioner_licence,
        "image_licence": makers.image_licence,
    }


def infer(
    a2i: "AudioToImage",
    sounds: Sequence[Sound],
    places: Places,
    settings: RowSettings,
    seed: int,
    decoding: dict[str, Any],
    batch_size: int = 1,
    picture_batch: int = 1,
    grid: Shape | None = None,
    show_progress: bool = False,
) -> Iterator[dict[str, Any]]:
    """Caption and draw each sound; one that fails gives an `error` and the others go on.

    Yields:
        one object for each sound, as it stands in `results.jsonl`, once its picture is on disk.

    Raises:
        OSError: the folder takes no more pictures: its disk is full, or it can't be written to.
    """
    files = Fetched(sounds, 2 * batch_size)
    marks: deque[dict[str, Any]] = deque()

    def marked() -> Iterator[Path]:
        """Each sound's file as it is when it is read: if it changes later, the next run sees that."""
        for place, sound in enumerate(sounds):
            file = files.of(place)
            marks.append(places.mark(sound, file))
            yield file

    makers = Makers.of(a2i)
    found = a2i.each(marked(), seed, batch_size, picture_batch, show_progress, **decoding)
    for place, (sound, result) in enumerate(zip(sounds, found, strict=True)):
        row = begun(makers, sound, marks.popleft(), settings, seed)
        error: Exception | None = None
        seconds = 0.0
        if isinstance(result, Exception):
            error = files.failure(place) or result
        else:
            seconds = result.seconds
        began = time.perf_counter()
        if not isinstance(result, Exception):
            told = {
                "caption": result.caption,
                "candidates": list(result.candidates),
                "confidence": round(result.confidence, 4),
                "log_probabilities": [round(value, 4) for value in result.log_probabilities],
                "flagged": result.flagged,
                "unseen_tokens": result.unseen_tokens,
                "warning": result.warning and files.told(place, result.warning),
            }
            told |= {"parts": [asdict(part) for part in result.parts]} if result.parts else {}
            try:
                _check_numbers(told)
                if result.image is not None:
                    image = result.save(places.folder / places.picture_name(sound))
                    told |= {"image": readable(image), "image_bytes": image.stat().st_size}
                if grid is not None and a2i.painter is not None:
                    drawn = places.folder / places.picture_name(sound, GRID)
                    made = write_grid(result, a2i.painter, grid, drawn, picture_batch, show_progress)
                    told["grid"] = readable(made)
                row |= told
            # Whatever one file does to a disk, the others go on; where none can be written they would only take time.
            except Exception as failure:
                if isinstance(failure, OSError) and failure.errno in NO_MORE:
                    raise OSError(
                        f"{readable(places.folder)}: can't write the picture of {readable(sound)} ({failure.strerror});"
                        f" {KEPT}"
                    ) from failure
                error = failure
        row["error"] = None if error is None else readable(files.told(place, with_kind(error)))
        row["seconds"] = round(seconds + time.perf_counter() - began, 3)
        files.done(place)
        yield row


def _check_numbers(told: dict[str, Any]) -> None:
    """JSON has no NaN, and a caption that is nan % sure is none."""
    confidences = [
        told["confidence"],
        *told["log_probabilities"],
        *(part["confidence"] for part in told.get("parts", ())),
    ]
    if not all(map(math.isfinite, confidences)):
        raise ValueError("the captioner gave numbers that are none (NaN or infinite); its weights may be broken")
