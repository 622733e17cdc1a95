"""A recording of any length → its scenes, each with its caption and, where there is a picture model, its picture.

The recording is read twice, block by block: once to find where the sound changes (`a2i.storyboard.boundaries`), once to caption
what lies between. Neighbours with the same caption, or that sound the same, become one scene before anything is drawn.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from a2i.audio import Recording, duration
from a2i.captioner.batching import batch_or_each, caption_many
from a2i.pipeline import AudioToImage
from a2i.result import Result
from a2i.storyboard import Scene, Storyboard
from a2i.storyboard.boundaries import Ear, Stretch, cut, hear, is_alike, together
from a2i.storyboard.settings import SceneSettings
from a2i.storyboard.told import Tell, nobody

SILENCE = "There is silence."  # of a scene in which nothing is heard: no captioner is asked

TOGETHER = 20.0  # seconds that are captioned at once: what an encoder computes of a minute takes a gigabyte
HEARING, CAPTIONING, DRAWING = "hearing (seconds)", "captioning (seconds)", "drawing (pictures)"


@dataclass(frozen=True)
class Draft:
    """A scene before it is drawn.

    Attributes:
        stretch: of the recording.
        caption: what is heard.
        confidence: see `a2i.captioner.candidates.Candidate`.
        candidates: the best captions, `caption` the first of them.
        log_probabilities: of the candidates.
    """

    stretch: Stretch
    caption: str
    confidence: float
    candidates: tuple[str, ...]
    log_probabilities: tuple[float, ...]


def make_storyboard(
    a2i: AudioToImage,
    sound: str | Path,
    folder: str | Path | None = None,
    settings: SceneSettings | None = None,
    seed: int = 0,
    batch_size: int = 8,
    picture_batch: int = 1,
    tell: Tell = nobody,
    ear: Ear | None = None,
    **decoding: Any,
) -> Storyboard:
    """Find the scenes of a recording, caption and draw them. Memory does not grow with the recording's length, but for
    some 20 MB an hour.

    Examples:
        >>> storyboard = make_storyboard(a2i, "bell.wav", "bell")
        >>> storyboard.scenes[0].caption, storyboard.scenes[0].image.name
        ('A bell rings several times.', '01.png')

    Args:
        a2i: captions and draws.
        sound: a sound file, or a video with sound.
        folder: for the pictures, `01.png` and so on; made if it is not there. None to draw none.
        settings: of the scenes; None for the defaults.
        seed: of sampling, where captions are sampled, and of the pictures.
        batch_size: scenes that are captioned at once, fewer where they are long.
        picture_batch: pictures that are drawn at once.
        tell: is called with what is being done (`HEARING`, `CAPTIONING` or `DRAWING`), how much of it is done and of how much:
            seconds, seconds, pictures. An exception that it raises ends the work and comes out here.
        ear: that finds the boundaries; None to load it.
        **decoding: changes of the captioner's decoding settings, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read as sound, is a pipe, or changed while it was read; or a decoding setting does not fit.
        OSError: a picture can't be written.
    """
    path, settings = Path(sound), settings or SceneSettings()
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"{path}: is a pipe or device, which can be read once; expected a file for a storyboard, which is made in two"
            " readings: write the sound to a file first"
        )
    longest = settings.longest or a2i.captioner.longest
    if longest < 2 * settings.shortest:
        raise ValueError(
            f"got scenes.shortest={settings.shortest:g} with a captioner that hears {longest:g} s as one clip; expected at most"
            f" half of that, or scenes.longest"
        )
    ear = ear or Ear(a2i.captioner.device)
    first = Recording(path, ear.rate)
    about = duration(path, exact=False)
    heard = hear(ear, first.blocks(), lambda seconds: tell(HEARING, seconds, max(seconds, about)))
    stretches = cut(heard, settings, longest)
    drafts = list(_captioned(a2i, path, stretches, seed, batch_size, tell, decoding))
    scenes = _joined(drafts, settings)
    pictures: Sequence[Path | None] = [None] * len(scenes)
    if a2i.painter is not None and folder is not None:
        pictures = list(_drawn(a2i, scenes, Path(folder), seed, picture_batch, tell))
    return Storyboard(
        source=path,
        scenes=tuple(
            Scene(each.stretch.start, each.stretch.end, each.caption, each.confidence, each.candidates, picture)
            for each, picture in zip(scenes, pictures, strict=True)
        ),
        seed=seed,
        captioner=a2i.name,
        image_model=None if a2i.painter is None else a2i.painter.name,
        warning=first.warning,
    )


def _captioned(
    a2i: AudioToImage,
    path: Path,
    stretches: Sequence[Stretch],
    seed: int,
    batch_size: int,
    tell: Tell,
    decoding: dict[str, Any],
) -> Iterator[Draft]:
    """Each stretch with its caption, in their order; in memory is one stretch, or a batch of `TOGETHER` seconds."""
    rate, total = a2i.captioner.sampling_rate, stretches[-1].end
    held: list[tuple[Stretch, np.ndarray | None]] = []
    for stretch, samples in zip(stretches, _cut(path, rate, stretches), strict=True):
        # Beside the longest the others are padded.
        seconds = (len(held) + 1) * max(each.seconds for each in (stretch, *(each for each, _ in held)))
        if held and (len(held) >= batch_size or seconds > TOGETHER):
            yield from _caption(a2i, held, seed, decoding)
            held = []
            tell(CAPTIONING, stretch.start, total)
        held.append((stretch, samples))
    yield from _caption(a2i, held, seed, decoding)
    tell(CAPTIONING, total, total)


def _caption(
    a2i: AudioToImage, held: Sequence[tuple[Stretch, np.ndarray | None]], seed: int, decoding: dict[str, Any]
) -> Iterator[Draft]:
    rate = a2i.captioner.sampling_rate
    sounds = [(samples, rate) for _, samples in held if samples is not None]
    results = caption_many(a2i.captioner, sounds, max(len(sounds), 1), seed, **decoding)
    for stretch, samples in held:
        if samples is None:
            yield Draft(stretch, SILENCE, 1.0, (SILENCE,), (0.0,))
            continue
        if isinstance(found := next(results), Exception):
            raise found
        if not math.isfinite(found.candidates[0].confidence):
            raise ValueError("the captioner gave a confidence that is no number; its weights may be broken")
        yield Draft(
            stretch,
            found.candidates[0].caption,
            found.candidates[0].confidence,
            tuple(each.caption for each in found.candidates),
            tuple(each.log_probability for each in found.candidates),
        )


def _cut(path: Path, rate: int, stretches: Sequence[Stretch]) -> Iterator[np.ndarray | None]:
    """(samples,) of each stretch, the last to the recording's end; None of a silent one, which may last for hours."""
    ends = [round(stretch.end * rate) for stretch in stretches]
    held: list[np.ndarray] = []
    place = index = 0

    def keep(block: np.ndarray) -> None:
        if not stretches[index].is_silent:
            held.append(block)

    def kept() -> np.ndarray | None:
        if stretches[index].is_silent:
            return None
        samples = np.concatenate([np.zeros(0, np.float32), *held])
        if not len(samples):
            raise _changed(path)
        return samples

    for block in Recording(path, rate).blocks():
        while index < len(ends) - 1 and place + len(block) >= ends[index]:
            first = ends[index] - place
            keep(block[:first])
            yield kept()
            held, block, place, index = [], block[first:], ends[index], index + 1
        keep(block)
        place += len(block)
    if index < len(ends) - 1:
        raise _changed(path)
    yield kept()


