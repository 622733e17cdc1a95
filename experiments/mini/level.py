"""How many sounds the embedded captioner names when they are softer, with `features.level` and without.

    A2I_REAL_DATA=FOLDER python experiments/mini/level.py

The figures in the model card and in this folder's README are its.
"""

import argparse
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from a2i import AudioToImage, audio
from a2i.data.esc10 import Esc10
from a2i.data.esc10_captions import kinds_named
from a2i.data.unnamed import Unnamed
from a2i.data.unnamed.captions import unnamed_kinds

LEVELS = (0, -10, -20, -30, -40)  # dB
GREEDY = {"num_beams": 1, "num_candidates": 1, "batch_size": 16}


def recordings(a2i: AudioToImage, source: Esc10, decibels: int) -> tuple[int, int]:
    """Captions that name the kind and no other, and captions of silence, of one fold made softer."""
    clips, kinds, rate = source.clips("val"), source.kinds("val"), a2i.captioner.sampling_rate
    sounds = [(audio.load(clip.path, rate) * np.float32(10 ** (decibels / 20)), rate) for clip in clips]
    captions = [result.caption for result in a2i.each(sounds, **GREEDY) if not isinstance(result, Exception)]
    right = sum(kinds_named(text) == {kinds[clip.name]} for clip, text in zip(clips, captions, strict=True))
    return right, sum(unnamed_kinds(text) == {"silence"} for text in captions)


def unnamed(a2i: AudioToImage, source: Unnamed) -> dict[str, tuple[int, int]]:
    """Right captions of silence, noise and unknown sounds, and how many there are of each."""
    clips, right, count = source.clips("test"), Counter[str](), Counter[str]()
    for clip, result in zip(clips, a2i.each([clip.path for clip in clips], **GREEDY), strict=True):
        (label,) = clip.labels or ()
        count[label] += 1
        right[label] += not isinstance(result, Exception) and unnamed_kinds(result.caption) == {label}
    return {label: (right[label], count[label]) for label in sorted(count)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fold", type=int, default=4, help="of ESC-10, which the embedded captioner was trained on")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for the made sounds")
    given = parser.parse_args()
    a2i = AudioToImage.load(image=None, device="cpu")
    source = Esc10(Path(os.environ["A2I_REAL_DATA"]) / "esc10", val_fold=given.fold)
    made = Unnamed(given.work / "unnamed_level", n_train=0, n_val=0, n_test=200, seed=3000)
    made.prepare()
    kept = a2i.captioner.log_mel.settings
    table = Table("", *(f"{level} dB" for level in LEVELS), "silence", "noise", "unknown")
    for name, settings in (("without", replace(kept, level=None)), (f"level {kept.level:g}", kept)):
        a2i.captioner.log_mel.settings = settings
        found = [recordings(a2i, source, level) for level in LEVELS]
        others = unnamed(a2i, made)
        cells = [f"{right} ({silent} silent)" for right, silent in found]
        table.add_row(name, *cells, *("{} of {}".format(*others[label]) for label in ("silence", "noise", "unknown")))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
