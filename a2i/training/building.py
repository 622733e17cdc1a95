"""A configuration and training clips → the captioner that is to learn."""

from collections.abc import Sequence
from typing import Any

from a2i.captioner import Captioner
from a2i.cleaning import Lexicon
from a2i.compose import build
from a2i.data import NAMELESS, Clip
from a2i.decoders import Decoding
from a2i.features import FeatureSettings
from a2i.text import CaptionTokenizer
from a2i.training.labels import label_names


def build_captioner(model: dict[str, Any], clips: Sequence[Clip]) -> Captioner:
    """The captioner that `conf/model` describes.

    Args:
        model: tokenizer, encoder, bridge, keywords, decoder, features and decoding.
        clips: of the training split. The published cleaning step knows the words of their captions; a tokenizer is learnt
            from these, and their labels are the keywords, where the model asks for its own.
    """
    wanted = model["tokenizer"]
    captions = [caption for clip in clips for caption in clip.captions]
    bos = wanted["bos"]
    if wanted["pretrained"] is not None:
        tokenizer = CaptionTokenizer.load(wanted["pretrained"], wanted["max_tokens"], bos)
    else:
        tokenizer = CaptionTokenizer.train(captions, wanted["vocab_size"], wanted["max_tokens"], bos, wanted["kind"])
    captioner = Captioner(
        encoder=build(model["encoder"]),
        decoder=build(model["decoder"], vocab_size=len(tokenizer)),
        tokenizer=tokenizer,
        bridge=model["bridge"],
        features=FeatureSettings(**model["features"]),
        decoding=Decoding(**model["decoding"]),
        keywords=_keywords(clips) if model["keywords"] else None,
    )
    captioner.lexicon = Lexicon.of(captions, tokenizer)
    return captioner


def _keywords(clips: Sequence[Clip]) -> dict[str, Any] | None:
    """Settings of `a2i.keywords.Keywords` for the labels of some clips; None where they have none."""
    names = label_names(clips)
    alone = sorted(NAMELESS & set(names))
    return {"names": names, "alone": alone, "unlikely": "unknown" if "unknown" in names else None} if names else None
