"""A caption table for foley's sequences, cut so that the second sound begins right after the 10.24 s of AST's positions.

    python experiments/open_ends/late_events.py FOLDER

Makes 220 sequences of two of four sources in FOLDER and writes FOLDER/captions.csv, for data=folder. Of each clip 10.7 s lie
before the change and 4 s after it (the crossfade is 0.4 s at most), and its one caption names both sounds.
"""

import argparse
import csv
from pathlib import Path

from a2i.data.foley import Foley
from a2i.data.foley.recipe import SPLITS, file_name_of, scene_of

BEFORE, AFTER = 10.7, 4.0  # seconds
CLAUSES = {"rain": "rain falls", "bell": "a bell rings", "siren": "a siren wails", "birdsong": "birds sing"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    # The change lies at 0.42 to 0.58 of a clip.
    lengths = {"min_seconds": 25.5, "max_seconds": 26.0}
    shares = {"alone": 0.0, "mixed": 0.0, "sequence": 1.0}
    source = Foley(
        arguments.folder, n_train=160, n_val=60, n_test=0, **lengths, **shares, sources=list(CLAUSES), workers=1
    )
    source.prepare()
    with (arguments.folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption", "split", "start", "end"])
        for split in ("train", "val"):
            for index in range(source.settings.size(split)):
                scene = scene_of(source.settings, split, index)
                first, last = (CLAUSES[name] for name in scene.sources)
                caption = f"{first[0].upper()}{first[1:]}, then {last}."
                name = f"{SPLITS[split]}/{file_name_of(source.settings, split, index)}"
                start = scene.change - BEFORE
                writer.writerow([name, caption, split, f"{start:.3f}", f"{start + BEFORE + AFTER:.3f}"])
    print(f"wrote {arguments.folder / 'captions.csv'}")


if __name__ == "__main__":
    main()
