"""Teaches `KeywordBridge` whether there are two sources: after all else, from the trained encoder."""

import sys
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded

EPOCHS = 4  # over the training clips, mixed and masked as in training;
ENOUGH = 4_000  # clips, for which fewer epochs do
STEPS, BATCH = 1500, 256
RATE, DECAY = 2e-3, 1e-2


def learn_several(
    captioner: Captioner,
    datamodule: CaptionDataModule,
    augment: SpecAugment | None,
    seed: int,
    device: str | torch.device = "cpu",
    epochs: int | None = None,
) -> bool:
    """Teach `KeywordBridge.several`, where the captioner has such a bridge; all else stays as it is.

    The inputs that the encoder gives for a few epochs of clips are kept, and a small network learns from these many times
    over: that takes seconds, and finds twice as many pairs as learning beside the decoder, a batch once.

    Args:
        captioner: on the CPU, where it comes back, in eval mode.
        datamodule: whose training clips have labels.
        augment: of the spectrograms.
        seed: of masks, of the order, of the network's first weights.
        device: to learn on.
        epochs: over the training clips; None for `EPOCHS`, or fewer where there are many clips.

    Returns:
        whether the captioner has keywords.
    """
    from rich.progress import track

    bridge = captioner.bridge
    if not isinstance(bridge, KeywordBridge):
        return False
    captioner.to(device).eval()
    epochs = epochs or min(EPOCHS, max(1, ENOUGH // len(datamodule.clips["train"])))
    loader = datamodule.train_dataloader()
    loader.go_on_from(0)
    batches = chain.from_iterable(loader for _ in range(epochs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = [
            _examples(captioner, bridge, batch.to(captioner.device), augment)
            for batch in track(
                batches, "learning when there are two sources", epochs * loader.epoch, disable=not sys.stderr.isatty()
            )
        ]
        inputs, several = (torch.cat(part) for part in zip(*found, strict=True))
        if several.unique().numel() == 2:  # else there is nothing to learn
            _fit(bridge, inputs, several)
    captioner.cpu()
    return True


@torch.no_grad()
def _examples(
    captioner: Captioner, bridge: KeywordBridge, batch: Batch, augment: SpecAugment | None
) -> tuple[Tensor, Tensor]:
    """(B, inputs) of the network, and (B,) whether a clip has several labels; without clips whose labels are not known."""
    assert batch.labels is not None
    states, states_mask = encoded(captioner, batch, augment)
    known = batch.labels.sum(dim=1) > 0
    inputs = bridge.several_inputs(states, states_mask)
    return inputs[known].float(), ((batch.labels > 0).sum(dim=1) > 1)[known].float()


def _fit(bridge: KeywordBridge, inputs: Tensor, several: Tensor) -> None:
    bridge.mean.copy_(inputs.mean(dim=0))
    bridge.std.copy_(inputs.std(dim=0).clamp(min=1e-6))
    inputs = (inputs - bridge.mean) / bridge.std
    network = bridge.several.requires_grad_(True).train()
    for layer in network:
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        some = torch.randint(len(several), (BATCH,), device=several.device)
        loss = binary_cross_entropy_with_logits(network(inputs[some])[:, 0], several[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
