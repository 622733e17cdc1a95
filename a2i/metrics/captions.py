"""Captions scored by any of the metrics that captions and references are enough for; BLEU, ROUGE-L and CIDEr-D are here.

The numbers are those of the COCO caption tools ("Microsoft COCO Captions", arXiv:1504.00325), which published captioning
scores come from. BLEU, ROUGE-L, CIDEr-D and FENSE's two models run through aac-metrics 0.5.4; METEOR and SPICE are the
Java programs that pycocoevalcap 1.2 carries, started here because aac-metrics refuses a Java newer than 13.

What cannot be computed on a machine is missing, with the reason and how to get it, and never 0. Nothing here asks the
network.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from a2i.metrics.inputs import Inputs
from a2i.metrics.parts import MissingError, Parts, Score, Tally, Tokens, library
from a2i.metrics.registry import compute, registered


def score_captions(
    predicted: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] | None = None,
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
        metrics: which to compute, of those that captions and references are enough for; None for all.
        parts: Java, and models; None for the defaults.

    Raises:
        ValueError: there is no caption, the lists differ in length, a clip has no reference with a word in it, something
            is not a string, or a metric is unknown.
    """
    known = [metric.name for metric in registered() if metric.at_validation]
    wanted = known if metrics is None else metrics
    unknown = [wanted] if isinstance(wanted, str) else sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"got the metrics {unknown}; expected a list of some of {', '.join(known)}")
    inputs = Inputs(predicted, references, parts or Parts())
    return {name: value for wish in wanted for name, value in compute(wish, inputs).items()}


def bleu(n: int, tokens: Tokens, parts: Parts) -> Score:
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
    tally = Tally(counts, partial(_bleu_of, n))
    return Score.of(scores[f"bleu_{n}"], settings, corpus[f"bleu_{n}"], tally)


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


def rouge_l(tokens: Tokens, parts: Parts) -> Score:
    from aac_metrics.functional.rouge_l import rouge_l as compute_rouge_l

    corpus, clips = compute_rouge_l(tokens.predicted, tokens.references, beta=1.2)
    return Score.of(clips["rouge_l"], {**library("aac-metrics"), "beta": 1.2}, corpus["rouge_l"])


def cider_d(tokens: Tokens, parts: Parts) -> Score:
    from aac_metrics.functional.cider_d import cider_d as compute_cider_d

    if len(tokens.predicted) < 2:
        raise MissingError("CIDEr-D weighs a word by how many clips have it: score at least two clips together")
    corpus, clips = compute_cider_d(tokens.predicted, tokens.references, n=4, sigma=6.0)
    settings = {"n": 4, "sigma": 6.0, "document_frequencies": f"references of these {len(tokens.references)} clips"}
    return Score.of(clips["cider_d"], {**library("aac-metrics"), **settings}, corpus["cider_d"])
