"""Put a trained captioner into the package, its weights as float16, with its model card.

python experiments/mini/ship_captioner.py RUN/captioner
"""

import argparse
from pathlib import Path

import torch

from a2i.captioner import Captioner
from a2i.places import MINI_CAPTIONER

CARD = Path(__file__).parent / "captioner_card.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.captioner)
    captioner.save(MINI_CAPTIONER, CARD.read_text(encoding="utf-8"), torch.float16)
    size = sum(file.stat().st_size for file in MINI_CAPTIONER.rglob("*") if file.is_file())
    print(f"{MINI_CAPTIONER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
