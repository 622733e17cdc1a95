"""Teaches the decoder to write from keywords: from sentences alone, before any sound is heard.

A labelled recording says what is heard, and not how people say it; tens of thousands of captions of other recordings do. Where
the decoder attends to keywords alone, it can learn from these.
"""

import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.training.augment import join_captions
from a2i.training.labels import label_shares

STEPS, BATCH = 3_000, 64
RATE, DECAY, WARMUP, SMOOTHING = 2e-3, 0.05, 0.05, 0.1
SEVERAL, JOINED = 0.25, 0.35  # shares of sentences about several kinds, and of those that are two, joined to one
Pair = tuple[frozenset[str], str]  # what is heard, and how someone says it


def learn_to_write(
    captioner: Captioner,
    pairs: Sequence[Pair],
    seed: int,
    device: str | torch.device = "cpu",
    steps: int | None = None,
    precision: str = "32-true",
) -> bool:
    """Teach the decoder, and the keywords' states that it attends to.

    Kinds with few sentences come more often than their share: by the square root of their number. Some sentences are joined
    from two of different kinds, so that every pair can be said.

    Args:
        captioner: whose bridge is a `KeywordBridge` with an inner bridge `none`; it comes back on the CPU.
        pairs: keywords and sentence; those with other keywords are left out.
        seed: of the order, and of dropout.
        device: to learn on.
        steps: batches; None for `STEPS`.
        precision: as Lightning's trainer has it; `bf16-mixed` is used, of the others float32.

    Returns:
        whether there was something to learn.

    Raises:
        ValueError: the decoder attends to sound, which sentences don't have.
    """
    from rich.progress import track

    bridge = captioner.bridge
    if not isinstance(bridge, KeywordBridge) or bridge.settings["inner"] != "none":
        raise ValueError(
            "got sentences for a decoder that attends to sound; expected model.keywords=true and model.bridge=none, or"
            " sentences=null"
        )
    steps, known = steps or STEPS, set(bridge.names)
    pairs = [pair for pair in pairs if pair[0] and pair[0] <= known]
    if not pairs:
        return False
    print(f"learning to write from {len(pairs):,} sentences")
    captioner.to(device).train()
    learns = [*captioner.decoder.parameters(), *bridge.embedding.parameters()]
    optimizer = torch.optim.AdamW(learns, lr=RATE, weight_decay=DECAY)
    schedule: LambdaLR = get_scheduler("cosine", optimizer, round(WARMUP * steps), steps)
    draw = _Draw(pairs, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in track(range(steps), "learning to write", disable=not sys.stderr.isatty()):
            with torch.autocast(captioner.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = _loss(captioner, bridge, draw(BATCH))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learns, 1.0)
            optimizer.step()
            schedule.step()
    captioner.cpu().eval()
    return True


def _loss(captioner: Captioner, bridge: KeywordBridge, pairs: Sequence[Pair]) -> Tensor:
    shares = torch.tensor([label_shares(keywords, bridge.names) for keywords, _ in pairs], device=captioner.device)
    states = bridge.embedding(shares)[:, None]
    tokens = captioner.tokenizer.encode([sentence for _, sentence in pairs]).to(captioner.device)
    mask = torch.ones(len(pairs), 1, dtype=torch.bool, device=captioner.device)
    clips = torch.arange(len(pairs), device=captioner.device)
    loss, _ = captioner.loss_from_states(states, mask, tokens, clips, SMOOTHING)
    return loss


class _Draw:
    """Draws batches of pairs: sentences about one kind, about several, and two about one that are joined."""

    def __init__(self, pairs: Sequence[Pair], seed: int) -> None:
        self.single = _Weighted([pair for pair in pairs if len(pair[0]) == 1])
        self.several = _Weighted([pair for pair in pairs if len(pair[0]) > 1])
        self.random, self.rng = random.Random(seed), np.random.default_rng(seed)

    def __call__(self, count: int) -> list[Pair]:
        return [self._one() for _ in range(count)]

    def _one(self) -> Pair:
        place = self.random.random()
        if not self.single.pairs or (place < SEVERAL and self.several.pairs):
            return self.several.draw(self.random)
        first, second = self.single.draw(self.random), self.single.draw(self.random)
        if place > 1 - JOINED and first[0] != second[0]:
            return first[0] | second[0], join_captions(first[1], second[1], self.rng)
        return first


class _Weighted:
    def __init__(self, pairs: list[Pair]) -> None:
        counts = Counter(keywords for keywords, _ in pairs)
        self.pairs, self.sums = pairs, list(accumulate(counts[keywords] ** -0.5 for keywords, _ in pairs))

    def draw(self, chance: random.Random) -> Pair:
        return chance.choices(self.pairs, cum_weights=self.sums)[0]
