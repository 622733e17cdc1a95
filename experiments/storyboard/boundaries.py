"""How well the boundaries of a storyboard's scenes are found, on recordings joined from known pieces.

    A2I_REAL_DATA=FOLDER python experiments/storyboard/boundaries.py --out boundaries.json

How much must change (`scenes.change`) is chosen on one half of the kinds, and what is reported comes from the other. A
boundary is found where one lies within the tolerance, each matched once; precision, recall and F1 count all recordings'
boundaries together, and the interval is the bootstrap's over recordings. Fixed windows are the reference.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joined import RATE, Joined, joined, real_data, sources
from rich.progress import track

from a2i.storyboard.boundaries import Ear, Heard, cut, hear
from a2i.storyboard.settings import SceneSettings

CHANGES = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
TOLERANCES = (1.0, 0.5)  # seconds
LONGEST = 60.0  # seconds
DRAWS = 1_000  # of the bootstrap

Times = Sequence[float]


def matched(truth: Times, found: Times, tolerance: float) -> tuple[int, int, int]:
    """How many boundaries are found, how many there are, and how many were told. On a line the first match is the best."""
    hits = there = told = 0
    while there < len(truth) and told < len(found):
        if abs(truth[there] - found[told]) <= tolerance:
            hits, there, told = hits + 1, there + 1, told + 1
        elif found[told] < truth[there]:
            told += 1
        else:
            there += 1
    return hits, len(truth), len(found)


def scores(counts: np.ndarray) -> tuple[float, float, float]:
    """Counts (recordings, 3) → F1, precision, recall."""
    hits, there, told = counts.sum(axis=0)
    return 2 * hits / max(there + told, 1), hits / max(told, 1), hits / max(there, 1)


def told(truths: Sequence[Times], founds: Sequence[Times]) -> dict[str, dict[str, float]]:
    """Scores for each tolerance, with a 95 % interval of F1."""
    draw, result = np.random.default_rng(0), {}
    for tolerance in TOLERANCES:
        counts = np.array([matched(*pair, tolerance) for pair in zip(truths, founds, strict=True)])
        f1, precision, recall = scores(counts)
        again = [scores(counts[draw.integers(len(counts), size=len(counts))])[0] for _ in range(DRAWS)]
        low, high = np.percentile(again, [2.5, 97.5])
        result[f"{tolerance} s"] = {"f1": f1, "low": low, "high": high, "precision": precision, "recall": recall}
    return result


def windows(seconds: float, length: float) -> list[float]:
    """The boundaries of fixed windows."""
    return [float(place) for place in np.arange(length, seconds - length / 2, length)]


def ours(heard: Heard, change: float) -> list[float]:
    """The boundaries that the storyboard's first step finds."""
    return [each.end for each in cut(heard, SceneSettings(change=change), LONGEST)[:-1]]


def listened(half: str, count: int, ear: Ear) -> tuple[list[Joined], list[Heard]]:
    """So many recordings of a half, and what the ear hears of them."""
    found = sources(real_data(), half)
    made = [joined(found, seed) for seed in track(range(count), f"joining, {half}")]
    return made, [hear(ear, [each.samples]) for each in track(made, f"hearing, {half}")]


def line(name: str, result: dict[str, dict[str, float]]) -> str:
    cells = [
        f"{of['f1']:.3f} ({of['low']:.3f} to {of['high']:.3f}) | {of['precision']:.3f} | {of['recall']:.3f}"
        for of in result.values()
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--recordings", type=int, default=16, help="of each half")
    parser.add_argument("--out", type=Path, default=Path("boundaries.json"), help="the record")
    given = parser.parse_args()
    torch.set_num_threads(1)
    ear = Ear()
    chosen_on, heard = listened("choosing", given.recordings, ear)
    truths = [each.boundaries for each in chosen_on]
    by_change = {change: told(truths, [ours(each, change) for each in heard]) for change in CHANGES}
    change = max(by_change, key=lambda each: by_change[each]["1.0 s"]["f1"])
    mean = float(np.mean([len(each.samples) / RATE / len(each.kinds) for each in chosen_on]))
    for each, result in by_change.items():
        print(line(f"choosing, change={each}", result))
    made, heard = listened("reporting", given.recordings, ear)
    truths = [each.boundaries for each in made]
    rows = {f"change={change}": told(truths, [ours(each, change) for each in heard])}
    for length in (5.0, 10.0, round(mean, 2)):
        rows[f"windows of {length:g} s"] = told(truths, [windows(each.seconds, length) for each in heard])
    for under in (False, True):
        some = [place for place, each in enumerate(made) if each.background == under]
        name = f"change={change}, {'with' if under else 'without'} background"
        rows[name] = told([truths[place] for place in some], [ours(heard[place], change) for place in some])
    for place, name in enumerate(("esc10", "esc50", "sounds", "urban")):
        some = list(range(place, len(made), 4))
        rows[f"change={change}, {name}"] = told([truths[i] for i in some], [ours(heard[i], change) for i in some])
    for name, result in rows.items():
        print(line(f"reporting, {name}", result))
    record = {
        "choosing": {str(each): result for each, result in by_change.items()},
        "change": change,
        "mean_seconds": mean,
        "boundaries": sum(map(len, truths)),
        "seconds": sum(each.seconds for each in heard),
        "reporting": rows,
        "load": os.getloadavg()[0],
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
