"""Captions of the two ways side by side, and what the cleaning step makes of them: tables and a plot from the run folders.

    python experiments/first_words/compare.py SWEEP

SWEEP is the folder of a sweep over model.tokenizer.bos and seed. Prints Markdown and writes first_words.png beside this file.
Each model is heard twice: the likeliest token at every step, as its last validation has it, and drawn from the distribution,
which shows what lies behind the likeliest.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure

from a2i import audio
from a2i.captioner import Captioner
from a2i.cleaning import Lexicon, words
from a2i.data.foley import Foley
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.counts import count_captions, lexicon

WAYS = ("as published", "as published, cleaned", "cured", "cured, cleaned")
BATCH = 20  # clips that are captioned at once


@dataclass(frozen=True)
class Outcome:
    """One model's validation captions."""

    valid: float  # share whose first word the references have
    fragments: float  # share that begins with a fragment of the training captions
    begun: float  # share that begins with a capital letter, as all training captions do
    precision: float
    recall: float
    f1: float
    captions: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    arguments = parser.parse_args()
    bertscore = BERTScore(device="cpu")
    found: dict[str, list[Outcome]] = defaultdict(list)
    drawn: dict[str, list[Outcome]] = defaultdict(list)
    references: dict[str, list[str]] = {}
    for run in sorted(path.parent for path in arguments.sweep.glob("*/captioner")):
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        way = "cured" if config["model"]["tokenizer"]["bos"] else "as published"
        known = Lexicon.load(run / "captioner" / "lexicon.json")
        likeliest, references = read_last(run)
        for captions, outcomes in ((likeliest, found), (draw(run, config["data"]), drawn)):
            outcomes[way].append(outcome(captions, references, known, bertscore))
            cleaned = {name: known.clean(caption) for name, caption in captions.items()}
            outcomes[f"{way}, cleaned"].append(outcome(cleaned, references, known, bertscore))
    for title, outcomes in (("the likeliest token", found), ("drawn", drawn)):
        print(f"\n{title}\n")
        show(outcomes)
        side_by_side(outcomes, references)
    plot(found, drawn)


def read_last(run: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions and references of a run's last validation, by file name."""
    table = sorted((run / "captions").glob("epoch_*.csv"))[-1]
    with table.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file_name"])
    texts = {row["file_name"]: [row[f"caption_{n}"] for n in range(1, 6)] for row in rows}
    return {row["file_name"]: row["caption_predicted"] for row in rows}, texts


def draw(run: Path, data: dict[str, Any]) -> dict[str, str]:
    """A caption for each validation clip, drawn from the model's distribution; by file name, in its order."""
    captioner = Captioner.load(run / "captioner")
    source = Foley(**{name: value for name, value in data.items() if name != "_target_"})
    clips = sorted(source.clips("val"), key=lambda clip: clip.name)
    torch.manual_seed(0)
    captions: dict[str, str] = {}
    for first in range(0, len(clips), BATCH):
        some = clips[first : first + BATCH]
        heard = captioner.caption(
            [audio.load(clip.path) for clip in some], num_beams=1, num_candidates=1, do_sample=True
        )
        captions |= {clip.name: one[0].caption for clip, one in zip(some, heard, strict=True)}
    return captions


def outcome(
    captions: dict[str, str], references: dict[str, list[str]], known: Lexicon, bertscore: BERTScore
) -> Outcome:
    texts, groups = list(captions.values()), list(references.values())
    valid = count_captions(texts, lexicon(groups)).first_word_valid
    assert valid is not None
    first = [(words(text) or [""])[0] for text in texts]
    scores = bertscore.score(texts, groups)
    means = [float(each.mean()) for each in (scores.precision, scores.recall, scores.f1)]
    fragments = sum(word in known.fragments for word in first) / len(first)
    begun = sum(text[:1].isupper() for text in texts) / len(texts)
    return Outcome(valid, fragments, begun, *means, captions)


def show(found: dict[str, list[Outcome]]) -> None:
    """Mean and standard deviation over the seeds."""
    print("| | first_word_valid | begins with a fragment | begins with a capital | BERTScore P | R | F1 |")
    print("|---|---|---|---|---|---|---|")
    for way in WAYS:
        outcomes, cells = found[way], []
        for name in ("valid", "fragments", "begun", "precision", "recall", "f1"):
            values = [getattr(one, name) for one in outcomes]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        print(f"| {way} | {' | '.join(cells)} |")


def side_by_side(found: dict[str, list[Outcome]], references: dict[str, list[str]]) -> None:
    """The first clip of each kind, as the first seed's models caption it."""
    print("\n| a reference | as published | cleaned | cured |\n|---|---|---|---|")
    seen: set[str] = set()
    for name, texts in references.items():
        kind = Path(name).stem.split("_", 1)[1]
        if kind not in seen:
            seen.add(kind)
            cells = [found[way][0].captions[name] for way in WAYS[:3]]
            print(f"| {texts[0]} | {' | '.join(cells)} |")


def plot(found: dict[str, list[Outcome]], drawn: dict[str, list[Outcome]]) -> None:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = (
        ("begun", "begins as a caption does"),
        ("valid", "first_word_valid"),
        ("fragments", "begins with a fragment"),
        ("f1", "BERTScore F1"),
    )
    for axes, (name, title) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        for row, way in enumerate(WAYS):
            colour = "tab:red" if way.startswith("as") else "tab:blue"
            for outcomes, marker, up in ((found, "o", -0.12), (drawn, "x", 0.12)):
                values = [getattr(one, name) for one in outcomes[way]]
                label = {"o": "likeliest", "x": "drawn"}[marker] if row == len(WAYS) - 1 else None
                axes.plot(values, [row + up] * len(values), marker, color=colour, alpha=0.7, label=label)
        axes.set_yticks(range(len(WAYS)), WAYS)
        axes.set_ylim(len(WAYS) - 0.5, -0.5)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(Path(__file__).with_name("first_words.png"), dpi=110)


if __name__ == "__main__":
    main()
