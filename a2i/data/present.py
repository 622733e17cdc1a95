"""Which of a set's recordings are there, where some can't be had any more."""

import os
from pathlib import Path

from a2i import audio
from a2i.data.folder import told


def files_in(folder: Path) -> dict[str, Path]:
    """The sound files of a folder by their names without the ending; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    found = {}
    for name in sorted(os.listdir(folder), reverse=True):  # a hundred thousand: pathlib takes seconds
        stem, ending = os.path.splitext(name)
        if ending.lower() in audio.SUFFIXES:
            found[stem] = folder / name
    return found


def check_share(missing: int, total: int, most: float, what: str, folder: Path, example: str) -> str | None:
    """One line that says how many clips are left out for want of a file; None where none is.

    Args:
        missing: clips without a file.
        total: clips.
        most: the share that may be missing.
        what: the data set and split.
        folder: of the files.
        example: of a file's name, without its ending.

    Raises:
        FileNotFoundError: more are missing than may be, or all.
    """
    if not missing:
        return None
    said = f"{what}: {missing} of {total} clips have no file in {told(folder)}"
    if missing == total or missing > most * total:
        allowed = (
            "put the sounds there" if missing == total else f"data.missing={missing / total:.2f} goes on without them"
        )
        raise FileNotFoundError(f"{said} (such as {example}.flac), and at most {most:.0%} may be missing; {allowed}")
    return f"{said} and are left out"
