"""Draws held-out recordings from caption and sound mixed, and tells how often the right kind is drawn.

    A2I_REAL_DATA=FOLDER python experiments/direct_conditioning/measure_mixed.py --heard HEARD --projector RUN --out MEASURED

Each clip is drawn at every strength from the same noise; a drawing is right where the emoji of the clip's kind is the nearest
of all, as `experiments/mini/nearest_emoji.py` measures it, both in a picture of two. `likeness` is the correlation with that
emoji. `--count` draws so many clips whose caption is right and as many others, at random; what is told of all weighs both as
they come. The program goes on where it stopped.

Writes `drawn.csv`, a row for each drawing; prints the shares with bootstrap intervals over recordings; `--sheet` draws some.
"""

import argparse
import csv
import io
import math
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from hear_clips import Heard, read_heard
from PIL import Image, ImageDraw
from projector import Projector, draw, load_projector, mixed, text_states
from rich.progress import track
from train_projector import NAMES

from a2i.data.kinds import KINDS
from a2i.diffusion import Painter
from a2i.metrics.intervals import bootstrap_of
from a2i.whole import write_text

sys.path.insert(0, str(Path(__file__).parents[1] / "mini"))

from nearest_emoji import Album
from painter_data import layout, read_kinds

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRUTH = -1.0  # stands for the strength where the true kind's sentence is drawn: what the painter could do at best
EQUAL = {True: 1.0, False: 1.0}  # weights of clips by whether their caption is right
SIZE = 64  # pixels of a picture on the sheet
CELL = 118  # pixels of its column of captions


@dataclass(frozen=True)
class Drawn:
    """A recording, drawn at a strength."""

    name: str
    set: str
    recording: str
    verdict: str  # of the caption
    strength: float
    right: bool
    likeness: float


COLUMNS = [field.name for field in fields(Drawn)]


