"""Learning whether several sources are heard at once: last, from the encoder as it is by then."""

import sys
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from a2i.captioner import Captioner
from a2i.captioner.keywords import Keywords
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded

EPOCHS = 4  # over the training clips, mixed and masked as in training
STEPS, BATCH = 1500, 256
RATE, DECAY = 2e-3, 1e-2


def learn_several(
    captioner: Captioner, datamodule: CaptionDataModule, augment: SpecAugment | None, seed: int, epochs: int = EPOCHS
) -> None:
    """Teach `captioner.keywords.several`; all else stays as it is.

    The encoder's answers to a few epochs of clips are kept, and a small network learns from these many times over: that
    takes seconds, and finds twice as many pairs as learning beside the decoder, a batch once.

    Args:
        captioner: with keywords, on the device to learn on; it comes back in eval mode.
        datamodule: whose training clips have labels.
        augment: of the spectrograms.
        seed: of masks, of the order, of the network's first weights.
        epochs: over the training clips.
    """
    from rich.progress import track

    assert captioner.keywords is not None
    captioner.eval()
    loader = datamodule.train_dataloader()
    loader.go_on_from(0)
    batches = chain.from_iterable(loader for _ in range(epochs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = [
            _answers(captioner, batch.to(captioner.device), augment)
            for batch in track(
                batches, "learning to tell two sources", epochs * loader.epoch, disable=not sys.stderr.isatty()
            )
        ]
        evidence, several = (torch.cat(part) for part in zip(*found, strict=True))
        if several.unique().numel() == 2:  # else there is nothing to tell apart
            _fit(captioner.keywords, evidence, several)


@torch.no_grad()
def _answers(captioner: Captioner, batch: Batch, augment: SpecAugment | None) -> tuple[Tensor, Tensor]:
    """(B, inputs) evidence, and (B,) whether a clip has several labels; without clips whose labels are not known."""
    assert captioner.keywords is not None
    assert batch.labels is not None
    states, states_mask = encoded(captioner, batch, augment)
    known = batch.labels.sum(dim=1) > 0
    evidence = captioner.keywords.evidence_of_several(states, states_mask)
    return evidence[known].float(), ((batch.labels > 0).sum(dim=1) > 1)[known].float()


def _fit(keywords: Keywords, evidence: Tensor, several: Tensor) -> None:
    keywords.mean.copy_(evidence.mean(dim=0))
    keywords.std.copy_(evidence.std(dim=0).clamp(min=1e-6))
    evidence = (evidence - keywords.mean) / keywords.std
    network = keywords.several.requires_grad_(True).train()
    for layer in network:
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        some = torch.randint(len(several), (BATCH,), device=several.device)
        loss = binary_cross_entropy_with_logits(network(evidence[some])[:, 0], several[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
