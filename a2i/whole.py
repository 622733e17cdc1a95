"""Text files that are there whole or not at all: written beside their place, then moved there."""

from contextlib import suppress
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, its folder too; what was there before stays until the new one is complete.

    A character that UTF-8 has no bytes for, as in a file name that is no text, is written as an escape.

    Raises:
        OSError: it can't be written: the folder may not be written to, another program holds the file, or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(text.encode("utf-8", "backslashreplace"))
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise type(error)(
            f"{path} can't be written ({error.strerror or error}); expected a folder with room that you may write to, "
            "and no other program that holds the file"
        ) from error
