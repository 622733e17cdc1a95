"""Denoising steps saved at an equal look: the embedded painter with few steps against diffusers' default of 50.

All else is the same on both sides, a picture at a time: what batches save, which pictures.py measures, is not in here.
What looks equal was settled before looking: in each part (kinds, concepts, scenes of two) as many drawings known for what
they should be as with 50 steps (nearest_emoji.py), and a colour error within 0.5 levels of theirs. A number of steps counts
where all greater ones of the same scheduler look equal too. `--repeats` is the number of seeds.
"""

import os
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import DiffusionPipeline
from measure import HERE, arguments, report
from PIL import Image
from reference import picture
from rich.console import Console
from rich.table import Table

from a2i.diffusion import Painter
from a2i.paths import CONF, MINI_PAINTER

sys.path.insert(0, str(HERE.parent / "mini"))
from nearest_emoji import CONCEPTS, SCENES, USUAL, Album, write_sheet
from painter_data import layout

TOLERANCE = 0.5  # levels of 255
COUNTS = {  # of steps, by scheduler; None is the model's own
    None: (50, 20, 12, 8, 6, 5, 4, 3, 2),
    "DPMSolverMultistepScheduler": (8, 6, 5, 4, 3),
    "UniPCMultistepScheduler": (8, 6, 5, 4, 3),
}
REFERENCE: Any = ("reference", 50)
SIDES = [REFERENCE, *((scheduler, count) for scheduler, counts in COUNTS.items() for count in counts)]
SHOWN = ("A dog barks.", "A piano is playing.", "A dog barks while rain falls.")
TOLD: list[tuple[str, str, tuple[str, ...]]] = [
    *(("kinds", sentence, (code,)) for sentence, code in USUAL.items()),
    *(("concepts", sentence, (code,)) for sentence, code in CONCEPTS.items()),
    *(("scenes", sentence, layout(*codes)) for sentence, codes in SCENES.items()),
]


def draw_all(album: Album, seeds: int) -> tuple[dict[Any, list[dict[str, Any]]], list[tuple[str, Image.Image]]]:
    """By side, a row for each drawing, and the drawings to show: each sentence by all sides, one after the other."""
    settings = yaml.safe_load((CONF / "image" / "mini.yaml").read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if key != "_target_"}
    painters = {name: Painter(**settings | {"scheduler": name}, device="cpu") for name in COUNTS}
    plain = DiffusionPipeline.from_pretrained(MINI_PAINTER, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    same = {key: settings[key] for key in ("guidance_scale", "width", "height")}

    def draw(side: Any, sentence: str, seed: int) -> Image.Image:
        if side == REFERENCE:
            return picture(plain, sentence, seed, **same)  # without a number of steps: the default
        painters[side[0]].steps = side[1]
        return painters[side[0]].draw(sentence, seed).image

    for side in SIDES:
        draw(side, "", 0)  # what the first picture costs besides does not count
    rows: dict[Any, list[dict[str, Any]]] = {side: [] for side in SIDES}
    shown = []
    for (part, sentence, codes), seed in ((told, seed) for told in TOLD for seed in range(seeds)):
        for side in SIDES:
            began = time.perf_counter()
            image = draw(side, sentence, seed)
            row: dict[str, Any] = {"part": part, "seconds": time.perf_counter() - began}
            pixels = np.asarray(image, np.float32)
            if side == REFERENCE:
                target = pixels
            row |= {"right": album.found(image, len(codes)) == codes, "pixels": float(abs(pixels - target).mean())}
            rows[side].append(row | ({"colour": album.colour_error(image, codes[0])} if len(codes) == 1 else {}))
            if sentence in SHOWN and seed == 0 and side[0] is None and side[1] not in (20, 12):
                shown.append((f"{side[1]} steps", image))
    return rows, shown


def summary(rows: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    """What a side's drawings come to; of seconds and ratios the median, the least and the most."""
    seconds = [row["seconds"] for row in rows]
    ratios = [row["seconds"] / mine for row, mine in zip(reference, seconds, strict=True)]
    right, wanted = (Counter(row["part"] for row in some if row["right"]) for some in (rows, reference))
    colour, theirs = (mean(row["colour"] for row in some if "colour" in row) for some in (rows, reference))
    equal = right >= wanted and abs(colour - theirs) <= TOLERANCE
    spread = {name: [median(each), min(each), max(each)] for name, each in (("seconds", seconds), ("ratio", ratios))}
    return {**spread, "right": right, "colour": colour, "pixels": mean(row["pixels"] for row in rows), "equal": equal}


def main() -> None:
    given = arguments(__doc__)
    rows, shown = draw_all(Album(Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png"), given.repeats)
    sums = {side: summary(some, rows[REFERENCE]) for side, some in rows.items()}
    of = Counter(row["part"] for row in rows[REFERENCE])
    table = Table("scheduler, steps", "s per picture", "reference ÷ ours", *of, "colour error", "pixels off", "equal")
    for (scheduler, steps), each in sums.items():
        spread = ("{:.3g} ({:.3g} to {:.3g})".format(*each[key]) for key in ("seconds", "ratio"))
        right = (f"{each['right'][part]} of {count}" for part, count in of.items())
        last = (f"{each['colour']:.2f}", f"{each['pixels']:.2f}", "yes" if each["equal"] else "no")
        table.add_row(f"{scheduler or 'own'}, {steps}", *spread, *right, *last)
    Console(width=160).print(table)
    held = [(by, n) for by, n in SIDES[1:] if all(sums[by, more]["equal"] for more in COUNTS[by] if more >= n)]
    best = min(held, key=lambda side: side[1])
    difference = abs(sums[best]["colour"] - sums[REFERENCE]["colour"])
    equal = {"difference": difference, "tolerance": TOLERANCE, "of": "colour error", "right": "as many in each part"}
    sides = {f"{scheduler or 'own'}, {steps}": each for (scheduler, steps), each in sums.items()}
    seconds = ([row["seconds"] for row in rows[side]] for side in (REFERENCE, best))
    report("steps", f"a picture, scheduler {best[0] or 'own'}, {best[1]} steps", given, *seconds, equal, sides=sides)
    write_sheet(shown, len(shown) // len(SHOWN), given.out / "steps.png")


if __name__ == "__main__":
    main()
