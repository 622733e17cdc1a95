"""The classic caption metrics behind one interface: BLEU, ROUGE-L, CIDEr-D, METEOR, SPICE, SPIDEr, SPIDEr-FL, FENSE.

The numbers are those of the COCO caption tools ("Microsoft COCO Captions", arXiv:1504.00325), which published captioning
scores come from. BLEU, ROUGE-L, CIDEr-D and FENSE's two models run through aac-metrics 0.5.4; METEOR and SPICE are the
Java programs that pycocoevalcap 1.2 carries, started here because aac-metrics refuses a Java newer than 13.

What cannot be computed on a machine is missing, with the reason and how to get it, and never 0. Nothing here asks the
network.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2i.metrics.fense import fluency_error, penalised, sentence_similarity
from a2i.metrics.java import meteor, spice, treebank
from a2i.metrics.parts import INSTALL, MissingError, Parts, Result, Tally, Tokens, library

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
ALL = (*BLEU, "rouge_l", "cider_d", "meteor", "spice", "spider", "spider_fl", "fense")


@dataclass(frozen=True)
class Score:
    """One metric of N captions: the numbers, or why there are none."""

    corpus: float | None  # of all captions together
    clips: tuple[float, ...] | None  # N numbers, one a caption
    missing: str | None  # one line: why there are no numbers, and how to get them
    settings: dict[str, Any]  # what made them: plain values for a report or a log
    tally: Tally | None = field(default=None, compare=False, repr=False)  # of BLEU and METEOR


def score_captions(
    predicted: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] = ALL,
    parts: Parts | None = None,
) -> dict[str, Score]:
    """Score captions against their references, one or more each; their number may differ from clip to clip.

    - `bleu_1` … `bleu_4` (Papineni et al. 2002), in [0, 1]. Corpus: from the counts and lengths of all captions together;
      it is *not* the mean of the clips. Clip: of this caption alone, with the COCO tools' smoothing.
    - `rouge_l` (Lin 2004), in [0, 1]. Corpus: the mean of the clips.
    - `cider_d` (arXiv:1411.5726), in [0, 10]; the COCO tools call it CIDEr. Corpus: the mean of the clips. A word weighs
      by how many of the clips scored together have it in their references, so a clip's score is not to be compared with
      one from another set.
    - `meteor` (Denkowski & Lavie 2014; version 1.5), in [0, 1]. Corpus: from the counts of all captions together.
    - `spice` (arXiv:1607.08822), in [0, 1]. Corpus: the mean of the clips.
    - `spider` (arXiv:1612.00370), in [0, 5.5]: the mean of `cider_d` and `spice`.
    - `spider_fl`: `spider`, where a caption with a fluency error keeps a tenth. Corpus: the mean of the clips.
    - `fense` (arXiv:2110.04684), in [-1, 1]: mean cosine of the caption's and its references' sentence embeddings, where
      a caption with a fluency error keeps a tenth. Corpus: the mean of the clips.

    All get what the Penn Treebank tokenizer, a Java program, makes of a caption: lower case, no punctuation. Without Java
    a rule stands in for it; `settings["tokenizer"]` is then 'fallback', not 'ptb'. An empty caption is scored like any
    other. A reference without a word in it is left out.

    Args:
        predicted: N captions, '' where there is none.
        references: N lists of reference captions.
        metrics: which to compute, of `ALL`.
        parts: Java, and models; None for the defaults.

    Raises:
        ValueError: there is no caption, the lists differ in length, a clip has no reference with a word in it, something
            is not a string, or a metric is unknown.
    """
    _check(predicted, references, metrics)
    parts = parts or Parts()
    tokens = _tokenize(predicted, references, parts)
    scores: dict[str, Score] = {}
    return {name: _score(name, tokens, parts, scores) for name in metrics}


def _score(name: str, tokens: Tokens, parts: Parts, scores: dict[str, Score]) -> Score:
    """A metric, from `scores` if it is there; otherwise it is there afterwards."""
    if name in scores:
        return scores[name]
    try:
        if name in _DERIVED:
            needed, formula = _DERIVED[name]
            found = []
            for other in needed:
                found.append(_score(other, tokens, parts, scores))
                if reason := found[-1].missing:
                    raise MissingError(reason)
            clips = formula(*(np.array(score.clips) for score in found))
            settings = {key: value for score in found for key, value in score.settings.items()}
            result = Result(clips.mean(), clips, settings)
        else:
            result = _COMPUTE[name](tokens, parts)
        corpus, clips = float(result.corpus), tuple(map(float, result.clips))
        scores[name] = Score(corpus, clips, None, tokens.settings | result.settings, result.tally)
    except MissingError as reason:
        scores[name] = Score(None, None, str(reason), dict(tokens.settings))
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        scores[name] = Score(None, None, f"{package} is not installed: {INSTALL}", dict(tokens.settings))
    return scores[name]


def _check(predicted: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str]) -> None:
    if isinstance(predicted, str) or len(predicted) != len(references) or not len(predicted):
        raise ValueError(
            f"got {len(predicted)} captions ({type(predicted).__name__}) and {len(references)} lists of references; "
            "expected a list of captions, not empty, and as many lists of references"
        )
    for i, (caption, group) in enumerate(zip(predicted, references, strict=True)):
        if isinstance(group, str) or not all(isinstance(text, str) for text in (caption, *group)):
            raise ValueError(
                f"clip {i}: got {caption!r} with the references {group!r}; expected a string ('' where the caption is "
                "missing) and a list of strings"
            )
    unknown = [metrics] if isinstance(metrics, str) else sorted(set(metrics) - set(ALL))
    if unknown:
        raise ValueError(f"got the metrics {unknown}; expected a list of some of {', '.join(ALL)}")


# --- Tokens


def tokenize_without_java(sentence: str) -> str:
    """What the Penn Treebank tokenizer makes of a caption, by a rule: lower case, a space between tokens, no punctuation.

    The same tokens on all 19,690 captions of Clotho v1. Not the same for brackets, abbreviations with a full stop
    ('e.g.'), and slang that the Treebank takes apart ('gonna').
    """
    text = re.sub(r"\bcannot\b", "can not", sentence.lower().replace("\u2019", "'"))
    text = re.sub(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))(?!\w)", r" \1", text)
    return " ".join(re.findall(r"n't(?!\w)|'(?:s|re|ve|ll|d|m)(?!\w)|\w+(?:[-'&/.,]\w+)*|[%$&#@*+=~]", text))


def _tokenize(predicted: Sequence[str], references: Sequence[Sequence[str]], parts: Parts) -> Tokens:
    # The Java program would take a form feed or a line separator for a caption's end, and shift all that follow.
    texts = [" ".join(text.split()) for group in (predicted, *references) for text in group]
    settings = {"tokenizer": "ptb"}
    try:
        tokenized = treebank(texts, parts)
    except MissingError as reason:
        settings = {"tokenizer": "fallback", "tokenizer_reason": str(reason)}
        tokenized = [tokenize_without_java(text) for text in texts]
    rest = iter(tokenized)
    captions = [next(rest) for _ in predicted]
    groups = [[text for text in [next(rest) for _ in group] if text] for group in references]
    for i, group in enumerate(groups):
        if not group:
            raise ValueError(f"clip {i}: got the references {references[i]!r}; expected one with a word in it")
    return Tokens(captions, groups, settings)


# --- Metrics of tokens


def _bleu(n: int, tokens: Tokens, parts: Parts) -> Result:
    from aac_metrics.functional.bleu import _bleu_compute, _bleu_update

    clips, references = _bleu_update(tokens.predicted, tokens.references, n, str.split, [], [])
    corpus, scores = _bleu_compute(clips, references, n=n, option="closest")
    lengths = [
        (clip["testlen"], min((abs(length - clip["testlen"]), length) for length in clip["reflen"])[1])
        for clip in clips
    ]
    counts = np.array(
        [[*clip["correct"], *clip["guess"], *pair] for clip, pair in zip(clips, lengths, strict=True)], float
    )
    settings = {**library("aac-metrics"), "reference_length": "closest"}
    return Result(corpus[f"bleu_{n}"], scores[f"bleu_{n}"], settings, Tally(counts, partial(_bleu_of, n)))


def _bleu_of(n: int, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU of added counts.

    Args:
        n: the longest n-grams that count.
        sums: (S, 2n + 2): right n-grams, n-grams, words, words of the references closest in length.
    """
    # The COCO tools' way round a division by zero.
    precisions = (sums[:, :n] + 1e-15) / (sums[:, n : 2 * n] + 1e-9)
    brevity = (sums[:, -2] + 1e-15) / (sums[:, -1] + 1e-9)
    scores: NDArray[np.float64] = precisions.prod(axis=1) ** (1 / n) * np.exp(np.minimum(0, 1 - 1 / brevity))
    return scores


