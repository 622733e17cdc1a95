"""Is the candidate that agrees best with the others a better caption than the likeliest one?

    A2I_REAL_DATA=FOLDER python experiments/rerank/gain.py --out FOLDER

The captioner proposes candidates of each clip, by beam search and by sampling. Of either, the likeliest is compared with the
one that `rerank=agreement` puts first, on the same clips: BERTScore F1, CIDEr-D (document frequencies of the clips scored
together), and for sets with labels whether the caption names the right sources and no other but their kin. Prints a row for
each, with the difference, its 95 % bootstrap interval and the p-value of a paired permutation test; writes `gain.json` with all
captions.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.candidates import Candidate
from a2i.command_line import composed
from a2i.compose import prepared_data_set
from a2i.data import Clip
from a2i.data.kinds import names_only
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.intervals import paired
from a2i.metrics.scoring import score
from a2i.paths import MINI_CAPTIONER
from a2i.rerank import by_agreement

POOL = 12  # as `a2i.rerank`
BATCH = 10
WAYS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": POOL, "num_candidates": POOL},
    "sampled": {"do_sample": True, "num_beams": 1, "num_candidates": POOL, "temperature": 1.0},
}
# Data with its split. The embedded captioner has learnt from ESC-10; of the others it has heard nothing.
SETS: dict[str, tuple[str, list[str]]] = {
    "foley": ("test", ["data.n_train=2", "data.n_val=2", "data.n_test=60"]),
    "esc10": ("val", []),
    "clotho": ("evaluation", []),
}


def clips_of(name: str, work: Path) -> list[Clip]:
    """The clips of a set's split; of Clotho those recordings that are there."""
    if name == "clotho":
        root = Path(os.environ["A2I_REAL_DATA"]) / "clotho"
        with (root / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
            rows = {
                row["file_name"]: tuple(row[f"caption_{number}"] for number in range(1, 6))
                for row in csv.DictReader(file)
            }
        files = sorted((root / "evaluation").iterdir())
        return [Clip(file.name, file, rows[file.name]) for file in files if file.name in rows]
    split, overrides = SETS[name]
    made = {"data.root": str(work / "foley")} if name == "foley" else {}
    settings = composed("evaluate", made, [f"data={name}", "captioner=mini", f"out={work / 'evaluation'}", *overrides])
    return list(prepared_data_set(settings["data"]).clips(split))


def compare(clips: Sequence[Clip], found: Sequence[Sequence[Candidate]], bertscore: BERTScore) -> dict[str, Any]:
    """The likeliest candidates against those that agree best."""
    order = by_agreement(bertscore)([], 0, found)
    best = [clip[int(np.argmax(values))].caption for clip, values in zip(found, order, strict=True)]
    likeliest = [clip[0].caption for clip in found]
    references = [clip.captions for clip in clips]
    scored = [
        score(captions, references, ["bertscore", "cider_d"], bertscore, samples=0) for captions in (best, likeliest)
    ]
    rows = {name: [each.scores[name].clips for each in scored] for name in ("bertscore_f1", "cider_d")}
    if all(clip.labels for clip in clips):
        rows["names_right"] = [
            [float(names_only(caption, clip.labels or ())) for caption, clip in zip(captions, clips, strict=True)]
            for captions in (best, likeliest)
        ]
    result: dict[str, Any] = {
        "clips": len(clips),
        "candidates": float(np.mean([len(each) for each in found])),
        "changed": sum(one != other for one, other in zip(best, likeliest, strict=True)),
    }
    for name, (after, before) in rows.items():
        test = paired(np.asarray(after), np.asarray(before))
        result[name] = {
            "likeliest": round(float(np.mean(before)), 4),
            "agreement": round(float(np.mean(after)), 4),
            "difference": round(test.difference, 4),
            "interval": [round(test.interval.low, 4), round(test.interval.high, 4)],
            "p_value": round(test.p_value, 4),
        }
    return result | {"captions": [list(each) for each in zip(likeliest, best, strict=True)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captioner", type=Path, default=MINI_CAPTIONER, help="captioner folder")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    captioner, bertscore = Captioner.load(given.captioner), BERTScore(device="cpu")
    record: dict[str, Any] = {"command": sys.argv, "bertscore": bertscore.settings}
    for name in given.sets:
        clips = clips_of(name, given.out)
        waveforms = [audio.load(clip.path, captioner.sampling_rate, clip.start, clip.end) for clip in clips]
        for way, decoding in WAYS.items():
            torch.manual_seed(0)
            starts = track(range(0, len(waveforms), BATCH), f"{name}, {way}")
            found = [
                each for start in starts for each in captioner.caption(waveforms[start : start + BATCH], **decoding)
            ]
            record[f"{name}, {way}"] = row = compare(clips, found, bertscore)
            print(f"{name}, {way}:", json.dumps({key: value for key, value in row.items() if key != "captions"}))
    (given.out / "gain.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
