"""Teaches `KeywordBridge` whether there are two sources: after all else, from the trained encoder."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.label_head import LabelHead
from a2i.data import Clip
from a2i.data.folder import position
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import encoded
from a2i.training.probing import fit_heads

EPOCHS = 4  # over the training clips, mixed and masked as in training;
ENOUGH = 4_000  # clips, for which fewer epochs do
STEPS, BATCH = 1500, 256
RATE, DECAY = 2e-3, 1e-2
PARTS, HEAD_STEPS = 3, 800  # of the training clips, each heard by a head that learnt from the others
MIX = 0.5  # share of these that are mixed, of what is changed as in training and of what is heard as it is


def learn_several(
    captioner: Captioner,
    datamodule: CaptionDataModule,
    augment: SpecAugment | None,
    seed: int,
    device: str | torch.device = "cpu",
    epochs: int | None = None,
    unheard: bool = False,
    smoothing: float = 0.0,
    offset: Tensor | None = None,
    heard: "Sequence[tuple[Heard, Heard]] | None" = None,
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
        unheard: the labels' probabilities that it learns from are those of heads that have not heard the recording. For heads
            that learnt from few recordings (`a2i.training.probing`): they are surer of these than of any other, and of a pair
            of these, too.
        smoothing: with which these heads learn, as the captioner's did (`label_loss`).
        offset: likewise.
        heard: with `unheard`, what `heard_by_part` gave before; None to hear it.

    Returns:
        whether the captioner has keywords.
    """
    bridge = captioner.bridge
    if not isinstance(bridge, KeywordBridge):
        return False
    captioner.to(device).eval()
    epochs = epochs or min(EPOCHS, max(1, ENOUGH // len(datamodule.clips["train"])))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if unheard:
            heard = heard or heard_by_part(captioner, bridge, datamodule, augment, epochs)
            offset = None if offset is None else offset.to(captioner.device)
            inputs, several = _by_other_heads(captioner, bridge, heard, smoothing, offset)
        else:
            read, shares = _heard(captioner, bridge, _batches(datamodule, epochs), augment)
            with torch.no_grad():
                inputs, several = bridge.several_inputs(read), (shares > 0).sum(dim=1) > 1
        if several.unique().numel() == 2:  # else there is nothing to learn
            _fit(bridge, inputs, several.float())
    captioner.cpu()
    return True


# What the bridge reads of clips (P, N, inputs), and their shares of labels (N, labels + 1).
Heard = tuple[Tensor, Tensor]


def heard_by_part(
    captioner: Captioner, bridge: KeywordBridge, datamodule: CaptionDataModule, augment: SpecAugment | None, epochs: int
) -> list[tuple[Heard, Heard]]:
    """Of each part of the recordings, its clips changed as in training, and as they are; both mixed with others of the part.

    Were those as they are never mixed, or those mixed always changed, that would be what is learnt.
    """
    found = []
    for part in range(PARTS):
        clips = [clip for clip in datamodule.clips["train"] if int(PARTS * position(_recording(clip))) == part]
        if clips:
            changed = _batches(datamodule.part(clips, MIX), epochs)
            plain = _batches(datamodule.part(clips, MIX, changed=False), epochs)
            found.append((_heard(captioner, bridge, changed, augment), _heard(captioner, bridge, plain, None)))
    return found


def _by_other_heads(
    captioner: Captioner,
    bridge: KeywordBridge,
    heard: Sequence[tuple[Heard, Heard]],
    smoothing: float,
    offset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(N, inputs) of the network, and (N,) whether a clip has several labels: of each part, as a label head finds them that
    learnt from the other parts."""
    inputs, several = [], []
    for own in heard:
        others = [one for part in heard if part is not own for one in part] or own
        own_head = bridge.label_head
        head = LabelHead(captioner.encoder.width, len(bridge.names), own_head.window, own_head.bands).to(
            captioner.device
        )
        alone = [(read[0], shares, (shares > 0).sum(dim=1) == 1) for read, shares in others]
        halves = [(read[one], shares[one], shares[one, :0]) for read, shares, one in alone if bool(one.any())]
        fit_heads(head.linear, None, halves, smoothing, offset, HEAD_STEPS, head.sizes)
        with torch.no_grad():
            inputs += [bridge.several_inputs(read, head) for read, _ in own]
        several += [(shares > 0).sum(dim=1) > 1 for _, shares in own]
    return torch.cat(inputs), torch.cat(several)


def _recording(clip: Clip) -> str:
    return clip.name if clip.recording is None else clip.recording


def _batches(datamodule: CaptionDataModule, epochs: int) -> Iterable[Batch]:
    """Of some epochs of training clips, with how far it is on a terminal."""
    from rich.progress import track

    loader = datamodule.train_dataloader()
    loader.go_on_from(0)
    batches: Iterator[Batch] = chain.from_iterable(loader for _ in range(epochs))
    what = "learning when there are two sources"
    return track(batches, what, epochs * loader.epoch, disable=not sys.stderr.isatty())


@torch.no_grad()
def _heard(captioner: Captioner, bridge: KeywordBridge, batches: Iterable[Batch], augment: SpecAugment | None) -> Heard:
    """What is read of the clips whose labels are known."""
    read, shares = [], []
    for batch in batches:
        batch = batch.to(captioner.device)
        assert batch.labels is not None
        known = batch.labels.sum(dim=1) > 0
        with captioner._precision(captioner.decoding):
            read.append(bridge.read(*encoded(captioner, batch, augment))[:, known].float())
        shares.append(batch.labels[known])
    return torch.cat(read, dim=1), torch.cat(shares)


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
