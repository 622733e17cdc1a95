"""Put a trained captioner into the package, its weights as float16, with its model card and its calibration.

    python experiments/mini/ship_captioner.py RUN/captioner --heard ACCURACY/heard.csv

`heard.csv` is what `source_accuracy.py` wrote of a cross-validation: how sure captioners of this kind are of captions that are
right, and of those that are wrong.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import torch

from a2i.captioner import Captioner
from a2i.captioner.candidates import fit
from a2i.features import LogMel
from a2i.paths import MINI_CAPTIONER

CARD = Path(__file__).parent / "captioner_card.md"
# dBFS that softer clips are raised to. It has learnt without; nearly all that it has learnt from is louder, so that to it this
# changes little, and soft sounds are like those that it knows.
LEVEL = -25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--heard", type=Path, required=True, help="heard.csv of a cross-validation")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.captioner)
    captioner.log_mel = LogMel(replace(captioner.log_mel.settings, level=LEVEL))
    with arguments.heard.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"]]
    captioner.calibration = fit([float(row["evidence"]) for row in rows], [row["right"] == "True" for row in rows])
    print(f"{captioner.calibration}, of {len(rows)} sounds")
    captioner.save(MINI_CAPTIONER, CARD.read_text(encoding="utf-8"), torch.float16)
    size = sum(file.stat().st_size for file in MINI_CAPTIONER.rglob("*") if file.is_file())
    print(f"{MINI_CAPTIONER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
