"""How well does it hear a source that it never heard? The heads learn anew without each source of recordings, in turn.

    A2I_REAL_DATA=FOLDER python experiments/world/cross_validate.py RUN/captioner --out FOLDER

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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import hydra
import torch
from rich.progress import track
from ship_captioner import ALL
from source_accuracy import Heard
from source_accuracy import calibration as measured

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.candidates import fit
from a2i.compose import build, plain, prepared_data_set
from a2i.data import Clip
from a2i.data.kinds import CATEGORIES, KINDS
from a2i.paths import CONF
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded
from a2i.training.labels import label_frequencies
from a2i.training.probing import fit_heads

WHOLE = "all of "  # begins the name of a source that was left out whole
SMALL = 0.15  # share of the recordings: heads that learn from far fewer are others than those that ship
FOLDS = {"esc10": range(1, 5), "esc50": range(1, 5)}


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

    def __init__(self, captioner: Captioner) -> None:
        bridge = captioner.bridge
        assert isinstance(bridge, KeywordBridge)
        self.captioner, self.bridge = captioner, bridge
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = plain(hydra.compose("train", ["experiment=world", "loader.augment.mix=0", *ALL]))
        self.training, self.source = config["training"], prepared_data_set(config["data"])
        loader = dict(config["loader"])
        loader.pop("inputs")
        loader["augment"] = build(loader["augment"])
        self.data = CaptionDataModule(
            self.source, captioner.tokenizer, captioner.sampling_rate, labels=bridge.names, **loader
        )
        self.data.clips = {"train": self.source.clips("train")}
        self.data._seconds = {"train": [clip.seconds() for clip in self.data.clips["train"]]}
        self.clips = {clip.name: clip for clip in self.data.clips["train"]}
        self.plain = self._heard(self.data.plain_dataloader(), None)
        self.changed = self._heard(self.data.train_dataloader(), build(self.training["augment"]))

    @torch.no_grad()
    def _heard(self, batches: Sequence[Batch], augment: SpecAugment | None) -> dict[str, tuple[torch.Tensor, ...]]:
        heard = {}
        for batch in track(batches, "hearing"):
            with torch.autocast("cpu", torch.bfloat16):
                read = self.bridge.read(*encoded(self.captioner, batch, augment))
            for index, name in enumerate(batch.names):
                heard[name] = (read[:, index].float(), batch.labels[index])
        return heard

    def told(self, name: str, held: Callable[[Clip], bool]) -> list[Told]:
        """What is told of the held-out recordings by heads that learnt from the others."""
        out = [clip for clip in self.clips.values() if held(clip)]
        apart = {clip.recording for clip in out} - {None}
        learnt = [clip for clip in self.clips.values() if not held(clip) and clip.recording not in apart]
        known = {label for clip in learnt for label in clip.labels or ()}
        out = [clip for clip in out if clip.labels and len(clip.labels) == 1 and clip.labels <= known]
        if not out:
            return []
        halves = []
        for heard in (self.plain, self.changed):
            read, shares = (torch.stack(part) for part in zip(*(heard[clip.name] for clip in learnt), strict=True))
            halves.append((read[:, 0], shares, shares[:, :0]))
        frequencies = label_frequencies(learnt, self.bridge.names)
        offset = self.training["label_balance"] * frequencies.log()
        torch.manual_seed(0)
        fit_heads(self.bridge.label_head.linear, None, halves, self.training["label_smoothing"], offset)
        with torch.no_grad():
            read = torch.stack([self.plain[clip.name][0] for clip in out], dim=1)
            shares, evidence = self.bridge.keywords(read)
        found = []
        for clip, share, sure in zip(out, shares, evidence.tolist(), strict=True):
            (truth,) = clip.labels or ("",)
            said = {
                name for name, part in zip([*self.bridge.names, "nothing"], share.tolist(), strict=True) if part > 0
            }
            found.append(Told(name, clip.name, truth, "+".join(sorted(said)), verdict(said, truth), round(sure, 5)))
        return found


def verdict(said: set[str], truth: str) -> str:
    """Of keywords, as `source_accuracy.verdict` of a caption."""
    if all(name == truth or truth in getattr(KINDS.get(name), "sort_of", ()) for name in said):
        return "right"
    return "described" if said == {KINDS[truth].category} and truth not in CATEGORIES else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for told.csv")
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    ear = Ear(Captioner.load(arguments.captioner))
    sets: dict[str, Callable[[Clip], bool]] = {
        f"{key}, fold {fold}": lambda clip, begin=f"{key}/", fold=fold: (
            clip.name.startswith(begin) and Path(clip.name).name.startswith(f"{fold}-")
        )
        for key, folds in FOLDS.items()
        for fold in folds
    }
    for key in ("esc10", "esc50", "urban", "effects"):
        sets[f"{WHOLE}{key}"] = lambda clip, begin=f"{key}/": clip.name.startswith(begin)
    for source in sorted({Path(name).name.split("-")[0] for name in ear.clips if name.startswith("sounds/")}):
        sets[f"{WHOLE}{source}"] = lambda clip, source=source: (
            clip.name.startswith("sounds/") and Path(clip.name).name.startswith(f"{source}-")
        )
    rows = [row for name in track(sets, "leaving out") for row in ear.told(name, sets[name])]
    sizes = {name: sum(map(held, ear.clips.values())) for name, held in sets.items() if name.startswith(WHOLE)}
    small = {name for name, size in sizes.items() if size < SMALL * len(ear.clips)}
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
