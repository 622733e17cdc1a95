"""Draws held-out recordings from caption and sound mixed, and tells how often the right kind is drawn.

    A2I_REAL_DATA=FOLDER python experiments/direct_conditioning/measure_mixed.py --heard HEARD --projector RUN --out MEASURED

Each recording is drawn at every strength from the same noise; a drawing is right where the emoji of the recording's kind is the
nearest of all, as `experiments/mini/nearest_emoji.py` measures it, both in a picture of two. `likeness` is the correlation with
that emoji. Recordings come in a random order: `--count` draws so many of them, and the program goes on where it stopped.

Writes `drawn.csv`, a row for each drawing; prints the shares with bootstrap intervals over recordings; `--sheet` draws some.
"""

import argparse
import csv
import io
import os
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from hear_clips import Heard, read_heard
from PIL import Image, ImageDraw
from projector import Projector, draw, load_projector, mixed, text_states
from rich.progress import track

from a2i.data.kinds import KINDS
from a2i.diffusion import Painter
from a2i.metrics.intervals import bootstrap_of
from a2i.whole import write_text

sys.path.insert(0, str(Path(__file__).parents[1] / "mini"))

from nearest_emoji import Album
from painter_data import layout, read_kinds

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRUTH = -1.0  # stands for the strength where the true kind's sentence is drawn: what the painter could do at best
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

    def __init__(self, projector: Projector, emoji: Path) -> None:
        self.projector, self.album = projector, Album(emoji)
        self.painter = Painter("embedded", steps=8, guidance_scale=3.0, width=128, height=128, device="cpu")
        self.codes = {kind: layout(*codes) if codes[1:] else codes for kind, codes in read_kinds().items()}

    @torch.no_grad()
    def pictures(self, clip: Heard, read: torch.Tensor, strengths: Sequence[float]) -> list[Image.Image]:
        """A clip of which was read (2 D), at each strength."""
        texts, negative = text_states(self.painter, [clip.caption, KINDS[clip.kind].sentences[0]])
        sound = self.projector(read[None])[0]
        states = [texts[1] if strength == TRUTH else mixed(texts[0], sound, strength) for strength in strengths]
        return draw(self.painter, torch.stack(states), negative)

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


def shuffled(clips: Sequence[Heard]) -> list[int]:
    """The numbers of the held-out clips, in a random order that stays the same."""
    numbers = [number for number, clip in enumerate(clips) if clip.set]
    random.Random(0).shuffle(numbers)
    return numbers


def share(rows: Sequence[Drawn], of: Callable[[Drawn], float]) -> tuple[float, float, float]:
    """Mean over the clips, with the ends of its interval over recordings, of which a clip or several are drawn."""
    by_recording: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_recording[row.recording].append(of(row))
    sums = np.array([(sum(values), len(values)) for values in by_recording.values()])

    def mean(chosen: np.ndarray) -> float:
        return float(np.divide(*sums[chosen].sum(axis=0)))

    found = bootstrap_of(mean, len(sums))
    return mean(np.arange(len(sums))), found.low, found.high


def report(rows: Sequence[Drawn]) -> None:
    """Print, of all and of each part, the share of right drawings at each strength, and how it differs from the caption's."""
    at_zero = {row.name: row for row in rows if row.strength == 0}
    sets = sorted({row.set for row in rows})
    parts: dict[str, Callable[[Drawn], bool]] = {
        "all": lambda row: True,
        "caption right": lambda row: row.verdict == "right",
        "caption not right": lambda row: row.verdict != "right",
        **{set_: lambda row, set_=set_: row.set == set_ for set_ in sets},
    }
    for name, belongs in parts.items():
        part = [row for row in rows if belongs(row)]
        names = {row.name for row in part}
        if len({row.recording for row in part}) < 2:
            continue
        print(f"{name}: {len(names)} clips")
        for strength in sorted({row.strength for row in part}):
            own = [row for row in part if row.strength == strength]
            right, change, alike = (
                "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in share(own, of)))
                for of in (
                    lambda row: row.right,
                    lambda row: row.right - at_zero[row.name].right,
                    lambda row: row.likeness - at_zero[row.name].likeness,
                )
            )
            label = "the true kind's sentence" if strength == TRUTH else f"strength {strength}"
            print(f"  {label}: right {right} %; against the caption {change} points; likeness {alike}")


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
        pen.text((2, top), "\n".join(text[:5]), fill="black", font_size=10)
        for column, picture in enumerate(easel.pictures(clip, read[number], STRENGTHS)):
            sheet.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), (CELL + column * (SIZE + 2), top))
    sheet.quantize(128).save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heard", type=Path, required=True, help="folder that hear_clips.py wrote")
    parser.add_argument("--projector", type=Path, required=True, help="folder that train_projector.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for drawn.csv")
    parser.add_argument("--count", type=int, help="how many held-out clips are drawn; default all")
    parser.add_argument(
        "--sheet", type=Path, help="write a PNG with six clips of which the caption is right, and six others"
    )
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds emoji/png")
    torch.set_num_threads(1)
    clips, read = read_heard(arguments.heard)
    easel = Easel(load_projector(arguments.projector), Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png")
    numbers = shuffled(clips)[: arguments.count]
    table = arguments.out / "drawn.csv"
    rows = read_drawn(table)
    strengths, known = (*STRENGTHS, TRUTH), {row.name for row in rows if row.strength == TRUTH}  # which is drawn last
    rows = [row for row in rows if row.name in known]
    write_rows(table, rows)
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        for number in track(numbers, "drawing"):
            clip = clips[number]
            if clip.name in known:
                continue
            pictures = easel.pictures(clip, read[number], strengths)
            new = [easel.judged(clip, *each) for each in zip(strengths, pictures, strict=True)]
            writer.writerows(map(asdict, new))
            file.flush()
            rows += new
    report(rows)
    if arguments.sheet:
        right = [number for number in numbers if clips[number].verdict == "right"]
        others = [number for number in numbers if clips[number].verdict != "right"]
        write_sheet(easel, clips, read, [*right[:6], *others[:6]], arguments.sheet)


if __name__ == "__main__":
    main()
