"""The picture metrics of N clips, of which some may lack a picture or a sound: their values are then NaN."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from a2i import audio
from a2i.metrics.inputs import Inputs
from a2i.metrics.parts import MissingError, Score
from a2i.metrics.pictures.attribution import blame_pictures
from a2i.metrics.pictures.clipscore import score_pictures
from a2i.metrics.pictures.ranking import retrieval
from a2i.metrics.pictures.similarity import compare_audio_image


def clip_scores(inputs: Inputs) -> dict[str, Score]:
    """Picture against its caption, and against the references.

    Raises:
        MissingError: there is no picture or no CLIP.
    """
    rows = [i for i, clip in enumerate(inputs.clips) if clip.image is not None]
    if not rows:
        raise MissingError("no clip has a picture: image=NAME draws them, pictures=FOLDER takes those of a2i.infer")
    found = score_pictures(
        inputs.model("clip"),
        [inputs.clips[i].image for i in rows],
        [inputs.captions[i] for i in rows],
        [inputs.references[i] for i in rows],
    )
    tensors = {
        "clip_score": found.clip_score,
        "ref_clip_score": found.ref_clip_score,
        "clip_score_references": found.reference_score,
    }
    count = len(inputs.captions)
    return {name: _score(values, rows, count, found.settings) for name, values in tensors.items() if values is not None}


def blamed(inputs: Inputs) -> dict[str, Score]:
    """What captioner and painter each lose: pictures of predicted and of people's captions, against the references.

    Raises:
        MissingError: there are no pictures of people's captions, too few references, or no CLIP.
    """
    clips = inputs.clips
    if not any(clip.human_image for clip in clips):
        raise MissingError("it needs pictures of people's captions by the same painter: image=NAME draws both")
    rows = [i for i, clip in enumerate(clips) if _has_both_pictures(clip, inputs.references[i])]
    model = inputs.model("clip")
    if len(rows) < 2:
        raise MissingError(f"{len(rows)} clips have a reference besides the one that was drawn; expected at least two")
    found = blame_pictures(
        model,
        [clips[i].image for i in rows],
        [clips[i].human_image for i in rows],
        [inputs.references[i][0] for i in rows],
        [inputs.references[i] for i in rows],
    )
    tensors = {
        "blame_predicted": found.predicted,
        "blame_human": found.human,
        "blame_chance": found.human_chance,
        "blame_captioner": found.captioner,
        "blame_conveyed": found.conveyed,
    }
    settings = found.settings or {}
    return {name: _score(values, rows, len(clips), settings) for name, values in tensors.items()}


def audio_image(inputs: Inputs) -> Score:
    """Sound against picture.

    Raises:
        MissingError: there are too few clips with both, or no CLIP or CLAP.
    """
    clip_model, clap_model, clips = inputs.model("clip"), inputs.model("clap"), inputs.clips
    rate = clap_model.sampling_rate
    rows = [i for i, clip in enumerate(clips) if clip.image is not None and _can_be_read(clip, rate)]
    if len(rows) < 2:
        raise MissingError(
            f"{len(rows)} clips have both a sound that can be read and a picture; expected at least two "
            "(audio=FOLDER finds sounds)"
        )
    found = compare_audio_image(
        clap_model,
        clip_model,
        _waveforms([clips[i] for i in rows], rate),
        rate,
        [clips[i].image for i in rows],
        inputs.models["pool"],
    )
    own = _score(found.similarity.diagonal(), rows, len(clips), found.settings)
    ranked = retrieval(found.similarity)
    details = {"sound_finds_picture": ranked.forward.summary, "picture_finds_sound": ranked.backward.summary}
    return Score(own.value, own.clips, None, own.settings, details=details)


def _score(values: Tensor, rows: Sequence[int], count: int, settings: dict[str, Any]) -> Score:
    """A score of `count` clips, of which those in `rows` have a value."""
    clips = np.full(count, np.nan)
    clips[list(rows)] = values.double().numpy()
    return Score(float(values.double().mean()), tuple(clips.tolist()), None, {**settings, "clips": len(rows)})


def _has_both_pictures(clip: Any, references: Sequence[str]) -> bool:
    """Whether there are both pictures, and a reference besides the one that was drawn."""
    drawn, *others = map(str.strip, references)
    return clip.image is not None and clip.human_image is not None and any(other not in ("", drawn) for other in others)


def _can_be_read(clip: Any, rate: int) -> bool:
    """Whether there is a sound that can be read: beside another system's captions nobody has read it yet."""
    try:
        return clip.audio is not None and len(audio.load(clip.audio, rate, clip.start, clip.end)) > 0
    except (OSError, ValueError):
        return False


def _waveforms(clips: Sequence[Any], rate: int) -> Iterator[np.ndarray]:
    for clip in clips:
        yield audio.load(clip.audio, rate, clip.start, clip.end)
