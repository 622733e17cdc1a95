"""Put a trained captioner into the package, its weights as float16, with its model card and its calibration.

    python experiments/mini/ship_captioner.py RUN/captioner --heard ACCURACY/heard.csv

`heard.csv` is what `source_accuracy.py` wrote of recordings that a captioner of this kind has not heard: how sure it is of
captions that are right, and of those that are wrong. Of recorded sounds alone: made ones are easier.
"""

import argparse
import csv
from pathlib import Path

import torch

from a2i.captioner import Captioner
from a2i.captioner.candidates import fit
from a2i.paths import MINI_CAPTIONER

CARD = Path(__file__).parent / "captioner_card.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--heard", type=Path, required=True, help="heard.csv of a cross-validation")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.captioner)
    with arguments.heard.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"] and not row["set"].startswith("made")]
    captioner.calibration = fit([float(row["evidence"]) for row in rows], [row["verdict"] != "wrong" for row in rows])
    print(f"{captioner.calibration}, of {len(rows)} sounds")
    captioner.save(MINI_CAPTIONER, CARD.read_text(encoding="utf-8"), torch.float16)
    size = sum(file.stat().st_size for file in MINI_CAPTIONER.rglob("*") if file.is_file())
    print(f"{MINI_CAPTIONER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
