"""How far our caption metrics are from published scores, and from pycocoevalcap on the same captions.

    A2I_REAL_DATA=FOLDER python experiments/caption_metrics_parity/parity.py

Needs Java. Two sets: 520 captions of another system with five references each and the scores published with them; and
Clotho's 1,045 evaluation clips, caption_1 against the other four, as their authors wrote them.
"""

import csv
import os
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from a2i.metrics.captions import score_captions
from a2i.metrics.parts import Parts, Score
from a2i.metrics.tokens import tokenize_without_java

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")


def main() -> None:
    root = Path(os.environ["A2I_REAL_DATA"])
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    print(java, *(f"{name} {version(name)}" for name in ("aac-metrics", "pycocoevalcap", "numpy", "torch")), sep=", ")
    published = read(root / "peer_captions" / "peer_scores.csv")
    clotho = read(root / "clotho" / "clotho_captions_evaluation.csv")
    sets = {
        "another system's": (
            [row["caption_predicted"] for row in published],
            [[row[f"caption_{n}"] for n in range(1, 6)] for row in published],
        ),
        "Clotho's": (
            [row["caption_1"] for row in clotho],
            [[row[f"caption_{n}"] for n in (2, 3, 4, 5)] for row in clotho],
        ),
    }
    for label, (predicted, references) in sets.items():
        print(f"\n{label} {len(predicted)} captions")
        start = time.perf_counter()
        ours = score_captions(predicted, references)
        print(f"ours, all metrics: {time.perf_counter() - start:.0f} s;", end=" ")
        start = time.perf_counter()
        theirs = pycocoevalcap(predicted, references)
        print(f"pycocoevalcap: {time.perf_counter() - start:.0f} s")
        for name in ours:
            if ours[name].missing:
                print(f"{name}: missing: {ours[name].missing}")
        for name, (corpus, clips) in theirs.items():
            compare(name, ours[name], corpus, np.array(clips))
        from_counts(ours)
        if predicted == sets["another system's"][0]:
            against_published(ours, published)
        without_java(predicted, references, ours)
    tokens(root)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compare(name: str, ours: Score, corpus: float, clips: np.ndarray) -> None:
    worst = np.abs(np.array(ours.clips) - clips).max()
    print(f"{name}: corpus ours {ours.value:.6f}, pycocoevalcap {corpus:.6f},", end=" ")
    print(f"difference {abs(ours.value - corpus):.1e}; largest of a clip {worst:.1e}")


def from_counts(ours: dict[str, Score]) -> None:
    """The corpus scores and those of clips that our own formulas make of added counts, as a bootstrap does."""
    for name in (*BLEU, "meteor"):
        if (tally := ours[name].tally) is not None:
            worst = np.abs(tally.formula(tally.counts) - np.array(ours[name].clips)).max()
            print(
                f"{name} from counts: corpus off by {abs(tally.score() - ours[name].value):.1e}, clips by {worst:.1e}"
            )


def against_published(ours: dict[str, Score], rows: list[dict[str, str]]) -> None:
    """The scores printed in the table, of each caption; CIDEr needs clips that are not in it."""
    for name in (*BLEU, "rouge_l", "meteor", "spice"):
        if ours[name].clips is not None:
            want = np.array([float(row[name]) for row in rows])
            worst = np.abs(np.array(ours[name].clips) - want).max()
            print(f"{name}: largest difference from the {len(rows)} published scores {worst:.1e}")


def without_java(predicted: list[str], references: list[list[str]], ours: dict[str, Score]) -> None:
    found = score_captions(predicted, references, [*BLEU, "rouge_l", "cider_d"], Parts(java="no-such-java"))
    worst = max(abs(score.value - ours[name].value) for name, score in found.items())
    print(
        f"without Java ({found['bleu_1'].settings['tokenizer']} tokenizer) the corpus scores differ by up to {worst:.1e}"
    )


def pycocoevalcap(predicted: list[str], references: list[list[str]]) -> dict[str, tuple[float, list[float]]]:
    tokenizer = PTBTokenizer()
    given = tokenizer.tokenize({i: [{"caption": text} for text in group] for i, group in enumerate(references)})
    found = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(predicted)})
    corpus, clips = Bleu(4).compute_score(given, found, verbose=0)
    scores = {name: (corpus[i], clips[i]) for i, name in enumerate(BLEU)}
    for name, scorer in (("rouge_l", Rouge()), ("cider_d", Cider()), ("meteor", Meteor())):
        scores[name] = scorer.compute_score(given, found)
    return scores


def tokens(root: Path) -> None:
    captions = []
    for split in ("development", "evaluation"):
        rows = read(root / "clotho" / f"clotho_captions_{split}.csv")
        captions += [row[f"caption_{n}"] for row in rows for n in range(1, 6)]
    wanted = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    other = sum(wanted[i] != [tokenize_without_java(caption)] for i, caption in enumerate(captions))
    print(f"\nthe tokenizer for machines without Java differs on {other} of Clotho's {len(captions)} captions")


if __name__ == "__main__":
    main()
