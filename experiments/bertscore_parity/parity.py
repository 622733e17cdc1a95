"""How far our BERTScore is from `bert-score` 0.3.13 on Clotho's evaluation captions, and how long each takes.

    A2I_REAL_DATA=FOLDER python experiments/bertscore_parity/parity.py [threads]

Each clip's caption_1 is scored against its other four, with the offline model (all-MiniLM-L6-v2, 6 layers) on the CPU.
"""

import csv
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from bert_score import BERTScorer

from a2i.metrics.bertscore import BERTScore, BERTScores, offline_model_folder


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    captions = Path(os.environ["A2I_REAL_DATA"]) / "clotho" / "clotho_captions_evaluation.csv"
    with captions.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    candidates = [row["caption_1"] for row in rows]
    references = [[row[f"caption_{n}"] for n in (2, 3, 4, 5)] for row in rows]
    theirs = BERTScorer(model_type=str(offline_model_folder()), num_layers=6, device="cpu")
    ours = BERTScore(device="cpu")
    print(f"{len(rows)} clips, 4 references each, {threads} thread(s), bert-score {version('bert-score')}")
    print(ours.settings)

    # The first sentences a process computes are slow for either: neither pays for them here.
    theirs.score(["a dog barks"], [["a dog"]])
    ours.score(["a dog barks"], [["a dog"]])
    start = time.perf_counter()
    want = BERTScores(*theirs.score(candidates, references))
    print(f"bert-score {time.perf_counter() - start:.1f} s")
    for label in ("ours, nothing cached", "ours, all cached"):
        start = time.perf_counter()
        got = ours.score(candidates, references)
        print(f"{label} {time.perf_counter() - start:.1f} s")
    rotated = [row["caption_2"] for row in rows[1:] + rows[:1]]
    start = time.perf_counter()
    ours.score([f"{caption[:-1]} again." for caption in rotated], references)
    print(f"ours, new captions against cached references {time.perf_counter() - start:.1f} s")
    for name in ("precision", "recall", "f1"):
        one, other = getattr(got, name), getattr(want, name)
        difference = (one - other).abs().max().item()
        print(f"{name}: mean ours {one.mean():.6f}, bert-score {other.mean():.6f}; largest difference {difference:.1e}")
    batch_dependence(theirs, rows[:300])


def batch_dependence(theirs: BERTScorer, rows: list[dict[str, str]]) -> None:
    """The same pairs in batches of 64 and one at a time: a clip's own caption, and another clip's."""
    own = [row["caption_1"] for row in rows]
    references = [row["caption_2"] for row in rows]
    for label, candidates in (("own", own), ("another clip's", own[1:] + own[:1])):
        batched = torch.stack(theirs.score(candidates, references, batch_size=64))
        single = torch.stack(theirs.score(candidates, references, batch_size=1))
        change = (batched - single).abs().amax(dim=0)
        print(f"bert-score, {label} caption: {int((change > 1e-5).sum())} of {len(rows)} pairs change", end=" ")
        print(f"between batch sizes 64 and 1, by up to {change.max():.1e};", end=" ")
        scores = []
        for size in (64, 1):
            found = BERTScore(device="cpu", batch_size=size).score(
                candidates, [[reference] for reference in references]
            )
            scores.append(torch.stack((found.precision, found.recall, found.f1)))
        print(f"ours by up to {(scores[0] - scores[1]).abs().max():.1e},", end=" ")
        print(f"and from bert-score's batches of 64 by {(scores[0] - batched).abs().max():.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
