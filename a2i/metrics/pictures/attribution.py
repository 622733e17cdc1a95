"""Who failed, the captioner or the painter: pictures of predicted captions beside pictures of people's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from a2i.metrics.pictures.clip import CLIP
from a2i.metrics.pictures.clipscore import (
    PREFIX,
    W,
    check_references,
    check_same_length,
    check_same_shape,
    embed_groups,
    scale,
)


@dataclass(frozen=True, eq=False)
class Blame:
    """Pictures of N clips drawn from the predicted and from a human caption, scored against the references; (N,) each."""

    predicted: Tensor  # mean CLIPScore of the predicted caption's picture with the clip's references
    human: Tensor  # likewise of the human caption's picture
    predicted_chance: Tensor  # mean of the same picture's scores with the other clips' references
    human_chance: Tensor
    settings: dict[str, Any] | None = None

    @property
    def captioner(self) -> Tensor:
        """What the captioner's words cost: how much better the same painter does with a person's."""
        return self.human - self.predicted

    @property
    def conveyed(self) -> Tensor:
        """What the painter conveys of a person's words: how much nearer the picture is to its clip than to others.

        0 is chance. There is no such mark for a perfect painter: how like its own words a picture can be is not known,
        so what the painter loses on the way cannot be put beside what the captioner loses.
        """
        return self.human - self.human_chance


class Verdict(NamedTuple):
    """Who failed: 'painter', 'captioner', 'nobody' or 'human'; and what that means, in a sentence."""

    who: str
    why: str


def blame(predicted: Tensor, human: Tensor, references: Sequence[Tensor], w: float = W) -> Blame:
    """Hold pictures drawn from predicted and from human captions against the references.

    Both must be drawn by the same painter with the same seed. The human caption that was drawn must not be among the
    references (the painter would be asked to match the very sentence it drew): `blame_pictures` sees to that. Chance
    comes from the other clips, so these should sound different from each other.

    Args:
        predicted, human: (N, D) embedded pictures, unit length; N at least 2.
        references: N tensors (R, D), embedded sentences.

    Raises:
        ValueError: the shapes do not fit, there is one clip alone, or a clip has no reference.
    """
    check_same_shape(predicted, human)
    if len(human) < 2:
        raise ValueError(f"got {len(human)} clips; expected at least 2: the other clips' references say what chance is")
    predicted_score, predicted_chance = _against_all(predicted, references, w)
    human_score, human_chance = _against_all(human, references, w)
    return Blame(predicted_score, human_score, predicted_chance, human_chance)


def verdict(captioner: tuple[float, float], conveyed: tuple[float, float]) -> Verdict:
    """Who failed, from confidence intervals (low, high) of the means of `Blame.captioner` and `Blame.conveyed`.

    Raises:
        ValueError: an interval's low is above its high, or not a number.
    """
    for low, high in (captioner, conveyed):
        if not low <= high:
            raise ValueError(f"got the interval ({low}, {high}); expected (low, high)")
    if conveyed[0] <= 0:
        return Verdict(
            "painter",
            "Pictures of human captions are not shown to be nearer their own clips than others, so this painter, seen "
            "through this CLIP, can tell nothing about the captioner either.",
        )
    if captioner[0] > 0:
        return Verdict("captioner", "With human captions the same painter draws nearer to the references.")
    if captioner[1] < 0:
        return Verdict("human", "Pictures of predicted captions are nearer to the references than of human captions.")
    return Verdict("nobody", "No difference is shown between pictures of predicted and of human captions.")


def blame_pictures(
    clip: CLIP,
    predicted: Sequence[Image.Image | Path],
    human: Sequence[Image.Image | Path],
    human_captions: Sequence[str],
    references: Sequence[Sequence[str]],
    prefix: str = PREFIX,
) -> Blame:
    """Embed pictures and references, and `blame`.

    Args:
        predicted: N pictures of the predicted captions.
        human: N pictures of `human_captions`, by the same painter with the same seeds.
        human_captions: those that were drawn; left out where they are among the references.
        references: N lists, with at least one besides the drawn one.

    Raises:
        ValueError: as in `blame`, the lists differ in length, or no reference remains.
    """
    check_same_length(predicted=predicted, human=human, human_captions=human_captions, references=references)
    others = [
        [reference for reference in group if reference.strip() != drawn.strip()]
        for drawn, group in zip(human_captions, references, strict=True)
    ]
    groups, _ = embed_groups(clip, others, prefix)
    found = blame(clip.embed_pictures(predicted), clip.embed_pictures(human), groups)
    settings = {**clip.settings, **scale(prefix), "references": "mean over those that were not drawn"}
    return Blame(found.predicted, found.human, found.predicted_chance, found.human_chance, settings)


def _against_all(pictures: Tensor, references: Sequence[Tensor], w: float) -> tuple[Tensor, Tensor]:
    """Mean score of each picture with its own references, and the mean over the other clips of that with theirs."""
    check_references(pictures, references)
    flat = torch.cat(list(references))
    count = len(pictures)
    sizes = torch.tensor([len(group) for group in references])
    clips = torch.arange(count).repeat_interleave(sizes)
    own, others = [], []
    for i, picture in enumerate(pictures):  # one at a time: all pairs of a large set would not fit in memory
        scores = w * (flat @ picture).double().clamp(min=0)
        means = scores.new_zeros(count).index_add(0, clips, scores) / sizes
        own.append(means[i])
        others.append((means.sum() - means[i]) / max(1, count - 1))
    return torch.stack(own).float(), torch.stack(others).float()
