"""Builds the captioner to train, and the module that trains it, from the configuration and the training clips."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from a2i import hub
from a2i.captioner import Captioner, decoders, encoders
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.cleaning import Lexicon
from a2i.captioner.decoding import Decoding
from a2i.captioner.text import CaptionTokenizer
from a2i.compose import build, target_class
from a2i.data import NAMELESS, Clip
from a2i.data.kinds import KINDS, NONE
from a2i.features import FeatureSettings
from a2i.metrics.bertscore import BERTScore
from a2i.training.labels import label_frequencies, label_names, tag_count
from a2i.training.module import CaptionModule

PADDED = 128  # rows of an embedding are padded to a multiple of this, at most


def build_captioner(model: dict[str, Any], clips: Sequence[Clip], sentences: Sequence[str] = ()) -> Captioner:
    """The captioner that `conf/model` describes.

    Args:
        model: tokenizer, encoder, bridge, keywords, decoder, features and decoding.
        clips: of the training split. Their captions give the cleaning step its words, and a tokenizer to be trained its
            tokens; their labels are the keywords, where the model has keywords.
        sentences: that the decoder learns from beside the captions.

    Raises:
        ValueError: a setting does not fit, or the tokenizer is not that of the decoder's checkpoint.
    """
    captions = [*(caption for clip in clips for caption in clip.captions), *sentences]
    tokenizer = _tokenizer(model["tokenizer"], model["decoder"], captions)
    encoder, decoder = build(model["encoder"]), build(model["decoder"], vocab_size=len(tokenizer))
    encoders.name_of(encoder), decoders.name_of(decoder)  # refuses now what could not be loaded after training
    captioner = Captioner(
        encoder=encoder,
        decoder=decoder,
        tokenizer=tokenizer,
        bridge=_bridge(model, clips),
        features=FeatureSettings(**model["features"]),
        decoding=Decoding(**model["decoding"]),
    )
    captioner.lexicon = Lexicon.of(captions, tokenizer)
    return captioner


def build_module(
    training: dict[str, Any], captioner: Captioner, clips: Sequence[Clip], bertscore: BERTScore | None = None
) -> CaptionModule:
    """The module that trains a captioner, as the section `training` of `conf/train.yaml` describes it.

    Args:
        training: the section; what others need of it is passed over.
        captioner: to be trained.
        clips: of the training split, for their labels and tags.
        bertscore: of the validation; None for none.

    Raises:
        ValueError: a setting does not fit.
    """
    settings, names = dict(training), labels_of(captioner, clips)
    if settings["label_loss"] and not names:
        print("this data has no labels: the encoder learns from the captions alone")
        settings |= {"label_loss": 0.0, "labels_first": 0.0}
    optimizer = dict(settings.pop("optimizer"))
    optimizer_class = target_class(optimizer.pop("_target_"))
    settings.pop("on_nan", None)  # a callback's
    settings.pop("probe_epochs", None)  # of what comes before the first step
    balance = settings.pop("label_balance", 0.0)
    return CaptionModule(
        captioner,
        optimizer=partial(optimizer_class, **optimizer),
        labels=len(names),
        label_offset=balance * label_frequencies(clips, names).log() if balance else None,
        tags=tag_count(clips),
        augment=build(augment) if (augment := settings.pop("augment")) else None,
        bertscore=bertscore,
        **settings,
    )


def labels_of(captioner: Captioner, clips: Sequence[Clip]) -> list[str]:
    """The names of the labels: the captioner's keywords, where it has some, else those of the training clips."""
    return captioner.bridge.names if isinstance(captioner.bridge, KeywordBridge) else label_names(clips)


def _tokenizer(wanted: dict[str, Any], decoder: dict[str, Any], captions: Sequence[str]) -> CaptionTokenizer:
    """Load or train the tokenizer, and check that it fits the decoder."""
    name, checkpoint, revision = wanted["pretrained"], decoder.get("pretrained"), decoder.get("revision")
    max_tokens, bos = wanted["max_tokens"], wanted["bos"]
    advice = (
        "a pretrained decoder needs its own tokenizer: set model/tokenizer=checkpoint, or a decoder without pretrained"
        " weights, such as model/decoder=gpt2_mini"
    )
    if name is None and checkpoint is not None:
        raise ValueError(f"got model.decoder.pretrained={checkpoint} with a tokenizer to be trained; {advice}")
    if name is None:
        return CaptionTokenizer.train(captions, wanted["vocab_size"], max_tokens, bos, wanted["kind"])
    tokenizer = CaptionTokenizer.load(name, max_tokens, bos, revision if name == checkpoint else None)
    if checkpoint not in (None, name) and not _belong_together(tokenizer, checkpoint, revision):
        raise ValueError(
            f"got model.tokenizer.pretrained={name} with model.decoder.pretrained={checkpoint}, which has other tokens;"
            f" {advice}"
        )
    return tokenizer


def _belong_together(tokenizer: CaptionTokenizer, checkpoint: str, revision: str | None) -> bool:
    """Whether a tokenizer has the tokens of a checkpoint. If the checkpoint has no tokenizer: whether it has as many rows, or
    as many padded to a rounder number."""
    from transformers import AutoConfig

    try:
        own = CaptionTokenizer.load(checkpoint, revision=revision)
    except ValueError:
        try:
            rows = AutoConfig.from_pretrained(
                checkpoint, revision=revision or "main", trust_remote_code=False
            ).vocab_size
        except (*hub.failures(), ValueError, AttributeError):
            return True  # there is no checkpoint: the decoder will say so
        return 0 <= rows - len(tokenizer) < PADDED
    return own.tokenizer.get_vocab() == tokenizer.tokenizer.get_vocab()


def _bridge(model: dict[str, Any], clips: Sequence[Clip]) -> Any:
    """The bridge's settings: where the model asks for keywords and the clips have labels, these are its keywords.

    With `keywords: kinds` all of `a2i.data.kinds` are: also those of which there are sentences and, as yet, no clip.
    """
    names = label_names(clips)
    if names and model["keywords"] == "kinds":
        names = sorted({*names, *KINDS})
    elif model.get("categories"):
        names = sorted({*names, *(KINDS[name].category for name in names if name in KINDS)} - {NONE})
    if not (model["keywords"] and names):
        return model["bridge"]
    return {
        "kind": "keywords",
        "inner": model["bridge"],
        "names": names,
        "alone": sorted(NAMELESS & set(names)),
        "unlikely": "unknown" if "unknown" in names else None,
        "categories": _categories(names) if model.get("categories") else {},
        "halves": model.get("halves", False),
        "window": model.get("keyword_window"),
        "bands": model["encoder"].get("bands", 1),
    }


def _categories(names: Sequence[str]) -> dict[str, list[str]]:
    """The other labels of each category."""
    held: dict[str, list[str]] = {}
    for name in names:
        if name in KINDS and KINDS[name].category not in (name, NONE):
            held.setdefault(KINDS[name].category, []).append(name)
    return held
