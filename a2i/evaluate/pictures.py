"""Pictures of captions: drawn by a picture model, kept, and scored with CLIP and CLAP."""

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from a2i import audio
from a2i.compose import build
from a2i.data.captioned import Captioned
from a2i.evaluate.distributed import Ranks
from a2i.results import settings_of

if TYPE_CHECKING:
    from torch import Tensor

    from a2i.diffusion import Painter
    from a2i.metrics.pictures import CLAP, CLIP
    from a2i.metrics.scoring import Figure

DEFAULTS = {"clip": "openai/clip-vit-base-patch32", "clap": "laion/clap-htsat-unfused"}
LONGEST = 220  # bytes of a picture's name, without ending
POOL = Path(__file__).parents[1] / "metrics" / "pictures" / "pool.txt"


def load_painter(settings: dict[str, Any], device: Any, tell: bool = True) -> "Painter | None":
    """The picture model of `image=NAME`; None for `image=none`.

    Args:
        settings: `image`, and `pictures`, which must be null beside it.
        device: where it draws.
        tell: print its name and licence.

    Raises:
        ValueError: the model can't be had, or there are pictures already.
    """
    if not settings["image"]:
        return None
    if settings["pictures"] is not None:
        raise ValueError("got pictures= and image=; expected a folder of pictures, or a picture model to draw them")
    painter: Painter = build(settings["image"], device=device)
    if tell:
        print(f"pictures by {painter.name}" + (f", licence: {painter.licence}" if painter.licence else ""))
    return painter


def draw(
    clips: Sequence[Captioned], painter: "Painter", folder: Path, settings: dict[str, Any], ranks: Ranks, human: bool
) -> list[Captioned]:
    """The clips with a picture each: of the predicted caption, or of a person's, which is the first reference.

    A picture that is there already is not drawn again if caption, seed and model are the same; a model's folder counts by
    what is in it.

    Args:
        clips: the same ones on all ranks, which share the work.
        painter: draws each caption with the same seed.
        folder: to which the pictures are written, as PNG.
        settings: `image` and `seed`.
        ranks: who draw.
        human: whether a person's caption is drawn.
    """
    from rich.progress import track

    seed, model = settings["seed"], settings_of({}, settings["image"]).image or ""
    work = [
        (clip.references[0] if human else clip.caption, folder / f"{stem}.png")
        for clip, stem in zip(clips, _stems(clips), strict=True)
    ]
    ours = [each for each in ranks.share(work) if not _is_drawn(*each, seed, model)]
    folder.mkdir(parents=True, exist_ok=True)
    what = "drawing people's captions" if human else "drawing captions"
    for caption, path in track(ours, description=what, disable=not sys.stderr.isatty()):
        _save(painter.draw(caption, seed).image, path, caption, seed, painter.name, model)
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
    image.save(part, format="PNG", pnginfo=text)
    part.replace(path)


