"""The encoder's states of recordings, kept in a file, and what the heads learn from them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.compose import build
from a2i.data import Clip
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.checks import slow_precision
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded
from a2i.training.labels import label_frequencies, label_shares
from a2i.training.probing import fit_heads
from a2i.whole import whole

HAS_BFLOAT16 = slow_precision("bf16-mixed", torch.device("cpu")) is None  # and then hears twice as fast with it

States = dict[str, Tensor]  # (S, D) float16 of each clip, by its name


def kept_states(
    file: Path, captioner: Captioner, config: dict[str, Any], datamodule: CaptionDataModule
) -> tuple[States, States]:
    """The encoder's states of all training clips, as they are and changed as in training: from a file, which is made where
    there is none."""
    if not file.exists():
        plain = _heard(captioner, datamodule.plain_dataloader(), None)
        changed = _heard(captioner, datamodule.train_dataloader(), build(config["training"]["augment"]))
        with whole(file) as partial:
            torch.save((plain, changed), partial)
    plain, changed = torch.load(file, weights_only=True)
    if set(plain) != {clip.name for clip in datamodule.clips["train"]}:
        raise SystemExit(f"{file}: holds the states of other recordings; delete it, or name another with --keep")
    return plain, changed


@torch.no_grad()
def _heard(captioner: Captioner, batches: Iterable[Batch], augment: SpecAugment | None) -> States:
    heard: States = {}
    for batch in track(batches, "hearing"):
        with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BFLOAT16):
            states, mask = encoded(captioner, batch, augment)
        heard |= {name: states[index, mask[index]].half() for index, name in enumerate(batch.names)}
    return heard


def what_is_read(bridge: KeywordBridge, states: States) -> dict[str, Tensor]:
    """States of each clip → (P, inputs), see `KeywordBridge.read`."""
    return {
        name: bridge.read(one.float()[None], torch.ones(1, len(one), dtype=torch.bool))[:, 0]
        for name, one in states.items()
    }


def fit_head(
    bridge: KeywordBridge, halves: Sequence[dict[str, Tensor]], clips: Sequence[Clip], training: dict[str, Any]
) -> Tensor:
    """Teach the bridge's label head anew, from clips of which was read (see `what_is_read`), with the settings of a training.

    Returns:
        the offset for `label_loss`, of these clips.
    """
    shares = torch.tensor([label_shares(clip.labels, bridge.names) for clip in clips])
    offset = training["label_balance"] * label_frequencies(clips, bridge.names).log()
    learnt = [(torch.stack([half[clip.name][0] for clip in clips]), shares, shares[:, :0]) for half in halves]
    head = bridge.label_head
    torch.manual_seed(0)
    fit_heads(head.linear, None, learnt, training["label_smoothing"], offset, sizes=head.sizes)
    return offset
