"""What should the heads that tell kinds read of the encoder's states? Each way is tried on sources that the heads know, and on
those that were left out whole.

    A2I_REAL_DATA=FOLDER python experiments/world/reading.py RUN/captioner --keep states.pt

The heads learn as in `a2i/training/probing.py`, in a third of the steps, from all recordings but those that are left out, as
they are and changed as in training. `known` leaves out at once the first folds of ESC-10 and ESC-50, and a fifth of the
recordings of the city, of `moodist` and of the games' effects, and is the mean of these five shares; `left out` leaves out one
source after another, and is the mean of seven. Of what is left out the likeliest label is told; kinds that nothing else teaches
don't count.
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import torch
from cross_validate import WHOLE, sets_of, verdict
from ship_captioner import recordings
from states import kept_states
from torch import Tensor, nn

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.label_head import pooled
from a2i.data import Clip
from a2i.data.folder import position
from a2i.training.labels import label_frequencies, label_shares
from a2i.training.probing import fit_heads

STEPS = 500
BANDS = 3  # of frequency, of which the states are kept
SHARE = 0.2  # of the recordings of sources without folds
KNOWN = ("esc10", "esc50", "urban", "moodist", "effects")
LEFT_OUT = ("esc10", "esc50", "urban", "effects", "moodist", "noice", "booth")


class Reading(NamedTuple):
    bands: int  # of frequency
    window: int | None  # of states, see `a2i.captioner.label_head.pooled`
    decay: float  # of the weights

    def __call__(self, states: Tensor) -> Tensor:
        """States (S, 3 × D) of three bands → (2 × bands × D) that a head reads of them."""
        states = states.float()
        if self.bands == 1:
            states = states.unflatten(1, (BANDS, -1)).mean(dim=1)
        return pooled(states[None], torch.ones(1, len(states), dtype=torch.bool), self.window)[0]


THREE, WINDOWS = Reading(BANDS, None, 1.0), Reading(1, 12, 0.3)
WAYS = {
    "three bands, each state by itself": [THREE],
    "one band, each state by itself": [Reading(1, None, 0.3)],
    "one band, windows of 12 states": [WINDOWS],
    "three bands, windows of 12 states": [Reading(BANDS, 12, 0.3)],
    "the first and the third, learnt apart": [THREE, WINDOWS],
    "the first and the third, learnt together": [THREE, WINDOWS],
}


def source(name: str) -> str:
    """Of a clip's name: its data set, and of `sounds` the source."""
    return Path(name).name.split("-")[0] if name.startswith("sounds/") else name.split("/")[0]


def parts(clips: dict[str, Clip]) -> dict[str, set[str]]:
    """The names of the clips that are left out together."""
    sets = sets_of(clips)
    known = sets["esc10, fold 1"] | sets["esc50, fold 1"]
    for name, clip in clips.items():
        if (
            source(name) in KNOWN
            and not name.startswith(("esc10/", "esc50/"))
            and position(clip.recording or name) < SHARE
        ):
            known.add(name)
    return {"known": known, **{each: sets[WHOLE + each] for each in LEFT_OUT}}


def told(
    read: list[dict[str, Tensor]],
    clips: dict[str, Clip],
    names: list[str],
    out: set[str],
    sizes: list[int],
    decays: list[float],
    balance: float,
) -> dict[str, tuple[int, int, int]]:
    """By source, of the clips that were left out: right, right among the likeliest three, and how many."""
    apart = {clips[name].recording for name in out} - {None}
    learnt = [clip for name, clip in clips.items() if name not in out and clip.recording not in apart]
    known = {label for clip in learnt for label in clip.labels or ()}
    shares = torch.tensor([label_shares(clip.labels, names) for clip in learnt])
    halves = [(torch.stack([half[clip.name] for clip in learnt]), shares, shares[:, :0]) for half in read]
    head = nn.Linear(halves[0][0].shape[1], len(names) + 1)
    torch.manual_seed(0)
    offset = balance * label_frequencies(learnt, names).log()
    fit_heads(head, None, halves, 0.05, offset, STEPS, sizes, decays)
    found: dict[str, tuple[int, int, int]] = {}
    for name in sorted(out):
        if len(labels := clips[name].labels or ()) != 1 or not labels <= known:
            continue
        (truth,) = labels
        best = head(read[0][name]).topk(3).indices.tolist()
        right = [verdict({[*names, "nothing"][index]}, truth) == "right" for index in best]
        one, three, count = found.get(source(name), (0, 0, 0))
        found[source(name)] = (one + right[0], three + any(right), count + 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--keep", type=Path, required=True, help="file of the states, made where it is not there")
    parser.add_argument("--only", default="", help="the ways whose names hold this")
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    captioner = Captioner.load(arguments.captioner)
    assert isinstance(captioner.bridge, KeywordBridge)
    captioner.encoder.bands = BANDS
    config, datamodule = recordings(captioner, "loader.augment.mix=0")
    halves = kept_states(arguments.keep, captioner, config, datamodule)
    clips = {clip.name: clip for clip in datamodule.clips["train"]}
    names, balance = captioner.bridge.names, config["training"]["label_balance"]
    for way, readings in WAYS.items():
        if arguments.only not in way:
            continue
        read = [
            {name: torch.cat([one(states) for one in readings]) for name, states in half.items()} for half in halves
        ]
        sizes, decays = (
            [2 * one.bands * captioner.encoder.width // BANDS for one in readings],
            [one.decay for one in readings],
        )
        if "together" in way:
            sizes, decays = [sum(sizes)], [sum(decays) / len(decays)]
        shares: dict[str, list[tuple[float, float]]] = {"known": [], "left out": []}
        row = []
        for part, out in parts(clips).items():
            found = told(read, clips, names, out, sizes, decays, balance)
            for each in KNOWN if part == "known" else [part]:
                one, three, count = found[each]
                shares["known" if part == "known" else "left out"].append((one / count, three / count))
                row.append(f"{'other ' if part == 'known' else ''}{each} {one} of {count}")
        means = [f"{name} {sum(one for one, _ in of) / len(of):.1%}, among three {sum(three for _, three in of) / len(of):.1%}"
                 for name, of in shares.items()]  # fmt: skip
        print(f"{way}: {'; '.join(means)}\n    {'; '.join(row)}", flush=True)


if __name__ == "__main__":
    main()
