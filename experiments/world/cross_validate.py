"""How well does it hear a source that it never heard? The heads learn anew without each source of recordings, in turn.

    A2I_REAL_DATA=FOLDER python experiments/world/cross_validate.py RUN/captioner --out FOLDER --keep STATES

The encoder and the minimums are those of the captioner; each time all recordings but one source's (or one fold's, of ESC-10 and
ESC-50) teach the heads, as in `a2i/training/probing.py`. Of what was left out, the keywords are told, before any caption is
written. They are right where they are the very kind or a special sort of it, and describe where they are its category. Kinds
that nothing else teaches are left out.

Writes `told.csv`, a row for each recording of a small source that was left out whole, for `ship_captioner.py --told`; prints
for each source how many are right, and how well the confidence is calibrated that is fitted on the small sources but this one.
"""

import argparse
import csv
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from rich.progress import track
from ship_captioner import recordings
from source_accuracy import Heard
from source_accuracy import calibration as measured
from states import fit_head, kept_states, what_is_read

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.candidates import fit
from a2i.data.kinds import CATEGORIES, KINDS

WHOLE = "all of "  # begins the name of a source that was left out whole
SMALL = 0.15  # share of the recordings: heads that learn from far fewer are others than those that ship
FOLDED, MADE = ("esc10", "esc50"), ("foley", "unnamed")


@dataclass(frozen=True)
class Told:
    """What is told of a recording, of a set that was left out."""

    set: str
    name: str
    truth: str
    named: str
    verdict: str
    evidence: float


class Ear:
    """What the heads read of all recordings: as they are, and changed as in training."""

    def __init__(self, captioner: Captioner, file: Path) -> None:
        assert isinstance(captioner.bridge, KeywordBridge)
        self.bridge = captioner.bridge
        config, datamodule = recordings(captioner, "loader.augment.mix=0")
        self.training = config["training"]
        self.clips = {clip.name: clip for clip in datamodule.clips["train"]}
        states = kept_states(file, captioner, config, datamodule)
        self.plain, self.changed = (what_is_read(self.bridge, half) for half in states)

    def told(self, name: str, left_out: set[str]) -> list[Told]:
        """What is told of recordings by heads that learnt from the others."""
        out = [self.clips[each] for each in sorted(left_out)]
        apart = {clip.recording for clip in out} - {None}
        learnt = [clip for each, clip in self.clips.items() if each not in left_out and clip.recording not in apart]
        known = {label for clip in learnt for label in clip.labels or ()}
        out = [clip for clip in out if clip.labels and len(clip.labels) == 1 and clip.labels <= known]
        if not out:
            return []
        fit_head(self.bridge, (self.plain, self.changed), learnt, self.training)
        with torch.no_grad():
            read = torch.stack([self.plain[clip.name] for clip in out], dim=1)
            shares, evidence = self.bridge.keywords(read)
        found = []
        for clip, share, sure in zip(out, shares, evidence.tolist(), strict=True):
            (truth,) = clip.labels or ("",)
            said = {
                name for name, part in zip([*self.bridge.names, "nothing"], share.tolist(), strict=True) if part > 0
            }
            found.append(Told(name, clip.name, truth, "+".join(sorted(said)), verdict(said, truth), round(sure, 5)))
        return found


def sets_of(names: Iterable[str]) -> dict[str, set[str]]:
    """The names of the recordings that are left out together: folds, and whole sources."""
    sets: dict[str, set[str]] = defaultdict(set)
    for name in names:
        key, first = name.split("/")[0], Path(name).name.split("-")[0]
        if key in FOLDED:
            sets[f"{key}, fold {first}"].add(name)
        if key not in MADE:
            sets[WHOLE + (first if key == "sounds" else key)].add(name)
    return dict(sorted(sets.items()))


def verdict(said: set[str], truth: str) -> str:
    """Of keywords, as `source_accuracy.verdict` of a caption."""
    if all(name == truth or truth in getattr(KINDS.get(name), "sort_of", ()) for name in said):
        return "right"
    return "described" if said == {KINDS[truth].category} and truth not in CATEGORIES else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for told.csv")
    parser.add_argument(
        "--keep", type=Path, required=True, help="file of the encoder's states, made where it is not there"
    )
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    ear = Ear(Captioner.load(arguments.captioner), arguments.keep)
    sets = sets_of(ear.clips)
    rows = [row for name in track(sets, "leaving out") for row in ear.told(name, sets[name])]
    small = {name for name, clips in sets.items() if name.startswith(WHOLE) and len(clips) < SMALL * len(ear.clips)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "told.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Told)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows if row.set in small)
    sure: list[Heard] = []
    for name in sets:
        own = [row for row in rows if row.set == name]
        if not own:
            continue
        right, described = (sum(row.verdict == verdict_ for row in own) for verdict_ in ("right", "described"))
        print(f"{name}: {right} right and {described} described of {len(own)} ({right / len(own):.0%})")
        if name.startswith(WHOLE):
            others = [row for row in rows if row.set in small - {name}]
            calibration = fit([row.evidence for row in others], [row.verdict != "wrong" for row in others])
            heard = [
                Heard(row.set, row.name, row.truth, "", row.named, row.verdict, row.evidence,
                      round(calibration.confidence(row.evidence), 4))
                for row in own
            ]  # fmt: skip
            print(f"    {measured(heard)}")
            sure += heard if name in small else []
    print(f"all small sources: {measured(sure)}")


if __name__ == "__main__":
    main()
