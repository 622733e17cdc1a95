"""The clips of a report: what a caller gives, and what of it a page shows."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from a2i.audio import Held
from a2i.report.figures import finite
from a2i.report.media import MAX_SECONDS, Sound, embed_picture, embed_sound


@dataclass(frozen=True)
class ClipRow:
    """A clip with what a system made of it.

    Attributes:
        file_name: its name in the data set.
        caption: what the system says; may be empty.
        candidates: captions that it weighed, the best first; the first may be `caption` itself.
        references: what people say.
        scores: of the caption, by metric; None for what could not be computed.
        audio: its sound file, or what holds its content; None if it is not at hand.
        start: seconds from the file's beginning; None for the beginning.
        end: seconds from the file's beginning; None for its end.
        image: the picture drawn from the caption, or its file; None without one.
        human_image: likewise from the first reference.
        confidence: probability, as far as the system can tell, that the caption is right; None if it can't tell.
    """

    file_name: str
    caption: str
    candidates: Sequence[str]
    references: Sequence[str]
    scores: Mapping[str, float | None] = field(default_factory=dict)
    audio: Path | Held | None = None
    start: float | None = None
    end: float | None = None
    image: Path | Image.Image | None = None
    human_image: Path | Image.Image | None = None
    confidence: float | None = None

    @property
    def values(self) -> dict[str, float | None]:
        """The finite scores, and `confidence` where there is one; None for the rest."""
        own = {"confidence": self.confidence} if self.confidence is not None else {}
        return {name: finite(value) for name, value in {**self.scores, **own}.items()}

    @property
    def others(self) -> list[str]:
        """The candidates less the caption itself in the first place."""
        candidates = list(self.candidates)
        return candidates[1:] if candidates[:1] == [self.caption] else candidates


@dataclass(frozen=True)
class Cell:
    """A value in the table of clips: itself, and where it lies between the least and the greatest of all, percent."""

    value: float | None
    at: float | None


@dataclass
class Shown:
    """A clip as a page shows it.

    Attributes:
        rows: of the clip, one for each system.
        cells: a value for each metric.
        sound: None where it is not on the page.
        pictures: data URIs, one for each system; None where there is none on the page.
        human_picture: likewise, drawn from the first reference.
        notes: what of the media is not on the page, and why or where it is.
        embedded: whether there is anything to hear or see.
    """

    rows: Sequence[ClipRow]
    cells: list[Cell]
    sound: Sound | None = None
    pictures: list[str | None] = field(default_factory=list)
    human_picture: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def embedded(self) -> bool:
        return self.sound is not None or any(self.pictures)


def metric_names(rows: Sequence[ClipRow]) -> list[str]:
    """The metrics of clips, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def show(
    clips: Sequence[Sequence[ClipRow]],
    values: Sequence[Mapping[str, float | None]],
    names: Sequence[str],
    media: Collection[int],
    with_sound: bool,
) -> list[Shown]:
    """Put together what the page shows of each clip, and read the sounds and pictures of those that have them.

    Args:
        clips: a row for each system.
        values: of the clips, by metric.
        names: of the metrics.
        media: indices of the clips with sound, spectrogram and pictures.
        with_sound: False for spectrograms and pictures alone.
    """
    from rich.progress import track

    from a2i.features import LogMel

    columns = [_cells([each.get(name) for each in values]) for name in names]
    shown = [Shown(rows, [column[index] for column in columns]) for index, rows in enumerate(clips)]
    log_mel = LogMel()
    for index in track(sorted(media), description="sounds and pictures", disable=not sys.stderr.isatty()):
        clip = shown[index]
        row = next((row for row in clip.rows if row.audio is not None), None)
        if row is not None and row.audio is not None:
            try:
                clip.sound = embed_sound(row.audio, row.start, row.end, log_mel, with_sound)
            except (OSError, ValueError) as error:
                clip.notes.append(f"No sound: {error}")
        clip.pictures = [_picture(row.image, clip.notes) for row in clip.rows]
        clip.human_picture = _picture(clip.rows[0].human_image, clip.notes)
    for index, clip in enumerate(shown):
        clip.notes.extend(_elsewhere(clip, index in media, with_sound))
    return shown


def _picture(image: Path | Image.Image | None, notes: list[str]) -> str | None:
    try:
        return None if image is None else embed_picture(image)
    except (OSError, ValueError) as error:
        notes.append(f"No picture: {error}")
        return None


def best_and_worst(columns: Sequence[Sequence[float | None]], count: int | None) -> list[int]:
    """Indices of `count` clips: each metric's least and greatest in turn, then clips that have no value; None for all.

    Args:
        columns: the clips' values of each metric.
        count: of clips that are wanted.
    """
    turns = []
    for column in columns:
        upwards = sorted((value, index) for index, value in enumerate(column) if value is not None)
        pairs = zip(upwards, reversed(upwards), strict=True)
        turns.append([index for pair in pairs for _, index in pair])
    in_turn = (index for turn in zip_longest(*turns) for index in turn if index is not None)
    rest = range(len(columns[0]) if columns else 0)
    return list(dict.fromkeys([*in_turn, *rest]))[:count]


def _cells(values: Sequence[float | None]) -> list[Cell]:
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1) if high > low else 100.0

    return [Cell(value, None if value is None else place(value)) for value in values]


def _elsewhere(clip: Shown, embedded: bool, with_sound: bool) -> list[str]:
    """Where the media lie that the page does not hold."""
    notes = []
    sound = next((row for row in clip.rows if row.audio is not None), None)
    if sound is not None and not (embedded and (with_sound or clip.sound is None)):
        ends = sound.start is not None or sound.end is not None
        last = "its end" if sound.end is None else f"{sound.end:g} s"
        notes.append(f"Sound: {sound.audio}" + (f", {sound.start or 0:g} s to {last}" if ends else ""))
    if clip.sound is not None and clip.sound.cut and clip.sound.player:
        notes.append(f"The first {MAX_SECONDS:g} s")
    if not embedded:
        images = [row.image for row in clip.rows if row.image is not None]
        notes.extend(f"Picture: {image if isinstance(image, Path) else 'not on this page'}" for image in images)
    return notes
