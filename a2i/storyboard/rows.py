"""Sounds → their storyboards, and the rows of `results.jsonl` that tell of them."""

import time
from collections.abc import Iterator, Sequence
from errno import EIO
from pathlib import Path
from typing import Any

from a2i.audio.inputs import readable
from a2i.errors import with_kind
from a2i.machine import release
from a2i.pipeline import AudioToImage
from a2i.results import KEPT, ResultsFile, RowSettings
from a2i.rows import NO_MORE, Makers, begun
from a2i.storyboard.boundaries import Ear
from a2i.storyboard.folder import make_folder, row_of
from a2i.storyboard.told import Told


def storyboards(
    a2i: AudioToImage,
    sounds: Sequence[Path],
    results: ResultsFile,
    settings: RowSettings,
    told: Told,
    making: dict[str, Any],
    captions: str | None = None,
) -> Iterator[dict[str, Any]]:
    """A folder for each sound: its scenes, with their page, pictures and subtitles. One that fails stops no other.

    Args:
        a2i: captions and draws.
        sounds: files.
        results: whose folder the sounds' folders are in.
        settings: of the rows.
        told: what is told of the sound that is being heard.
        making: settings as `a2i.storyboard.make.make_storyboard` takes them.
        captions: as `make_folder` takes it.

    Yields:
        one object for each sound, as it stands in `results.jsonl`, once its folder is on disk.

    Raises:
        OSError: the results' folder takes no more files: its disk is full, or it can't be written to.
    """
    ear, makers = Ear(a2i.captioner.device), Makers.of(a2i)
    for sound in sounds:
        row = begun(makers, sound, results.mark(sound), settings, making["seed"])
        began, error = time.perf_counter(), None
        try:
            folder = results.folder / results.folder_name(sound)
            made, video = make_folder(
                a2i, sound, folder, captions, tell=lambda *what: told.tell(*what), ear=ear, **making
            )
            row |= row_of(made, folder)
            if captions:
                row["video"] = video and readable(video)
        except Exception as failure:
            if isinstance(failure, OSError) and failure.errno in NO_MORE and not _is_of_reading(failure, sound):
                raise OSError(
                    f"{readable(results.folder)}: can't write the storyboard of {readable(sound)} ({failure.strerror});"
                    f" {KEPT}"
                ) from failure
            release(failure)
            error = failure
        row["error"] = None if error is None else readable(with_kind(error))
        row["seconds"] = round(time.perf_counter() - began, 3)
        yield row


def _is_of_reading(failure: OSError, sound: Path) -> bool:
    """Whether it is the sound that can't be read; a damaged disk tells no name."""
    return failure.filename == str(sound) or (failure.errno == EIO and failure.filename is None)