def _changed(path: Path) -> ValueError:
    return ValueError(
        f"{path}: got shorter while it was read; expected a file that nothing writes to: run the same command again"
    )


def _joined(drafts: Sequence[Draft], settings: SceneSettings) -> list[Draft]:
    """Neighbours that have the same caption, or sound the same, as one, with the caption of the surer."""
    scenes: list[Draft] = []
    for draft in drafts:
        last = scenes[-1] if scenes else None
        if last is None or last.stretch.is_silent != draft.stretch.is_silent:
            scenes.append(draft)
        elif last.caption == draft.caption or is_alike(last.stretch, draft.stretch, settings):
            surer = max(last, draft, key=lambda each: each.confidence)
            scenes[-1] = Draft(
                together(last.stretch, draft.stretch),
                surer.caption,
                surer.confidence,
                surer.candidates,
                surer.log_probabilities,
            )
        else:
            scenes.append(draft)
    return scenes


def _drawn(
    a2i: AudioToImage, scenes: Sequence[Draft], folder: Path, seed: int, picture_batch: int, tell: Tell
) -> Iterator[Path]:
    """Draw the scenes, each a file of the folder."""
    painter = a2i.painter
    assert painter is not None
    digits = max(2, len(str(len(scenes))))
    for first in range(0, len(scenes), picture_batch):
        tell(DRAWING, first, len(scenes))
        batch = scenes[first : first + picture_batch]
        drawings = batch_or_each(
            lambda some: painter.draw_batch(some, [seed] * len(some)), [each.caption for each in batch]
        )
        for number, (scene, drawing) in enumerate(zip(batch, drawings, strict=True), first + 1):
            if isinstance(drawing, Exception):
                raise drawing
            result = Result(
                caption=scene.caption,
                candidates=scene.candidates,
                image=drawing.image,
                log_probabilities=scene.log_probabilities,
                confidence=scene.confidence,
                seed=seed,
                captioner=a2i.name,
                image_model=painter.name,
                flagged=drawing.flagged,
                unseen_tokens=painter.tokens_over(scene.caption),
                seconds=0.0,
            )
            yield result.save(folder / f"{number:0{digits}}.png")
    tell(DRAWING, len(scenes), len(scenes))
