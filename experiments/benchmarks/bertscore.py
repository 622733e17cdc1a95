"""A validation's BERTScore with five references, offline model: ours against `bert_score.score`.

The second validation: ours has the references of the first in memory; `bert-score` begins from nothing, as it always does.
"""

import csv
import os
import sys
from pathlib import Path

import torch
from measure import alternate, arguments, report
from reference import bertscore

from a2i.metrics.bertscore import BERTScore, offline_model_folder


def main() -> None:
    given = arguments(__doc__, clips=100)
    if not os.environ.get("A2I_REAL_DATA"):
        sys.exit(
            "needs Clotho's captions: set A2I_REAL_DATA to a folder that has clotho/clotho_captions_evaluation.csv"
        )
    table = Path(os.environ["A2I_REAL_DATA"]) / "clotho" / "clotho_captions_evaluation.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[: given.clips + 1]
    references = [[row[f"caption_{n}"] for n in range(1, 6)] for row in rows[:-1]]
    # Another clip's caption, changed a little each time: every validation has captions of its own.
    captions = [row["caption_1"] for row in rows[1:]]
    scorer, folder = BERTScore(device="cpu"), str(offline_model_folder())
    scorer.score(captions, references)
    turn = {"reference": 0, "ours": 0}

    def new(side: str) -> list[str]:
        turn[side] += 1
        return [f"{caption} {turn[side]} times" for caption in captions]

    theirs, mine, wanted, found = alternate(
        lambda: bertscore(new("reference"), references, folder, 6),
        lambda: scorer.score(new("ours"), references).f1,
        given.repeats,
    )
    difference = (wanted - torch.as_tensor(found)).abs().max().item()
    equal = {"difference": difference, "tolerance": 1e-5, "of": "every clip's F1"}
    report("bertscore", f"BERTScore of {given.clips} captions, five references, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
