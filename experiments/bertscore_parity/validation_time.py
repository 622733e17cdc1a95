"""What a validation on Clotho costs with kept references, beside plain `bert-score`: 1,045 captions, 5 references each.

    A2I_REAL_DATA=FOLDER OMP_NUM_THREADS=1 python experiments/bertscore_parity/validation_time.py

The captions of two "epochs" are people's of the development clips: new sentences each time, of the right length.
"""

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bert_score import score as bert_score

from a2i.metrics.bertscore import BERTScore
from a2i.metrics.sentence_model import offline_model_folder


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    root = Path(os.environ["A2I_REAL_DATA"]) / "clotho"
    references = [[row[f"caption_{n}"] for n in range(1, 6)] for row in read(root / "clotho_captions_evaluation.csv")]
    development = read(root / "clotho_captions_development.csv")[: len(references)]
    epochs = [[row[f"caption_{n}"] for row in development] for n in (1, 2)]
    print(f"{len(references)} captions, {sum(map(len, references))} references, {torch.get_num_threads()} thread")
    # Both models are loaded and have run once before any clock starts; bert-score loads its anew in every call.
    ours = BERTScore(device="cpu")
    ours.score(["warm"], [["up"]])
    folder = str(offline_model_folder())
    theirs = timed(
        "bert-score", lambda: bert_score(epochs[0], references, folder, num_layers=6, device="cpu", nthreads=0)
    )
    first = timed("ours, first validation: all embedded", lambda: ours.score(epochs[0], references))
    second = timed("ours, second: references kept, captions new", lambda: ours.score(epochs[1], references))
    print(f"bert-score takes {theirs[0] / second[0]:.1f} times as long as a validation with kept references")
    for name, want in zip(("precision", "recall", "f1"), theirs[1], strict=True):
        print(f"largest difference of a clip, {name}: {(getattr(first[1], name) - want).abs().max():.1e}")


def timed(label: str, call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, which hardly depend on what else the machine does, and the result."""
    start, began = time.process_time(), time.perf_counter()
    result = call()
    seconds = time.process_time() - start
    print(f"{label}: {seconds:.1f} s of the processor, {time.perf_counter() - began:.1f} s by the clock", flush=True)
    return seconds, result


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
