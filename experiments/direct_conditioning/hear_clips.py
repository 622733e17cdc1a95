"""Hears the recordings of ESC-10, ESC-50 and `sounds` once, and keeps what the projector learns from and is measured on.

    A2I_REAL_DATA=FOLDER python experiments/direct_conditioning/hear_clips.py --out HEARD    # again: goes on

The captioner that comes with a2i has learnt its keywords from all recordings. So its keyword head learns anew here, from the
clips that `data=world` trains on, as they are; with it the held-out clips are captioned. No recording is on both sides.

Writes for each data set `SET.safetensors`, what the captioner's keyword bridge reads of each clip: mean and maximum over time
of the encoder's states, of the whole clip and of its halves, (3, clips, inputs) float32; and `clips.csv`, a row for each clip.
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import hydra
import torch
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.compose import plain, prepared_data_set
from a2i.data import Clip
from a2i.features import side_by_side
from a2i.paths import CONF, MINI_CAPTIONER
from a2i.training.labels import label_frequencies, label_shares
from a2i.training.probing import fit_heads
from a2i.whole import write_text, write_whole

sys.path.insert(0, str(Path(__file__).parents[1] / "world"))

from source_accuracy import verdict

BATCH = 8
SECONDS = 3.0  # of each clip
HEAD_STEPS = 500  # of gradient descent, for a third of the clips that `experiments/world` has
TABLE = "clips.csv"
NEW_SOURCE = "noice"  # of `sounds`, held out whole
SETS = ("esc10", "esc50", "sounds")


@dataclass(frozen=True)
class Heard:
    """A clip of one source, and what the captioner says where the clip is held out."""

    name: str
    set: str  # the data set of a held-out clip; empty for one to learn from
    recording: str
    kind: str
    caption: str
    verdict: str  # right, described or wrong; see `experiments/world/source_accuracy.py`
    confidence: float


def read_heard(folder: Path) -> tuple[list[Heard], Tensor]:
    """The clips of a folder that this program wrote, and what was read of each whole clip (clips, inputs)."""
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        clips = [Heard(**{**row, "confidence": float(row["confidence"])}) for row in csv.DictReader(file)]
    found: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as stored:
            found |= zip(stored.metadata()["names"].split("|"), stored.get_tensor("read")[0], strict=True)
    return clips, torch.stack([found[clip.name] for clip in clips])


def write_table(path: Path, clips: Sequence[Heard]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Heard)])
    writer.writeheader()
    writer.writerows(map(asdict, clips))
    write_text(path, text.getvalue())


@torch.no_grad()
def hear(captioner: Captioner, clips: Sequence[Clip], path: Path) -> Tensor:
    """What the bridge reads of the first seconds of clips, (3, clips, inputs): from `path` if it is there, or else
    written to it."""
    names = "|".join(clip.name for clip in clips)
    if path.is_file():
        with safe_open(path, "pt") as stored:
            size = sum(captioner.bridge.label_head.sizes)
            if stored.metadata()["names"] == names and stored.get_slice("read").get_shape()[-1] == size:
                return stored.get_tensor("read")
    read = []
    for first in track(range(0, len(clips), BATCH), f"hearing {path.stem}"):
        some = clips[first : first + BATCH]
        sounds = [audio.load(clip.path, captioner.sampling_rate, end=SECONDS) for clip in some]
        lengths = torch.tensor([len(sound) for sound in sounds])
        log_mel, mask = captioner.log_mel(side_by_side([torch.from_numpy(sound) for sound in sounds]), lengths)
        read.append(captioner.bridge.read(*captioner.encoder(log_mel, mask)))
    heard = torch.cat(read, dim=1)
    write_whole(path, save({"read": heard}, {"names": names}))
    return heard


def teach(bridge: KeywordBridge, clips: Sequence[Clip], read: Tensor, training: dict[str, Any]) -> None:
    """Teach the keyword head from what it reads (clips, inputs) of the training clips, as `a2i/training/probing.py` does."""
    shares = torch.tensor([label_shares(clip.labels, bridge.names) for clip in clips])
    offset = training["label_balance"] * label_frequencies(clips, bridge.names).log()
    torch.manual_seed(0)
    halves = [(read, shares, shares[:, :0])]
    head = bridge.label_head
    fit_heads(head.linear, None, halves, training["label_smoothing"], offset, HEAD_STEPS, head.sizes)


@torch.no_grad()
def captions(captioner: Captioner, read: Tensor) -> list[tuple[str, float]]:
    """Caption and confidence of clips of which was read (3, clips, inputs).

    The decoder attends to the keywords alone: clips with the same keywords have the same caption.
    """
    bridge, tokenizer, known = captioner.bridge, captioner.tokenizer, {}
    found = []
    for shares, evidence in track(list(zip(*bridge.keywords(read), strict=True)), "captioning"):
        keywords = tuple(shares.nonzero()[:, 0].tolist())
        if keywords not in known:
            state, mask = bridge.embedding(shares)[None, None], torch.ones(1, 1, dtype=torch.bool)
            ids = captioner.decoder.generate(state, mask, tokenizer.bos_id, tokenizer.eos_id, captioner.decoding)
            known[keywords] = tokenizer.decode(ids[0].tolist())
        found.append((known[keywords], captioner.calibration.confidence(float(evidence))))
    return found


def split_of(name: str, source: Any) -> tuple[list[Clip], list[Clip]]:
    """The clips of a data set to learn from, and those that are held out, called as `data=world` calls them."""
    splits = ("val", "test") if getattr(source, "hold_out", None) else ("val",)
    held_out = {clip.name: clip for split in splits for clip in source.clips(split)}.values()
    learnt, new = (
        [replace(clip, name=f"{name}/{clip.name}") for clip in clips] for clips in (source.clips("train"), held_out)
    )
    return learnt, new


def set_of(clip: Clip) -> str:
    """The data set of a clip; of `sounds`, whether it is of the source that is held out whole."""
    key = clip.name.split("/")[0]
    return f"{key}, new source" if key == "sounds" and Path(clip.name).name.startswith(NEW_SOURCE) else key


def row(clip: Clip, set_: str = "", caption: str = "", confidence: float = 0.0) -> Heard:
    labels = clip.labels or frozenset()
    said = verdict(caption, labels) if set_ else ""
    return Heard(clip.name, set_, clip.recording or clip.name, *labels, caption, said, round(confidence, 4))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="data sets; default all")
    arguments = parser.parse_args(argv)
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, esc50/ and sounds/")
    captioner = Captioner.load(MINI_CAPTIONER)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = plain(hydra.compose("train", ["experiment=world"]))
    by_set = {name: split_of(name, prepared_data_set(config["data"]["sources"][name])) for name in arguments.sets}
    apart = {clip.recording for _, new in by_set.values() for clip in new}
    clips: list[Clip] = []
    read, is_new = [], []
    for name, (learnt, new) in by_set.items():
        learnt = [clip for clip in learnt if clip.recording not in apart]
        clips += learnt + new
        is_new += [False] * len(learnt) + [True] * len(new)
        read.append(hear(captioner, learnt + new, arguments.out / f"{name}.safetensors"))
    heard, held_out = torch.cat(read, dim=1), torch.tensor(is_new)
    learnt = [clip for clip, out in zip(clips, is_new, strict=True) if not out]
    teach(captioner.bridge, learnt, heard[0, ~held_out], config["training"])
    said = iter(captions(captioner, heard[:, held_out]))
    rows = [row(clip, set_of(clip), *next(said)) if out else row(clip) for clip, out in zip(clips, is_new, strict=True)]
    write_table(arguments.out / TABLE, rows)
    right = sum(each.verdict == "right" for each in rows)
    print(f"{len(learnt)} clips to learn from; of {sum(is_new)} held out {right} captions are right")


if __name__ == "__main__":
    main()