class Easel:
    """Draws and judges: painter, projector and emoji together."""

    def __init__(self, projector: Projector, emoji: Path, likely: bool = False) -> None:
        self.projector, self.album = projector, Album(emoji)
        self.states_of = projector.likely if likely else projector
        self.painter = Painter("embedded", steps=8, guidance_scale=3.0, width=128, height=128, device="cpu")
        self.codes = {kind: layout(*codes) if codes[1:] else codes for kind, codes in read_kinds().items()}

    @torch.no_grad()
    def pictures(self, clip: Heard, read: torch.Tensor) -> dict[float, Image.Image]:
        """Those of a clip of which was read (2 D), by strength, and that of its true kind."""
        (text,), negative = self._states(clip.caption)
        sound = self.states_of(read[None])[0]
        mixtures = [mixed(text, sound, strength) for strength in STRENGTHS[1:]]
        drawn = draw(self.painter, torch.stack(mixtures), negative)
        alone = {0.0: self._picture(clip.caption), TRUTH: self._picture(KINDS[clip.kind].sentences[0])}
        return alone | dict(zip(STRENGTHS[1:], drawn, strict=True))

    @cache  # noqa: B019 (there is one easel)
    def _states(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        return text_states(self.painter, [text])

    @cache  # noqa: B019
    def _picture(self, text: str) -> Image.Image:
        """Of a text alone: many clips have the same caption."""
        return draw(self.painter, *self._states(text))[0]

    @torch.no_grad()
    def landed(self, clip: Heard, read: torch.Tensor) -> list["Drawn"]:
        """At each strength, whether the kind with the nearest text states has the right picture: nothing is drawn."""
        (text,), _ = self._states(clip.caption)
        sound = self.states_of(read[None])[0]
        rows = []
        for strength in STRENGTHS:
            nearest = NAMES[int(self.projector.nearest_to(mixed(text, sound, strength)[None]))]
            right = self.codes[nearest] == self.codes[clip.kind]
            rows.append(Drawn(clip.name, clip.set, clip.recording, clip.verdict, strength, right, math.nan))
        return rows

    def judged(self, clip: Heard, strength: float, picture: Image.Image) -> Drawn:
        codes = self.codes[clip.kind]
        right = self.album.found(picture, len(codes)) == codes
        likeness = round(self.album.likeness(picture, codes), 4)
        return Drawn(clip.name, clip.set, clip.recording, clip.verdict, strength, right, likeness)


def read_drawn(path: Path) -> list[Drawn]:
    """The rows that are there; of one that a kill cut short, nothing."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.values())]
    numbers = ({"strength": float(row["strength"]), "likeness": float(row["likeness"])} for row in rows)
    return [Drawn(**{**row, **two, "right": row["right"] == "True"}) for row, two in zip(rows, numbers, strict=True)]


def write_rows(path: Path, rows: Sequence[Drawn]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    write_text(path, text.getvalue())


def chosen(clips: Sequence[Heard], count: int | None = None) -> list[int]:
    """The numbers of held-out clips whose caption is right, and of others, in turn and at random; all, or `count` of each."""
    numbers = [number for number, clip in enumerate(clips) if clip.set]
    random.Random(0).shuffle(numbers)
    right = [number for number in numbers if clips[number].verdict == "right"]
    others = [number for number in numbers if clips[number].verdict != "right"]
    pairs = zip_longest(right[:count], others[:count])
    return [number for pair in pairs for number in pair if number is not None]


def weights(clips: Sequence[Heard], numbers: Sequence[int]) -> dict[bool, float]:
    """How many held-out clips each drawn one stands for, by whether its caption is right."""
    of_all = Counter(clip.verdict == "right" for clip in clips if clip.set)
    of_drawn = Counter(clips[number].verdict == "right" for number in numbers)
    return {right: of_all[right] / count for right, count in of_drawn.items()}


def share(
    rows: Sequence[Drawn], weighs: Mapping[bool, float], of: Callable[[Drawn], float]
) -> tuple[float, float, float]:
    """Weighted mean over the clips, with the ends of its interval over recordings, of which a clip or several are drawn."""
    by_recording: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        weight = weighs[row.verdict == "right"]
        by_recording[row.recording].append((weight * of(row), weight))
    sums = np.array([np.sum(values, axis=0) for values in by_recording.values()])

    def mean(recordings: np.ndarray) -> float:
        return float(np.divide(*sums[recordings].sum(axis=0)))

    found = bootstrap_of(mean, len(sums))
    return mean(np.arange(len(sums))), found.low, found.high


def told(values: Sequence[float]) -> str:
    """In hundredths, with the interval's ends."""
    mean, low, high = (100 * value for value in values)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def report(rows: Sequence[Drawn], weighs: Mapping[bool, float]) -> None:
    """Print, of all and of each part, the share of right drawings at each strength, and how it differs from the caption's."""
    alone = {row.name: row for row in rows if row.strength == 0}
    parts = {
        "all": rows,
        "caption right": [row for row in rows if row.verdict == "right"],
        "caption not right": [row for row in rows if row.verdict != "right"],
    }
    for name, part in parts.items():
        if len({row.recording for row in part}) < 2:
            continue
        print(f"{name}: {len({row.name for row in part})} clips of {len({row.recording for row in part})} recordings")
        for strength in sorted({row.strength for row in part}):
            own = [row for row in part if row.strength == strength]
            right = told(share(own, weighs, lambda row: row.right))
            more = told(share(own, weighs, lambda row: row.right - alone[row.name].right))
            label = "the true kind's sentence" if strength == TRUTH else f"strength {strength}"
            line = f"  {label}: right {right} %, more than strength 0 by {more}"
            if not math.isnan(own[0].likeness):
                line += f"; likeness {told(share(own, weighs, lambda row: row.likeness))}"
            print(line)


def write_sheet(easel: Easel, clips: Sequence[Heard], read: torch.Tensor, numbers: Sequence[int], file: Path) -> None:
    """A row for each clip: its kind, its caption, and its pictures from caption to sound."""
    columns = len(STRENGTHS)
    sheet = Image.new("RGB", (CELL + columns * (SIZE + 2), len(numbers) * (SIZE + 2) + 14), "white")
    pen = ImageDraw.Draw(sheet)
    for column, strength in enumerate(STRENGTHS):
        pen.text((CELL + column * (SIZE + 2) + 20, 1), f"{strength}", fill="black", font_size=10)
    for line, number in enumerate(track(numbers, "sheet")):
        clip, top = clips[number], 14 + line * (SIZE + 2)
        words = clip.caption.split()
        text = [clip.kind.upper(), *(" ".join(words[first : first + 3]) for first in range(0, len(words), 3))]
        pen.text((2, top), "\n".join(text[:4]), fill="black", font_size=10)
        pictures = easel.pictures(clip, read[number])
        for column, strength in enumerate(STRENGTHS):
            picture = pictures[strength]
            sheet.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), (CELL + column * (SIZE + 2), top))
    sheet.quantize(128).save(file, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heard", type=Path, required=True, help="folder that hear_clips.py wrote")
    parser.add_argument("--projector", type=Path, required=True, help="folder that train_projector.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for drawn.csv")
    parser.add_argument(
        "--likely", action="store_true", help="mix with the kinds' own text states, as likely as each is"
    )
    parser.add_argument("--count", type=int, help="draw so many clips of each sort; default all")
    parser.add_argument(
        "--sheet", type=Path, help="write a PNG with four clips of which the caption is right, and four others"
    )
    arguments = parser.parse_args(argv)
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds emoji/png")
    torch.set_num_threads(1)
    clips, read = read_heard(arguments.heard)
    emoji = Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png"
    easel = Easel(load_projector(arguments.projector), emoji, arguments.likely)
    numbers = chosen(clips, arguments.count)
    table = arguments.out / "drawn.csv"
    rows = read_drawn(table)
    known = {row.name for row in rows if row.strength == TRUTH}  # whose row is a clip's last
    rows = [row for row in rows if row.name in known]
    write_rows(table, rows)
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        for number in track(numbers, "drawing"):
            clip = clips[number]
            if clip.name in known:
                continue
            pictures = easel.pictures(clip, read[number])
            new = [easel.judged(clip, strength, pictures[strength]) for strength in (*STRENGTHS, TRUTH)]
            writer.writerows(map(asdict, new))
            file.flush()
            rows += new
    print("The nearest text states are those of the right picture, of all held-out clips:")
    report([row for number in chosen(clips) for row in easel.landed(clips[number], read[number])], EQUAL)
    names = {clips[number].name for number in numbers}
    print("The nearest emoji is the right one, of the drawn clips:")
    report([row for row in rows if row.name in names], weights(clips, numbers))
    if arguments.sheet:
        right = [number for number in numbers if clips[number].verdict == "right"]
        others = [number for number in numbers if clips[number].verdict != "right"]
        write_sheet(easel, clips, read, [*right[:4], *others[:4]], arguments.sheet)


if __name__ == "__main__":
    main()
