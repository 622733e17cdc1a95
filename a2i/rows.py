"""What every row of `results.jsonl` begins with, and when no more rows are worth trying."""

from errno import EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i.audio.inputs import readable
from a2i.results import RowSettings

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage

NO_MORE = frozenset(
    {EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS}
)  # a folder that takes no file takes no other either


def begun(a2i: "AudioToImage", sound: Path, mark: dict[str, Any], settings: RowSettings, seed: int) -> dict[str, Any]:
    """A sound's row, as far as it is known before the sound is heard."""
    return {
        "audio": readable(sound),
        "caption": None,
        "candidates": [],
        "confidence": None,
        "image": None,
        "seed": seed,
        "captioner": readable(a2i.name),
        "image_model": readable(a2i.painter.name) if a2i.painter else None,
        "audio_file": mark,
        "caption_settings": settings.caption,
        "image_settings": settings.image,
        "warning": None,
        "captioner_licence": a2i.captioner.licence,
        "image_licence": a2i.painter.licence if a2i.painter else None,
    }
