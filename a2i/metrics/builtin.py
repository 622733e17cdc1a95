"""Our metrics, a record each. To add one, add a record here, or call `a2i.metrics.register` in a package of your own.

This file loads no model and no heavy library: what computes a metric is imported when it is computed.
"""

from collections.abc import Callable, Mapping

import numpy as np

from a2i.metrics.captions import bleu, cider_d, rouge_l
from a2i.metrics.fense import fluency_error, penalised, sentence_similarity
from a2i.metrics.inputs import Inputs
from a2i.metrics.java import meteor, spice
from a2i.metrics.parts import INSTALL, MissingError, Parts, Score, Tokens
from a2i.metrics.registry import Metric, Value, compute, register


def _of_tokens(function: Callable[[Tokens, Parts], Score], inputs: Inputs) -> Score:
    """A score of tokens, with the tokenizer among its settings."""
    tokens = inputs.tokens
    try:
        score = function(tokens, inputs.parts)
    except MissingError as reason:
        raise MissingError(str(reason), tokens.settings) from reason
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise MissingError(f"{package} is not installed: {INSTALL}", tokens.settings) from error
    return Score(score.value, score.clips, None, tokens.settings | score.settings, score.tally)


def _of_scores(formula: Callable[..., np.ndarray], *scores: Score) -> Score:
    """A score computed from the values that others give single clips."""
    for score in scores:
        if score.missing:
            raise MissingError(score.missing, score.settings)
    settings = {key: value for score in scores for key, value in score.settings.items()}
    return Score.of(formula(*(np.array(score.clips) for score in scores)), settings)


def _part(name: str, function: Callable[[Tokens, Parts], Score], inputs: Inputs) -> Score:
    """A score that is no metric by itself, and is computed once for those that need it."""
    if name not in inputs.scores:
        try:
            inputs.scores[name] = _of_tokens(function, inputs)
        except MissingError as reason:
            inputs.scores[name] = Score(None, missing=str(reason), settings=reason.settings)
    return inputs.scores[name]


def _bleu(n: int) -> Callable[[Inputs], Score]:
    return lambda inputs: _of_tokens(lambda tokens, parts: bleu(n, tokens, parts), inputs)


def _spider(inputs: Inputs) -> Score:
    found = [compute(name, inputs)[name] for name in ("cider_d", "spice")]
    return _of_scores(lambda one, other: (one + other) / 2, *found)


def _spider_fl(inputs: Inputs) -> Score:
    spider = compute("spider", inputs)["spider"]
    if spider.missing:  # before the classifier is loaded
        raise MissingError(spider.missing, spider.settings)
    return _of_scores(penalised, spider, _part("fluency_error", fluency_error, inputs))


def _fense(inputs: Inputs) -> Score:
    error = _part("fluency_error", fluency_error, inputs)
    if error.missing:
        raise MissingError(error.missing, error.settings)
    return _of_scores(penalised, _part("sentence_similarity", sentence_similarity, inputs), error)


def _bertscore(inputs: Inputs) -> dict[str, Score]:
    metric = inputs.model("bertscore")
    found = metric.score(inputs.captions, inputs.references)
    values = {name: getattr(found, name) for name in ("precision", "recall", "f1")}
    return {
        f"bertscore_{name}": Score.of(of_clips.tolist(), metric.settings, of_clips.mean())
        for name, of_clips in values.items()
    }


def _clip_score(inputs: Inputs) -> Mapping[str, Score]:
    from a2i.metrics.pictures.scoring import clip_scores

    return clip_scores(inputs)


def _audio_image_similarity(inputs: Inputs) -> Score:
    from a2i.metrics.pictures.scoring import audio_image

    return audio_image(inputs)


def _blame(inputs: Inputs) -> Mapping[str, Score]:
    from a2i.metrics.pictures.scoring import blamed

    return blamed(inputs)


def _counts(inputs: Inputs) -> dict[str, Score]:
    counts = inputs.counts
    empty = tuple(float(not words) for words in counts.clips["words"])
    of_clips = {"mean_words": counts.clips["words"], "empty": empty, **counts.clips}
    names = ("distinct", "vocabulary", "mean_words", "empty", "repetition", "first_word_valid")
    return {name: Score(getattr(counts, name), of_clips.get(name)) for name in names}


_CURVES = "caption metrics"

register(
    Metric(
        "bertscore",
        _bertscore,
        (
            Value("bertscore_precision", "BERTScore P", panel="BERTScore", place=2),
            Value("bertscore_recall", "BERTScore R", panel="BERTScore", place=2),
            Value("bertscore_f1", "BERTScore F1", panel="BERTScore", place=2, shown=1),
        ),
        needs=("bertscore",),
    )
)
for _n in range(1, 5):
    _value = Value(f"bleu_{_n}", f"BLEU-{_n}", place=1, panel=_CURVES if _n == 4 else None)
    register(Metric(f"bleu_{_n}", _bleu(_n), (_value,)))
register(
    Metric(
        "rouge_l",
        lambda inputs: _of_tokens(rouge_l, inputs),
        (Value("rouge_l", "ROUGE-L", place=1, panel=_CURVES, shown=5),),
    )
)
register(
    Metric(
        "cider_d",
        lambda inputs: _of_tokens(cider_d, inputs),
        (Value("cider_d", "CIDEr-D", place=1, panel=_CURVES, shown=2),),
    )
)
register(
    Metric(
        "meteor",
        lambda inputs: _of_tokens(meteor, inputs),
        (Value("meteor", "METEOR", place=1, panel=_CURVES, shown=4),),
    )
)
register(Metric("spice", lambda inputs: _of_tokens(spice, inputs), (Value("spice", "SPICE", place=3),)))
register(Metric("spider", _spider, (Value("spider", "SPIDEr", place=3),)))
register(Metric("spider_fl", _spider_fl, (Value("spider_fl", "SPIDEr-FL", place=3),)))
register(Metric("fense", _fense, (Value("fense", "FENSE", place=3),)))
register(
    Metric(
        "clip_score",
        _clip_score,
        (
            Value("clip_score", "CLIPScore", shown=3),
            Value("ref_clip_score", "RefCLIPScore"),
            Value("clip_score_references", "CLIPScore with references"),
        ),
        needs=("picture", "clip"),
    )
)
register(
    Metric(
        "audio_image_similarity",
        _audio_image_similarity,
        (Value("audio_image_similarity", "sound-picture similarity"),),
        needs=("picture", "sound", "clip", "clap"),
    )
)
register(
    Metric(
        "blame",
        _blame,
        (
            Value("blame_predicted", "picture of the caption, with references"),
            Value("blame_human", "picture of a person's caption, with references"),
            Value("blame_chance", "the same, with other clips' references", direction="min"),
            Value("blame_captioner", "lost by the captioner", direction="min"),
            Value("blame_conveyed", "conveyed by the painter"),
        ),
        needs=("picture", "clip"),
    )
)
register(
    Metric(
        "captions",
        _counts,
        (
            Value("distinct", "distinct captions", "share", column=None, at_validation=False),
            Value("vocabulary", "vocabulary", "words", direction=None, column=None),
            Value("mean_words", "words a caption", direction=None, column="words", place=5, listed=False),
            Value("empty", "empty captions", "share", direction="min", column=None, at_validation=False),
            Value("repetition", "repetition", "share", direction="min", place=4),
            Value("first_word_valid", "first word valid", "share", place=4),
        ),
        always=True,
    )
)