def _rouge_l(tokens: Tokens, parts: Parts) -> Result:
    from aac_metrics.functional.rouge_l import rouge_l

    corpus, clips = rouge_l(tokens.predicted, tokens.references, beta=1.2)
    return Result(corpus["rouge_l"], clips["rouge_l"], {**library("aac-metrics"), "beta": 1.2})


def _cider_d(tokens: Tokens, parts: Parts) -> Result:
    from aac_metrics.functional.cider_d import cider_d

    if len(tokens.predicted) < 2:
        raise MissingError("CIDEr-D weighs a word by how many clips have it: score at least two clips together")
    corpus, clips = cider_d(tokens.predicted, tokens.references, n=4, sigma=6.0)
    settings = {"n": 4, "sigma": 6.0, "document_frequencies": f"references of these {len(tokens.references)} clips"}
    return Result(corpus["cider_d"], clips["cider_d"], {**library("aac-metrics"), **settings})


_COMPUTE: dict[str, Callable[[Tokens, Parts], Result]] = {
    **{name: partial(_bleu, n) for n, name in enumerate(BLEU, start=1)},
    "rouge_l": _rouge_l,
    "cider_d": _cider_d,
    "meteor": meteor,
    "spice": spice,
    "sentence_similarity": sentence_similarity,
    "fluency_error": fluency_error,
}
_DERIVED: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "spider": (("cider_d", "spice"), lambda cider_d, spice: (cider_d + spice) / 2),
    "spider_fl": (("spider", "fluency_error"), penalised),
    "fense": (("fluency_error", "sentence_similarity"), lambda error, score: penalised(score, error)),
}
