"""How alike a sound and a picture are, by the sentences of one pool that each is near to."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from a2i.metrics.pictures.clap import CLAP
from a2i.metrics.pictures.clip import CLIP
from a2i.metrics.pictures.ranking import NOISE


def audio_image_similarity(audio_profiles: Tensor, image_profiles: Tensor) -> Tensor:
    """How alike sounds and pictures are by what sentences each is near to, (N, M) float64 in [-1, 1].

    A profile is a sound's (by CLAP) or a picture's (by CLIP) cosines with the P sentences of one pinned pool. The two
    models have no space in common, and none of their vectors or cosines are compared: each sentence's cosines are
    standardised over the sounds, and apart from that over the pictures (some sentences are near to everything, and CLAP's
    and CLIP's cosines differ in size); the similarity is then Pearson's correlation of a sound's profile with a
    picture's. No picture's caption enters.

    It says whether sound and picture stand out from their sets in the same sentences. It is no better than both models
    and the pool; a pool that tells what is heard and cannot be seen adds noise. Standardising makes a value depend on the
    whole set: compare values only over the same sounds, models and pool, and give some dozens of each. A sound or picture
    that stands out in nothing, as where a painter always draws the same, has 0 with all.

    Args:
        audio_profiles: (N, P), N at least 2, P at least 3.
        image_profiles: (M, P), M at least 2; the same sentences in the same order.

    Raises:
        ValueError: another shape, or something is not finite.
    """
    for profiles in (audio_profiles, image_profiles):
        if profiles.ndim != 2 or len(profiles) < 2 or profiles.shape[1] < 3 or not profiles.isfinite().all():
            raise ValueError(
                f"got profiles of shape {tuple(profiles.shape)}; expected (at least 2, at least 3 sentences), finite"
            )
    if audio_profiles.shape[1] != image_profiles.shape[1]:
        raise ValueError(
            f"got profiles over {audio_profiles.shape[1]} and {image_profiles.shape[1]} sentences; expected one pool"
        )
    return (_standardised(audio_profiles) @ _standardised(image_profiles).T).clamp(-1, 1)


def _standardised(profiles: Tensor) -> Tensor:
    """Each column standardised, then each row centred and at unit length; zeros where there is no spread."""
    profiles = profiles.double()
    centred = profiles - profiles.mean(dim=0)
    spread = centred.std(dim=0, correction=0)
    columns = torch.where(spread > NOISE, centred / spread, 0.0)
    rows = columns - columns.mean(dim=1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > NOISE, rows / length, 0.0)


@dataclass(frozen=True, eq=False)
class AudioImage:
    """Similarity of N sounds with M pictures."""

    similarity: Tensor  # (N, M); for `retrieval`, and its diagonal for clips with their own pictures
    unseen_tokens: dict[str, int]  # of the pool's sentences: `audio`, `image`
    settings: dict[str, Any]


def compare_audio_image(
    clap: CLAP,
    clip: CLIP,
    waveforms: Iterable[np.ndarray],
    rate: int,
    pictures: Sequence[Image.Image | Path],
    sentences: Sequence[str],
) -> AudioImage:
    """Embed sounds (at `rate` Hz), pictures and a pool of sentences; `audio_image_similarity` of the profiles.

    Args:
        sentences: the pool, at least 3, all different; best from a split that is not scored. `settings` has its hash.

    Raises:
        ValueError: the pool does not fit, or as in the functions it calls.
    """
    if isinstance(sentences, str) or len(set(sentences)) != len(sentences):
        raise ValueError("got a pool with sentences that come twice, or a string; expected a list, all different")
    heard, seen = clap.embed_texts(sentences), clip.embed_texts(sentences)
    audio = clap.embed_sounds(waveforms, rate) @ heard.vectors.T
    image = clip.embed_pictures(pictures) @ seen.vectors.T
    settings = {
        "audio": clap.settings,
        "image": clip.settings,
        "audio_rate": rate,
        "method": "correlation of standardised profiles over a pool of sentences",
        "pool": pool_settings(sentences),
    }
    unseen = {"audio": sum(heard.unseen_tokens), "image": sum(seen.unseen_tokens)}
    return AudioImage(audio_image_similarity(audio, image), unseen, settings)


def pool_settings(sentences: Sequence[str]) -> dict[str, Any]:
    """What pins a pool: its size, and the SHA-256 of its sentences in their order (as a JSON list in UTF-8)."""
    text = json.dumps(list(sentences), ensure_ascii=False)
    return {"sentences": len(sentences), "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest()}