@dataclass(frozen=True)
class PictureScorer:
    """The chosen picture metrics with their models, of which a string says why one can't be had."""

    metrics: Sequence[str]
    clip: "CLIP | str"
    clap: "CLAP | str"
    pool: Sequence[str]

    @classmethod
    def of(cls, settings: dict[str, Any], metrics: Sequence[str], device: Any) -> "PictureScorer":
        """Load the models.

        Raises:
            ValueError: a model that was asked for can't be had, or the pool does not fit.
        """
        from a2i.metrics.pictures import CLAP, CLIP

        pool = read_pool(settings["pool"])
        clap = _load(CLAP, settings["clap"], device) if "audio_image_similarity" in metrics else "not asked for"
        return cls(metrics, _load(CLIP, settings["clip"], device), clap, pool)

    def score(self, clips: Sequence[Captioned]) -> "dict[str, Figure]":
        """Figures of the clips that have what each needs; of the others the values are not a number."""
        from a2i.metrics.scoring import BLAME, CLIP_SCORES, Figure

        figures: dict[str, Figure] = {}
        for metric, names, compute in (
            ("clip_score", CLIP_SCORES, self._clip_scores),
            ("audio_image_similarity", ("audio_image_similarity",), self._audio_image),
            ("blame", BLAME, self._blame),
        ):
            if metric in self.metrics:
                found = compute(clips)
                figures |= found if isinstance(found, dict) else {name: Figure(None, missing=found) for name in names}
        return figures

    def _clip_scores(self, clips: Sequence[Captioned]) -> "dict[str, Figure] | str":
        from a2i.metrics.pictures import score_pictures
        from a2i.metrics.scoring import CLIP_SCORES

        rows = [i for i, clip in enumerate(clips) if clip.image is not None]
        if not rows:
            return "no clip has a picture: image=NAME draws them, pictures=FOLDER takes those of a2i.infer"
        if isinstance(self.clip, str):
            return self.clip
        shown = [clips[i] for i in rows]
        images = [clip.image for clip in shown if clip.image is not None]
        found = score_pictures(self.clip, images, [clip.caption for clip in shown], [clip.references for clip in shown])
        tensors = (found.clip_score, found.ref_clip_score, found.reference_score)
        return {
            name: _figure(values, rows, len(clips), found.settings)
            for name, values in zip(CLIP_SCORES, tensors, strict=True)
            if values is not None
        }

    def _blame(self, clips: Sequence[Captioned]) -> "dict[str, Figure] | str":
        from a2i.metrics.pictures import blame_pictures
        from a2i.metrics.scoring import BLAME

        if not any(clip.human_image for clip in clips):
            return "it needs pictures of people's captions by the same painter: image=NAME draws both"
        rows = [i for i, clip in enumerate(clips) if _can_be_blamed(clip)]
        if isinstance(self.clip, str) or len(rows) < 2:
            why = f"{len(rows)} clips have a reference besides the one that was drawn; expected at least two"
            return self.clip if isinstance(self.clip, str) else why
        shown = [clips[i] for i in rows]
        found = blame_pictures(
            self.clip,
            [clip.image for clip in shown if clip.image],
            [clip.human_image for clip in shown if clip.human_image],
            [clip.references[0] for clip in shown],
            [clip.references for clip in shown],
        )
        values = (found.predicted, found.human, found.human_chance, found.captioner, found.conveyed)
        settings = found.settings or {}
        return {name: _figure(each, rows, len(clips), settings) for name, each in zip(BLAME, values, strict=True)}

    def _audio_image(self, clips: Sequence[Captioned]) -> "dict[str, Figure] | str":
        from a2i.metrics.pictures import compare_audio_image, retrieval

        if isinstance(self.clip, str) or isinstance(self.clap, str):
            return self.clip if isinstance(self.clip, str) else str(self.clap)
        rows = [i for i, clip in enumerate(clips) if clip.image is not None and _is_heard(clip)]
        if len(rows) < 2:
            return (
                f"{len(rows)} clips have both a sound that can be read and a picture; expected at least two "
                "(audio=FOLDER finds sounds)"
            )
        images = [image for i in rows if (image := clips[i].image)]
        sounds = _waveforms([clips[i] for i in rows])
        found = compare_audio_image(self.clap, self.clip, sounds, audio.SAMPLE_RATE, images, self.pool)
        own = _figure(found.similarity.diagonal(), rows, len(clips), found.settings)
        ranked = retrieval(found.similarity)
        details = {"sound_finds_picture": ranked.forward.summary, "picture_finds_sound": ranked.backward.summary}
        return {"audio_image_similarity": replace(own, details=details)}


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


def _is_heard(clip: Captioned) -> bool:
    """Whether there is a sound that can be read: beside another system's captions nobody has heard it yet."""
    try:
        return clip.audio is not None and len(audio.load(clip.audio, clip.start, clip.end)) > 0
    except (OSError, ValueError):
        return False


def _waveforms(clips: Sequence[Captioned]) -> Iterator[np.ndarray]:
    for clip in clips:
        assert clip.audio is not None
        yield audio.load(clip.audio, clip.start, clip.end)


def _figure(values: "Tensor", rows: Sequence[int], count: int, settings: dict[str, Any]) -> "Figure":
    """A figure of `count` clips, of which those in `rows` have a value."""
    from a2i.metrics.scoring import Figure

    clips = np.full(count, np.nan)
    clips[list(rows)] = values.double().numpy()
    return Figure(float(values.double().mean()), None, tuple(clips.tolist()), None, {**settings, "clips": len(rows)})


def _can_be_blamed(clip: Captioned) -> bool:
    """Whether there are both pictures, and a reference besides the one that was drawn."""
    drawn, *others = map(str.strip, clip.references)
    return clip.image is not None and clip.human_image is not None and any(other not in ("", drawn) for other in others)
