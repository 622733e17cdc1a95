"""Labels, the sources in each clip, of data sets that have them."""

from collections.abc import Iterable, Sequence

from torch import Tensor

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


def label_loss(log_probabilities: Tensor, shares: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, mean over the clips whose labels are known, in nats; 0 where there is none.

    The loss of a caption is mostly about wording, and little about the sound. This one trains the encoder on the sound
    directly.

    Args:
        log_probabilities: (B, labels + 1), of `a2i.captioner.bridge.LabelHead`.
        shares: (B, labels + 1), as `label_shares` gives them.
        label_smoothing: share of the target's probability spread over the labels.
    """
    known = shares.sum(dim=1, keepdim=True)
    targets = (1 - label_smoothing) * shares + label_smoothing * known / shares.shape[1]
    return -(targets * log_probabilities).sum() / known.sum().clamp(min=1)
