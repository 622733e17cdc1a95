"""A storyboard as a folder: its pictures, page, contact sheet, subtitles, and `scenes.json`. There whole or not at all."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import EEXIST
from hashlib import sha256
from pathlib import Path
from typing import Any

from a2i.audio.inputs import readable
from a2i.errors import one_line
from a2i.pipeline import AudioToImage
from a2i.results import STORYBOARD
from a2i.storyboard import Storyboard
from a2i.storyboard.contact_sheet import SHEET, write_contact_sheet
from a2i.storyboard.make import SILENCE, make_storyboard
from a2i.storyboard.page import PAGE, SOUND, write_page
from a2i.storyboard.subtitles import SRT, VTT, write_subtitles
from a2i.storyboard.told import Tell, nobody
from a2i.storyboard.video import NotCopiedError, write_captioned
from a2i.whole import write_text

# What a storyboard's folder holds; all else in it is the user's.
FILES = frozenset({STORYBOARD, PAGE, SOUND, SHEET, VTT, SRT})
MORE = re.compile(r"\d+\.png|.+\.captioned\.\w+")


def make_folder(
    a2i: AudioToImage,
    sound: str | Path,
    folder: str | Path,
    captions: str | None = None,
    tell: Tell = nobody,
    **settings: Any,
) -> tuple[Storyboard, Path | None]:
    """Make a storyboard and write all of it into a folder, in the place of an earlier one.

    Args:
        a2i: captions and draws.
        sound: a sound file, or a video with sound.
        folder: new, empty or an earlier storyboard's, which is replaced when all is done, and stays if anything fails. Other
            files in it stay.
        captions: `track` or `burn` for a copy of a video with captions, see `a2i.storyboard.video`; None for none.
        tell: as `make_storyboard` takes it; is told of the page, the sheet and the video too.
        **settings: as `make_storyboard` takes them.

    Returns:
        the storyboard, and the video with captions; None without one, as where the storyboard's warning says that it can't be
        copied.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be used; see `make_storyboard`.
        OSError: the folder can't be written, or holds no storyboard but other files.
    """
    folder = Path(folder)
    _refuse_other_files(folder)
    with _taking_the_place_of(folder) as part:
        storyboard = make_storyboard(a2i, sound, part, tell=tell, **settings)
        write_subtitles(storyboard, part)
        write_contact_sheet(storyboard, part, tell)
        storyboard, video = _with_video(storyboard, part, captions, tell)
        write_page(storyboard, part, tell)
        write_text(part / STORYBOARD, json.dumps(as_json(storyboard), indent=1, ensure_ascii=False) + "\n")
    scenes = [replace(scene, image=scene.image and folder / scene.image.name) for scene in storyboard.scenes]
    return replace(storyboard, scenes=tuple(scenes)), video and folder / video.name


def _with_video(storyboard: Storyboard, part: Path, captions: str | None, tell: Tell) -> tuple[Storyboard, Path | None]:
    """A copy of the video with captions. One that can't be copied takes nothing from the storyboard but a warning."""
    try:
        return storyboard, write_captioned(storyboard, part, captions, tell) if captions else None
    except NotCopiedError as error:
        said = [storyboard.warning, one_line(error)]
        return replace(storyboard, warning="; ".join(each for each in said if each)), None


def as_json(storyboard: Storyboard) -> dict[str, Any]:
    """What `scenes.json` holds; pictures by their names in the folder."""
    return {
        "software": "a2i",
        "audio": readable(storyboard.source),
        "seconds": round(storyboard.seconds, 3),
        "seed": storyboard.seed,
        "captioner": readable(storyboard.captioner),
        "image_model": storyboard.image_model and readable(storyboard.image_model),
        "warning": storyboard.warning,
        "scenes": [
            {
                "start": round(scene.start, 3),
                "end": round(scene.end, 3),
                "caption": scene.caption,
                "confidence": round(scene.confidence, 4),
                "candidates": list(scene.candidates),
                "image": scene.image and scene.image.name,
            }
            for scene in storyboard.scenes
        ],
    }


def row_of(storyboard: Storyboard, folder: Path) -> dict[str, Any]:
    """What a row of `results.jsonl` says of a storyboard: `caption` is that of the surest scene in which something is heard,
    `sound` the file that its page plays, where it does not hold the sound, and `sheet` is there where pictures are."""
    heard = [scene for scene in storyboard.scenes if scene.caption != SILENCE] or storyboard.scenes
    surest = max(heard, key=lambda scene: scene.confidence)
    scenes = as_json(storyboard)["scenes"]
    return {
        "caption": surest.caption,
        "candidates": list(surest.candidates),
        "confidence": round(surest.confidence, 4),
        "warning": storyboard.warning,
        "page": readable(folder / PAGE),
        "sound": readable(folder / SOUND) if (folder / SOUND).is_file() else None,
        "sheet": readable(folder / SHEET) if (folder / SHEET).is_file() else None,
        "subtitles": [readable(folder / VTT), readable(folder / SRT)],
        "scenes": [
            {name: each[name] for name in ("start", "end", "caption", "confidence")}
            | {"image": each["image"] and readable(folder / each["image"])}
            for each in scenes
        ],
    }


def _refuse_other_files(folder: Path) -> None:
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_new and not (folder / STORYBOARD).is_file():
        raise FileExistsError(
            EEXIST, "holds no storyboard but other files; expected a new folder, or a storyboard's", str(folder)
        )


def _bring_back(old: Path, folder: Path) -> None:
    """Move what the user put into an earlier storyboard's folder to the new one."""
    for each in old.iterdir() if old.exists() else ():
        if each.name not in FILES and not MORE.fullmatch(each.name):
            each.rename(folder / each.name)


@contextmanager
def _taking_the_place_of(folder: Path) -> Iterator[Path]:
    """A new folder, which gets the name of `folder` if all goes well; one that a kill left has the same name, and goes."""
    part, old = (
        folder.with_name(f".{sha256(f'{folder.name}{end}'.encode(errors='surrogateescape')).hexdigest()[:16]}.part")
        for end in ("", "/old")
    )
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        _bring_back(old, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
