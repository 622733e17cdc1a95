"""Teaches the heads that tell labels and tags, from the encoder as it is: before the encoder learns.

A head with random weights would first change a pretrained encoder for the worse: linear probing, then fine-tuning (Kumar et al.
2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from a2i.captioner.label_head import LabelHead
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded
from a2i.training.labels import label_loss, tag_loss
from a2i.training.module import CaptionModule

STEPS, BATCH = 1_500, 512
RATE, DROPOUT = 2e-3, 0.3
DECAYS = 1.0, 0.3  # of the weights of what is read of the states, and of their windows
TAGS = 0.1  # weight of their loss


def learn_heads(
    module: CaptionModule, datamodule: CaptionDataModule, epochs: int, seed: int, device: str | torch.device = "cpu"
) -> None:
    """Teach the label head, and that of the tags where there is one.

    What they read of the clips is kept, standardised, and learnt from many times over; the standardisation then becomes part of
    their weights. Half of what they learn from are the clips as they are: of what is changed alone they learn less about these
    (`experiments/world`).

    Args:
        module: on the CPU, where it comes back.
        datamodule: of its training clips.
        epochs: over the training clips, changed as in training; once more the clips are heard as they are.
        seed: of masks, order and dropout.
        device: to learn on.
    """
    labels = module.labels or module.captioner.bridge.label_head
    if labels is None:
        return
    print("the heads that tell labels learn from the encoder as it is")
    module.to(device).eval()
    loader = datamodule.train_dataloader()
    loader.go_on_from(0)
    changed = chain.from_iterable(loader for _ in range(epochs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = datamodule.plain_dataloader()
        halves = [
            _heard(module, labels, plain, plain.epoch, None),
            _heard(module, labels, changed, epochs * loader.epoch, module.augment),
        ]
        fit_heads(labels.linear, module.tags, halves, module.label_smoothing, module.label_offset, sizes=labels.sizes)
    module.cpu().train()


def _heard(
    module: CaptionModule, labels: LabelHead, batches: Iterable[Batch], count: int, augment: SpecAugment | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What the heads read of each clip (N, inputs), its shares of labels (N, labels + 1), and its tags (N, classes)."""
    from rich.progress import track

    classes, found = 0 if module.tags is None else module.tags.out_features, []
    for batch in track(batches, "hearing as pretrained", count, disable=not sys.stderr.isatty()):
        batch = batch.to(module.device)
        with torch.no_grad(), module.captioner._precision(module.captioner.decoding):
            inputs = labels.read(*encoded(module.captioner, batch, augment)).float()
        found.append((inputs, batch.labels, _tags(batch, classes)))
    inputs, shares, known = (torch.cat(part) for part in zip(*found, strict=True))
    return inputs, shares, known


def _tags(batch: Batch, classes: int) -> Tensor:
    """(B, classes), NaN where a clip has none."""
    if classes and batch.tags is not None:
        return batch.tags
    return torch.full((len(batch.names), classes), torch.nan, device=batch.lengths.device)


def fit_heads(
    labels: nn.Linear,
    tags: nn.Linear | None,
    halves: Sequence[tuple[Tensor, Tensor, Tensor]],
    smoothing: float = 0.0,
    offset: Tensor | None = None,
    steps: int | None = None,
    sizes: Sequence[int] = (),
    decays: Sequence[float] = DECAYS,
) -> None:
    """Teach a head the labels, and another the tags, from nothing and from as many clips of each half.

    What a head reads may have parts. The weights of each learn as if there were no other, and the head tells the mean of what
    they tell: learning together, they would lean on the larger part, and together be no better than that
    (`experiments/world`).

    Args:
        labels: the head, (inputs) → (labels + 1).
        tags: another, (inputs) → (classes); None for none.
        halves: of each what is read of its clips (N, inputs), their shares of labels (N, labels + 1) and tags (N, classes).
        smoothing: as `label_loss` has it.
        offset: likewise.
        steps: of gradient descent; None for `STEPS`.
        sizes: of the parts of what is read, which add up to the inputs; none for one part.
        decays: of the weights of each part.
    """
    heads = [head for head in (labels, tags) if head is not None]
    inputs, shares, known = (torch.cat(each) for each in zip(*halves, strict=True))
    counts, sizes = [len(half[0]) for half in halves], sizes or [inputs.shape[1]]
    first = 0
    for size, decay in zip(sizes, decays[: len(sizes)], strict=True):
        parts = [nn.Linear(size, head.out_features, device=head.weight.device) for head in heads]
        _fit_part(
            parts, inputs[:, first : first + size], shares, known, counts, smoothing, offset, steps or STEPS, decay
        )
        with torch.no_grad():
            for head, part in zip(heads, parts, strict=True):
                head.weight[:, first : first + size] = part.weight / len(sizes)
                head.bias.mul_(first > 0).add_(part.bias / len(sizes))
        first += size


def _fit_part(
    heads: Sequence[nn.Linear],
    inputs: Tensor,
    shares: Tensor,
    known: Tensor,
    counts: Sequence[int],
    smoothing: float,
    offset: Tensor | None,
    steps: int,
    decay: float,
) -> None:
    """Teach heads, of the labels and perhaps of the tags, from inputs of all halves, which have so many each."""
    labels, *tags = heads
    mean, std = inputs.mean(dim=0), inputs.std(dim=0).clamp_min(1e-3)
    inputs = (inputs - mean) / std
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    for head in tags:
        with torch.no_grad():
            head.bias.copy_(torch.logit(known.nanmean(dim=0).nan_to_num(0.5), eps=1e-4))
    learns = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(learns, lr=RATE, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    starts = [sum(counts[:index]) for index in range(len(counts))]
    with torch.enable_grad():
        for _ in range(steps):
            some = torch.cat(
                [
                    torch.randint(start, start + count, (BATCH // len(counts),), device=inputs.device)
                    for start, count in zip(starts, counts, strict=True)
                ]
            )
            read = dropout(inputs[some], DROPOUT)
            loss = label_loss(labels(read).log_softmax(dim=1), shares[some], smoothing, offset)
            for head in tags:
                loss = loss + TAGS * tag_loss(head(read), known[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for head in heads:
            head.weight.div_(std)
            head.bias.sub_(head.weight @ mean)
