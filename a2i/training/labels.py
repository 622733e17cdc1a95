"""Labels, the sources in each clip, and tags, of data sets that have them."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from a2i.data import Clip


def label_names(clips: Iterable[Clip]) -> list[str]:
    """All labels of some clips, sorted."""
    return sorted({label for clip in clips for label in clip.labels or ()})


def label_shares(labels: frozenset[str] | None, names: Sequence[str]) -> list[float]:
    """A clip's labels as (len(names) + 1,) shares with a sum of 1; the last one stands for "none of them".

    All are 0 where the labels are not known. A label outside `names` counts as "none of them".
    """
    if labels is None:
        return [0.0] * (len(names) + 1)
    known = labels & set(names)
    return [(name in known) / max(len(known), 1) for name in names] + [float(not known)]


def label_frequencies(clips: Iterable[Clip], names: Sequence[str]) -> Tensor:
    """(len(names) + 1,): of all the clips' labels, the share of each; none is 0."""
    counts = torch.full((len(names) + 1,), 0.5)
    for clip in clips:
        counts += torch.tensor(label_shares(clip.labels, names))
    return counts / counts.sum()


def label_loss(
    log_probabilities: Tensor, shares: Tensor, label_smoothing: float = 0.0, offset: Tensor | None = None
) -> Tensor:
    """Cross-entropy, mean over the clips whose labels are known, in nats; 0 where there is none.

    The loss of a caption is mostly about wording, and little about the sound. This one trains the encoder on the sound
    directly.

    Args:
        log_probabilities: (B, labels + 1), of `a2i.captioner.label_head.LabelHead`.
        shares: (B, labels + 1), as `label_shares` gives them.
        label_smoothing: share of the target's probability spread over the labels.
        offset: (labels + 1,) added to the log-probabilities in training alone, larger for frequent labels; so that rare ones
            are told as readily (Menon et al. 2021, "Long-tail learning via logit adjustment").
    """
    if offset is not None:
        log_probabilities = (log_probabilities + offset).log_softmax(dim=1)
    known = shares.sum(dim=1, keepdim=True)
    targets = (1 - label_smoothing) * shares + label_smoothing * known / shares.shape[1]
    return -(targets * log_probabilities).sum() / known.sum().clamp(min=1)


def tag_count(clips: Iterable[Clip]) -> int:
    """Number of classes of the clips' tags; 0 where none has tags.

    Raises:
        ValueError: they come from different taggers.
    """
    counts = {len(clip.tags) for clip in clips if clip.tags is not None}
    if len(counts) > 1:
        raise ValueError(f"got clips with tags of {sorted(counts)} classes; expected those of one tagger")
    return counts.pop() if counts else 0


def mixed_tags(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """Tags (classes,) of two clips heard together: the probability that a class sounds in either; None where one's are not
    known."""
    if first is None or second is None:
        return None
    mixed: np.ndarray = 1 - (1 - first) * (1 - second)
    return mixed


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Binary cross-entropy, the sum over the classes and the mean over the clips whose tags are known, in nats.

    Args:
        logits: (B, classes).
        tags: (B, classes) probabilities; NaN where a clip has none.
    """
    known = ~tags.isnan().any(dim=1)
    if not bool(known.any()):
        return logits.sum() * 0.0
    loss = binary_cross_entropy_with_logits(logits[known].float(), tags[known], reduction="none")
    return loss.sum(dim=1).mean()


def stacked_tags(tags: Sequence[np.ndarray | None]) -> Tensor | None:
    """(B, classes) of a batch's clips, NaN where a clip has none; None where no clip has."""
    count = next((len(one) for one in tags if one is not None), 0)
    if not count:
        return None
    none = np.full(count, np.nan, np.float32)
    return torch.from_numpy(np.stack([none if one is None else one for one in tags]))
