"""Pictures of captions: drawn by a picture model and kept; and the models that score them."""

import os
import sys
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from a2i.compose import build
from a2i.data.captioned import Captioned
from a2i.evaluate.distributed import Ranks
from a2i.image_settings import NO_STYLE, deciding, is_mini_painter
from a2i.results import settings_of
from a2i.whole import not_written

if TYPE_CHECKING:
    from a2i.diffusion import PictureModel

DEFAULTS = {"clip": "openai/clip-vit-base-patch32", "clap": "laion/clap-htsat-unfused"}
LONGEST = 220  # bytes of a picture's name, without ending
POOL = Path(__file__).parents[1] / "metrics" / "pictures" / "pool.txt"


def load_painter(
    image: dict[str, Any] | None, pictures: str | None, device: Any, tell: bool = True, has_style: bool = False
) -> "PictureModel | None":
    """The picture model of `image=NAME`; None for `image=none`.

    Args:
        image: settings of the picture model; none for no pictures.
        pictures: folder of those that are there, which must be None beside `image`.
        device: where it draws.
        tell: print its name and licence, and what of the settings has no effect.
        has_style: whether a style was asked for.

    Raises:
        ValueError: the model can't be had, or there are pictures already.
    """
    if not image:
        return None
    if pictures is not None:
        raise ValueError("got pictures= and image=; expected a folder of pictures, or a picture model to draw them")
    from a2i.models import licence_line  # here: --help and a wrong name need not wait for torch

    known = licence_line("image", image)
    if tell and known:
        print(known)
    painter: PictureModel = build(image, device=device)
    if tell and not known:
        print(f"pictures by {painter.name}" + (f", licence: {painter.licence}" if painter.licence else ""))
    if tell:
        for remark in (NO_STYLE,) if has_style and is_mini_painter(image) else getattr(painter, "remarks", ()):
            print(f"note: {remark}")
    return painter


def draw(
    clips: Sequence[Captioned],
    painter: "PictureModel",
    folder: Path,
    image: dict[str, Any],
    seed: int,
    ranks: Ranks,
    human: bool,
) -> list[Captioned]:
    """The clips with a picture each: of the predicted caption, or of a person's, which is the first reference.

    A picture that is there already is not drawn again if caption, seed and model are the same; a model's folder counts by
    what is in it.

    Args:
        clips: the same ones on all ranks, which share the work.
        painter: draws each caption with the same seed.
        folder: to which the pictures are written, as PNG.
        image: settings of the painter.
        seed: of each picture.
        ranks: who draw.
        human: whether a person's caption is drawn.
    """
    from rich.progress import track

    model = settings_of({}, deciding(image)).image or ""
    work = [
        (clip.references[0] if human else clip.caption, folder / f"{stem}.png")
        for clip, stem in zip(clips, _stems(clips), strict=True)
    ]
    ours = [each for each in ranks.share(work) if not _is_drawn(*each, seed, model)]
    folder.mkdir(parents=True, exist_ok=True)
    what = "drawing people's captions" if human else "drawing captions"
    for caption, path in track(ours, description=what, disable=not sys.stderr.isatty()):
        _save(painter.draw_batch([caption], [seed])[0].image, path, caption, seed, painter.name, model)
    ranks.gathered([None])  # all are there
    pairs = [(clip, path) for clip, (_, path) in zip(clips, work, strict=True)]
    if human:
        return [replace(clip, human_image=path) for clip, path in pairs]
    return [replace(clip, image=path) for clip, path in pairs]


def _stems(clips: Sequence[Captioned]) -> list[str]:
    """A file name without ending for each clip: its own, with a number behind it where another has that.

    No two are the same on any file system, for some of which `A` is `a`, and `é` in one character is `é` in two.
    """
    own = [_short(PurePosixPath(clip.file_name.replace("\\", "/")).stem) for clip in clips]
    taken: set[str] = set()
    wanted = set(map(_folded, own))
    names = []
    for stem in own:
        name, number = stem, 1
        while _folded(name) in taken or (number > 1 and _folded(name) in wanted):
            number += 1
            name = f"{stem}~{number}"
        taken.add(_folded(name))
        names.append(name)
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _short(stem: str) -> str:
    """A name to which an ending and a number may be added: file systems allow 255 bytes, some of another normal form."""
    if len(unicodedata.normalize("NFD", stem).encode("utf-8", "replace")) <= LONGEST:
        return stem
    digest = sha256(stem.encode("utf-8", "replace")).hexdigest()[:8]
    while len(unicodedata.normalize("NFD", stem).encode("utf-8", "replace")) > LONGEST - 9:
        stem = stem[:-1]
    return f"{stem}~{digest}"


def _is_drawn(caption: str, path: Path, seed: int, model: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            told = image.info
    except OSError:
        return False
    return (told.get("caption"), told.get("seed"), told.get("settings")) == (caption, str(seed), model)


def _save(image: Any, path: Path, caption: str, seed: int, model: str, settings: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    told = {"caption": caption, "seed": str(seed), "model": model, "settings": settings, "Software": "a2i"}
    for key, value in told.items():
        text.add_itxt(key, value)
    part = path.with_name(f".{path.name}.part")
    try:
        image.save(part, format="PNG", pnginfo=text)
        part.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def load_models(
    needs: Collection[str], device: Any, *, clip: dict[str, Any], clap: dict[str, Any], pool: str | None
) -> dict[str, Any]:
    """The models that metrics need, by name, of which a string says why one can't be had.

    Args:
        needs: of the metrics, see `a2i.metrics.Metric`.
        device: where the models run.
        clip: `model` and `revision` of CLIP.
        clap: the same of CLAP.
        pool: see `read_pool`.

    Raises:
        ValueError: a model that was asked for can't be had, or the pool does not fit.
    """
    if not {"clip", "clap"} & set(needs):
        return {}
    from a2i.metrics.pictures import CLAP, CLIP

    models: dict[str, Any] = {"pool": read_pool(pool)}
    if "clip" in needs:
        models["clip"] = _load(CLIP, clip, device)
    if "clap" in needs:
        models["clap"] = _load(CLAP, clap, device)
    return models


def read_pool(path: str | Path | None) -> tuple[str, ...]:
    """The sentences of a pool: a text file with one a line; None for the pool that comes with a2i.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in UTF-8, has fewer than three sentences, or one twice.
    """
    file = POOL if path is None else Path(os.path.expanduser(path))
    try:
        found = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"got pool={file}, which is no text in UTF-8; expected a sentence a line") from error
    if len(found) < 3 or len(set(found)) < len(found):
        raise ValueError(f"got pool={file} with {len(found)} sentences; expected at least three, all different")
    return found


def _load(kind: Any, settings: dict[str, Any], device: Any) -> Any:
    """A model, or why it can't be had where it is the default that nobody asked for."""
    name = kind.kind
    try:
        return kind(settings["model"] or DEFAULTS[name], settings["revision"], device)
    except ValueError as error:
        if settings["model"] is not None:
            raise
        return f"{' '.join(str(error).split())}; {name}.model=FOLDER takes one from the disk"
