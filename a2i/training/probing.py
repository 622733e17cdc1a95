"""Teaches the heads that tell labels and tags, from the encoder as it is: before the encoder learns.

A head with random weights would first change a pretrained encoder for the worse: linear probing, then fine-tuning (Kumar et al.
2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").
"""

import sys
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from a2i.captioner.bridge import pooled
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded
from a2i.training.labels import label_loss, tag_loss
from a2i.training.module import CaptionModule

STEPS, BATCH = 1_500, 512
RATE, DECAY, DROPOUT = 2e-3, 1.0, 0.3
TAGS = 0.1  # weight of their loss


def learn_heads(
    module: CaptionModule, datamodule: CaptionDataModule, epochs: int, seed: int, device: str | torch.device = "cpu"
) -> None:
    """Teach the label head, and that of the tags where there is one.

    What they read of a few epochs of clips is kept, standardised, and learnt from many times over; the standardisation then
    becomes part of their weights.

    Args:
        module: on the CPU, where it comes back.
        datamodule: of its training clips.
        epochs: over the training clips, changed as in training.
        seed: of masks, order and dropout.
        device: to learn on.
    """
    from rich.progress import track

    labels, tags = module.labels or module.captioner.bridge.label_head, module.tags
    if labels is None:
        return
    print("the heads that tell labels learn from the encoder as it is")
    module.to(device).eval()
    loader = datamodule.train_dataloader()
    loader.go_on_from(0)
    batches = chain.from_iterable(loader for _ in range(epochs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = []
        for batch in track(batches, "hearing as pretrained", epochs * loader.epoch, disable=not sys.stderr.isatty()):
            batch = batch.to(module.device)
            with torch.no_grad(), module.captioner._precision(module.captioner.decoding):
                inputs = pooled(*encoded(module.captioner, batch, module.augment)).float()
            found.append((inputs, batch.labels, _tags(batch, 0 if tags is None else tags.out_features)))
        inputs, shares, known = (torch.cat(part) for part in zip(*found, strict=True))
        _fit(module, labels.linear, inputs, shares, known)
    module.cpu().train()


def _tags(batch: Batch, classes: int) -> Tensor:
    """(B, classes), NaN where a clip has none."""
    if classes and batch.tags is not None:
        return batch.tags
    return torch.full((len(batch.names), classes), torch.nan, device=batch.lengths.device)


def _fit(module: CaptionModule, labels: nn.Linear, inputs: Tensor, shares: Tensor, known: Tensor) -> None:
    tags = module.tags
    mean, std = inputs.mean(dim=0), inputs.std(dim=0).clamp_min(1e-3)
    inputs = (inputs - mean) / std
    heads = [labels, *([] if tags is None else [tags])]
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    if tags is not None:
        with torch.no_grad():
            tags.bias.copy_(torch.logit(known.nanmean(dim=0).nan_to_num(0.5), eps=1e-4))
    learns = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(learns, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            some = torch.randint(len(inputs), (BATCH,), device=inputs.device)
            read = dropout(inputs[some], DROPOUT)
            loss = label_loss(
                labels(read).log_softmax(dim=1), shares[some], module.label_smoothing, module.label_offset
            )
            if tags is not None:
                loss = loss + TAGS * tag_loss(tags(read), known[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for head in heads:
            head.weight.div_(std)
            head.bias.sub_(head.weight @ mean)
