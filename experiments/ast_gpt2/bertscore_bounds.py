"""Between which BERTScores a captioner can lie on Clotho: people against people, and captions of other clips.

    python experiments/ast_gpt2/bertscore_bounds.py CLOTHO [--layers 2 4 6]

CLOTHO holds clotho_captions_evaluation.csv. The model is the offline one, at one layer after another. `people`: each caption
against the other four of its clip, leave one out. `shuffled`: each caption against four captions of a clip at random.
"""

import argparse
import csv
import random
from pathlib import Path

from a2i.metrics.bertscore import BERTScore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clotho", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6])
    arguments = parser.parse_args()
    with (arguments.clotho / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
        clips = [[row[f"caption_{n}"] for n in range(1, 6)] for row in csv.DictReader(file)]
    print("| layer | captions | P | R | F1 |\n|---|---|---|---|---|")
    for layer in arguments.layers:
        bertscore = BERTScore(num_layers=layer, device="cpu")
        for name, groups in (("people", clips), ("shuffled", elsewhere(clips))):
            pairs = [
                (caption, [*group[:left], *group[left + 1 :]])
                for captions, group in zip(clips, groups, strict=True)
                for left, caption in enumerate(captions)
            ]
            scores = bertscore.score([caption for caption, _ in pairs], [references for _, references in pairs])
            means = [f"{float(each.mean()):.4f}" for each in (scores.precision, scores.recall, scores.f1)]
            print(f"| {layer} | {name} | {' | '.join(means)} |", flush=True)


def elsewhere(clips: list[list[str]]) -> list[list[str]]:
    """For each clip the captions of another: a random ring, so that none meets its own."""
    order = list(range(len(clips)))
    random.Random(0).shuffle(order)
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    return [clips[following[index]] for index in range(len(clips))]


if __name__ == "__main__":
    main()
