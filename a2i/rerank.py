"""Candidates in another order: a captioner proposes several captions of a clip, and something else chooses among them.

- `agreement`: minimum Bayes risk (Kumar and Byrne, NAACL 2004): first comes the candidate most like the others, each weighted
  by its probability. How alike two are is BERTScore's F1, with the offline sentence model unless another is given.
- `clap`: first comes the candidate most like the sound, by the cosine of CLAP's embeddings (Wu et al. 2023, arXiv:2211.06687).

The wrapped captioner searches wider than it is asked to; each candidate keeps its own confidence and probability.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # --help and a wrong setting need not wait for torch
    import torch

    from a2i.captioner.candidates import Candidate
    from a2i.captioner.decoding import Decoding
    from a2i.captioner.protocols import CaptionModel
    from a2i.metrics.bertscore import BERTScore
    from a2i.metrics.pictures.clap import CLAP

KINDS = ("agreement", "clap")
CLAP_MODEL = "laion/clap-htsat-unfused"
POOL = 12  # candidates to choose among, where no more are asked for

# Waveforms, their rate in Hz, and the candidates of each → a score of each candidate, the best the largest.
Score = Callable[[Sequence[np.ndarray], int, "Sequence[Sequence[Candidate]]"], list[list[float]]]


class Reranked:
    """A captioner whose candidates another measure puts in order: itself a `CaptionModel`."""

    def __init__(self, inner: "CaptionModel", score: Score, pool: int = POOL) -> None:
        """Wrap a captioner.

        Args:
            inner: which proposes the candidates.
            score: which orders them.
            pool: candidates to choose among, where no more are asked for.
        """
        self.inner, self._score, self._pool = inner, score, pool
        self.name, self.licence, self.decoding = inner.name, inner.licence, inner.decoding

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that it hears."""
        return self.inner.sampling_rate

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that it captions as one."""
        return self.inner.longest

    @property
    def device(self) -> "torch.device":
        """Where the captioner's weights are."""
        return self.inner.device

    def to(self, device: Any) -> "Reranked":
        """Move the captioner's weights to a device; what orders its candidates stays where it is."""
        self.inner.to(device)
        return self

    def decoding_with(self, **changes: Any) -> "Decoding":
        """See `CaptionModel`."""
        return self.inner.decoding_with(**changes)

    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> "list[list[Candidate]]":
        """See `CaptionModel`; the best by the measure stands first, and of equals the likelier one."""
        asked = self.decoding_with(**changes)
        found = self.inner.caption(waveforms, **enough(self.inner, changes, self._pool))
        scores = self._score(waveforms, self.sampling_rate, found)
        return [
            [clip[i] for i in sorted(range(len(clip)), key=lambda i: -score[i])][: asked.num_candidates]
            for clip, score in zip(found, scores, strict=True)
        ]


def by_agreement(bertscore: "BERTScore") -> Score:
    """Scores a candidate by its mean F1 against the clip's other candidates, each weighted by its probability.

    The probability is the geometric mean of the caption's tokens', so that a long caption counts no less than a short one.
    """

    def score(waveforms: Sequence[np.ndarray], rate: int, clips: "Sequence[Sequence[Candidate]]") -> list[list[float]]:
        pairs = [(n, i, j) for n, clip in enumerate(clips) for i, j in combinations(range(len(clip)), 2)]
        f1 = bertscore.score(
            [clips[n][i].caption for n, i, _ in pairs], [[clips[n][j].caption] for n, _, j in pairs]
        ).f1.tolist()
        alike = [np.zeros((len(clip), len(clip))) for clip in clips]
        for (n, i, j), value in zip(pairs, f1, strict=True):
            alike[n][i, j] = alike[n][j, i] = value
        return [_mean_of_others(each, clip) for each, clip in zip(alike, clips, strict=True)]

    return score


def _mean_of_others(alike: np.ndarray, clip: "Sequence[Candidate]") -> list[float]:
    """Weighted means of the rows of (N, N), without the diagonal, which is 0."""
    if len(clip) == 1:
        return [0.0]
    logs = np.array([candidate.log_probability for candidate in clip])
    # Twice the same caption could not tell it from the rest, so that a candidate has no say on itself.
    weights = np.where(np.eye(len(clip), dtype=bool), 0.0, np.exp(logs - logs.max())[None, :] + 1e-12)
    return list((alike * weights).sum(axis=1) / weights.sum(axis=1))


def by_clap(clap: "CLAP") -> Score:
    """Scores a candidate by the cosine of its embedding and the sound's."""

    def score(waveforms: Sequence[np.ndarray], rate: int, clips: "Sequence[Sequence[Candidate]]") -> list[list[float]]:
        sounds = clap.embed_sounds(waveforms, rate)
        return [
            (clap.embed_texts([candidate.caption for candidate in clip]).vectors @ sound).tolist()
            for clip, sound in zip(clips, sounds, strict=True)
        ]

    return score


def reranked(
    captioner: "CaptionModel", kind: str | None, model: str | None = None, device: "torch.device | str | None" = None
) -> "CaptionModel":
    """A captioner with its candidates reranked; as it is for None.

    Args:
        captioner: which proposes the candidates.
        kind: `agreement`, `clap` or None.
        model: Hub id or folder of the sentence model or of the CLAP; None for the offline sentence model, or for
            `CLAP_MODEL`, which is downloaded once.
        device: where that model runs; None for CUDA where there is one, else the CPU.

    Raises:
        ValueError: there is no such kind, or no such CLAP model.
        ImportError: the offline sentence model is not installed.
        FileNotFoundError: there is no such sentence model.
    """
    check(kind, model)
    if kind is None:
        return captioner
    if kind == "clap":
        from a2i.metrics.pictures.clap import CLAP

        return Reranked(captioner, by_clap(CLAP(model or CLAP_MODEL, device=device)))
    from a2i.metrics.bertscore import BERTScore

    try:
        return Reranked(captioner, by_agreement(BERTScore(model, device=device)))
    except ImportError as error:
        raise ImportError(
            "rerank=agreement needs a sentence model, and the offline one is not installed: pip install 'a2i[eval]', or give"
            " rerank_model=: a Hub id or a folder"
        ) from error


def enough(captioner: "CaptionModel", decoding: dict[str, Any], candidates: int) -> dict[str, Any]:
    """Changes of the decoding settings, with as many candidates as are needed, and the beams for them."""
    now = captioner.decoding_with(**decoding)
    if now.num_candidates >= candidates:
        return decoding
    beams = {} if now.do_sample else {"num_beams": max(now.num_beams, candidates)}
    return decoding | {"num_candidates": candidates} | beams


def check(kind: str | None, model: str | None) -> None:
    """Look at the settings before anything is loaded.

    Raises:
        ValueError: they don't fit.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"got rerank={kind}; expected null or one of {', '.join(KINDS)}")
    if kind is None and model is not None:
        raise ValueError(f"got rerank_model={model} without rerank=; expected both, or rerank={'|'.join(KINDS)} alone")
