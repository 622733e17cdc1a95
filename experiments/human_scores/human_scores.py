"""What people score against each other on Clotho's evaluation clips, and what captions of other clips score.

    A2I_REAL_DATA=FOLDER OMP_NUM_THREADS=1 python experiments/human_scores/human_scores.py

Writes human_scores.json and human_scores.png beside itself, and prints a table. Needs Java, for METEOR and the tokenizer.
"""

import csv
import json
import os
import random
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from a2i.metrics.bertscore import BERTScore
from a2i.metrics.scoring import Scored, score

HERE = Path(__file__).parent
METRICS = {
    "bertscore_f1": "BERTScore F1",
    "bertscore_precision": "BERTScore P",
    "bertscore_recall": "BERTScore R",
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "meteor": "METEOR",
}
CHOSEN = ["bertscore", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor"]
KINDS = {"human": "a person's caption of the clip", "shuffled": "a person's caption of another clip"}


def main() -> None:
    table = Path(os.environ["A2I_REAL_DATA"]) / "clotho" / "clotho_captions_evaluation.csv"
    with table.open(newline="", encoding="utf-8") as file:
        clips = [[row[f"caption_{n}"] for n in range(1, 6)] for row in csv.DictReader(file)]
    # A cycle through all clips in random order: everyone gets another clip's captions, and each is used once.
    order = random.Random(0).sample(range(len(clips)), len(clips))
    other = {clip: order[place - 1] for place, clip in enumerate(order)}
    bertscore = BERTScore(device="cpu")
    found: dict[str, list[dict[str, list[float]]]] = {kind: [] for kind in KINDS}
    for left_out in range(5):
        references = [[text for n, text in enumerate(group) if n != left_out] for group in clips]
        captions = {
            "human": [group[left_out] for group in clips],
            "shuffled": [clips[other[clip]][left_out] for clip in range(len(clips))],
        }
        for kind, candidates in captions.items():
            scored = score(candidates, references, CHOSEN, bertscore)
            found[kind].append({name: of_scored(scored, name) for name in METRICS})
            print(f"caption_{left_out + 1}, {kind}: done", flush=True)
    packages = ("torch", "transformers", "aac-metrics", "pycocoevalcap")
    record = {
        "clips": len(clips),
        "bertscore": bertscore.settings,
        "versions": {name: version(name) for name in packages},
        "value, low and high end of a 95 % bootstrap interval; by the caption left out, caption_1 first": found,
    }
    (HERE / "human_scores.json").write_text(as_text(record), encoding="utf-8")
    tell(found)
    plot(found, len(clips))


def as_text(record: dict[str, Any]) -> str:
    """JSON with a score a line: value, low and high end."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[\s+([\d.e-]+),\s+([\d.e-]+),\s+([\d.e-]+)\s+\]", r"[\1, \2, \3]", text) + "\n"


def of_scored(scored: Scored, name: str) -> list[float]:
    found = scored.scores[name]
    if found.value is None or found.interval is None:
        raise RuntimeError(f"{name}: {found.missing}")
    return [round(value, 6) for value in (found.value, found.interval.low, found.interval.high)]


def tell(found: dict[str, list[dict[str, list[float]]]]) -> None:
    """A table in Markdown: of each kind caption_1 with its interval, and the least and the greatest of the five."""
    head = "".join(f" {kind}: caption_1, interval | mean of five | least to greatest |" for kind in KINDS)
    print(f"| |{head}\n|---|{'---|' * 6}")
    for name, label in METRICS.items():
        cells = []
        for kind in KINDS:
            value, low, high = found[kind][0][name]
            five = [rotation[name][0] for rotation in found[kind]]
            cells += [
                f"{value:.4f}, {low:.4f} to {high:.4f}",
                f"{np.mean(five):.4f}",
                f"{min(five):.4f} to {max(five):.4f}",
            ]
        print(f"| {label} | {' | '.join(cells)} |")


def plot(found: dict[str, list[dict[str, list[float]]]], count: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for kind, shift, colour in (("human", -0.12, "C0"), ("shuffled", 0.12, "C1")):
        for left_out in range(5):
            places = np.arange(len(METRICS)) + shift + 0.03 * (left_out - 2)
            values = np.array([found[kind][left_out][name] for name in METRICS])
            ends = np.abs(values[:, 1:] - values[:, :1]).T
            label = KINDS[kind] if left_out == 0 else None
            axes.errorbar(values[:, 0], places, xerr=ends, fmt=".", ms=4, lw=0.8, color=colour, label=label)
    axes.set_yticks(range(len(METRICS)), list(METRICS.values()))
    axes.invert_yaxis()
    axes.set(xlim=(0, None), xlabel="score against the clip's four other captions; 95 % bootstrap intervals over clips")
    axes.set_title(f"Clotho evaluation, {count:,} clips; each of the five captions left out in turn")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(HERE / "human_scores.png", dpi=120)


if __name__ == "__main__":
    main()
