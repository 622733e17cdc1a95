"""CLIPScore: how well a picture fits its caption, and what people say of the clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from a2i.metrics.pictures.clip import CLIP

W = 2.5  # CLIPScore's weight: stretches the cosines that CLIP really gives over about [0, 1]
PREFIX = "A photo depicts "  # the paper's, before captions and references alike


def clip_score(pictures: Tensor, captions: Tensor, w: float = W) -> Tensor:
    """CLIPScore of N pictures with a caption each: w · max(cos, 0), (N,), on the paper's scale (w = 2.5).

    Args:
        pictures, captions: (N, D) each, unit length.
        w: weight.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(pictures, captions)
    return w * (pictures * captions).sum(dim=1).clamp(min=0)


def ref_clip_score(pictures: Tensor, captions: Tensor, references: Sequence[Tensor], w: float = W) -> Tensor:
    """RefCLIPScore: harmonic mean of CLIPScore and of the caption's largest max(cos, 0) with a reference, (N,).

    As in the paper, only the first of the two is weighted by w. 0 where one of them is.

    Args:
        pictures, captions: as in `clip_score`.
        references: N tensors (R, D), unit length; R at least 1, and may differ.

    Raises:
        ValueError: the shapes do not fit, or a caption has no reference.
    """
    check_references(captions, references)
    seen = clip_score(pictures, captions, w)
    said = torch.stack([(group @ caption).amax() for caption, group in zip(captions, references, strict=True)])
    said = said.clamp(min=0)
    return (2 * seen * said / (seen + said)).nan_to_num(nan=0.0)


def reference_score(pictures: Tensor, references: Sequence[Tensor], w: float = W) -> Tensor:
    """Mean CLIPScore of each picture with its references, (N,); arguments as in `ref_clip_score`.

    The mean, not the maximum: the maximum grows with the number of references, and rewards a picture that shows what one
    person heard as much as one that shows what all did.
    """
    check_references(pictures, references)
    pairs = zip(pictures, references, strict=True)
    return torch.stack([w * (group @ picture).clamp(min=0).mean() for picture, group in pairs])


@dataclass(frozen=True, eq=False)
class PictureScores:
    """Scores of N pictures, (N,) float32 each; references may be None."""

    clip_score: Tensor  # picture with caption
    ref_clip_score: Tensor | None  # the same, and caption with references
    reference_score: Tensor | None  # picture with references, whatever the caption
    unseen_tokens: tuple[int, ...]  # of each caption's end, beyond what the model takes
    unseen_reference_tokens: tuple[int, ...] | None  # likewise, all references of a clip together
    settings: dict[str, Any]


def score_pictures(
    clip: CLIP,
    pictures: Sequence[Image.Image | Path],
    captions: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    prefix: str = PREFIX,
) -> PictureScores:
    """Embed and score pictures; scale: the paper's, 2.5 · max(cos, 0).

    A blank caption scores 0, where CLIP would give the bare prefix the score of a poor caption. Blank references are
    left out.

    Raises:
        ValueError: the lists differ in length, a clip has no reference, or something is of the wrong type.
    """
    check_same_length(pictures=pictures, captions=captions)
    seen = clip.embed_pictures(pictures)
    said = clip.embed_texts([prefix + caption for caption in captions])
    worded = torch.tensor([float(bool(caption.strip())) for caption in captions])
    settings = {**clip.settings, **scale(prefix)}
    score = clip_score(seen, said.vectors) * worded
    if references is None:
        return PictureScores(score, None, None, said.unseen_tokens, None, settings)
    check_same_length(pictures=pictures, references=references)
    groups, unseen = embed_groups(clip, references, prefix)
    with_references = ref_clip_score(seen, said.vectors, groups) * worded
    return PictureScores(score, with_references, reference_score(seen, groups), said.unseen_tokens, unseen, settings)


def embed_groups(clip: CLIP, references: Sequence[Sequence[str]], prefix: str) -> tuple[list[Tensor], tuple[int, ...]]:
    """References of each clip, (R, D) each, and how many tokens of them were not seen; blank ones left out."""
    worded = []
    for i, group in enumerate(references):
        if isinstance(group, str) or not all(isinstance(reference, str) for reference in group):
            raise ValueError(f"clip {i}: got the references {group!r:.200}; expected a list of strings")
        worded.append([reference for reference in group if reference.strip()])
        if not worded[-1]:
            raise ValueError(f"clip {i}: got {list(group)!r:.200}; expected at least one reference that can be used")
    found = clip.embed_texts([prefix + reference for group in worded for reference in group])
    sizes = [len(group) for group in worded]
    unseen = torch.tensor(found.unseen_tokens).split(sizes)
    return list(found.vectors.split(sizes)), tuple(int(group.sum()) for group in unseen)


def check_references(queries: Tensor, references: Sequence[Tensor]) -> None:
    width = queries.shape[-1]
    fit = [group.ndim == 2 and len(group) > 0 and group.shape[1] == width for group in references]
    if not (all(fit) and len(fit) == len(queries) > 0):
        raise ValueError(
            f"got {tuple(queries.shape)} and references {[tuple(group.shape) for group in references][:5]}; expected one "
            "tensor (R, D) of references, R at least 1, for each of at least one clip"
        )


def check_same_shape(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"got embeddings {tuple(first.shape)} and {tuple(second.shape)}; expected (N, D) twice")


def check_same_length(**lists: Sequence[Any]) -> None:
    told = {name: "a string" if isinstance(values, str) else len(values) for name, values in lists.items()}
    if len(set(told.values())) > 1 or set(told.values()) & {0, "a string"}:
        raise ValueError(f"got {told}; expected lists of one length, at least 1")


def scale(prefix: str) -> dict[str, Any]:
    return {"w": W, "scale": f"{W} * max(cos, 0)", "prefix": prefix}
