"""The script that one would write from the paper with plain transformers, as functions: what the benchmarks compare with.

No straw man: the libraries' own fast paths (SDPA attention, the fast resampler that librosa uses, inference mode), the
corrections that make it train (BOS and EOS, loss on no padding). What it leaves out is what the paper and the libraries'
examples leave out: every file is decoded and resampled at every step, features are extracted a clip at a time, a caption is
a training example of its own, captions and pictures are made one at a time, and `bert-score` begins from nothing.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ASTFeatureExtractor, ASTModel, GPT2LMHeadModel, GPT2Tokenizer

Pair = tuple[Path, str]  # a sound file and one of its captions


def load(path: Path) -> np.ndarray:
    """(samples,) float32 at 16 kHz, clipped at full scale as a2i clips, so that both hear the same."""
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.clip(soxr.resample(waveform.mean(axis=1), rate, 16_000), -1.0, 1.0)


def extract(extractor: ASTFeatureExtractor, paths: Sequence[Path]) -> Tensor:
    """(B, 1024, 128)."""
    return torch.cat([extractor(load(path), sampling_rate=16_000, return_tensors="pt").input_values for path in paths])


class Captioner(nn.Module):
    """AST's states, attended to by GPT-2."""

    def __init__(self, ast: str | Path, gpt2: str | Path, freeze_encoder: bool = False) -> None:
        super().__init__()
        self.extractor = ASTFeatureExtractor()
        self.encoder = ASTModel.from_pretrained(ast, attn_implementation="sdpa")
        self.decoder = GPT2LMHeadModel.from_pretrained(gpt2, add_cross_attention=True)
        self.tokenizer = GPT2Tokenizer.from_pretrained(gpt2)
        self.tokenizer.pad_token = self.tokenizer.eos_token
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Captioner":
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, paths: Sequence[Path]) -> Tensor:
        """(B, 1214, 768)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            return self.encoder(extract(self.extractor, paths).to(self.encoder.device)).last_hidden_state

    def loss(self, pairs: Sequence[Pair]) -> tuple[Tensor, int]:
        """Mean cross-entropy in nats per token, and the number of tokens."""
        ends = self.tokenizer.bos_token, self.tokenizer.eos_token
        tokens = self.tokenizer([f"{ends[0]}{text}{ends[1]}" for _, text in pairs], padding=True, return_tensors="pt")
        tokens = tokens.to(self.decoder.device)
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        states = self.encode([path for path, _ in pairs])
        output = self.decoder(**tokens, labels=labels, encoder_hidden_states=states)
        return output.loss, int((labels[:, 1:] != -100).sum())

    @torch.inference_mode()
    def caption(self, path: Path, num_beams: int, max_tokens: int) -> str:
        """One clip's."""
        start = torch.tensor([[self.tokenizer.bos_token_id]], device=self.decoder.device)
        ids = self.decoder.generate(
            start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=self.encode([path]),
            num_beams=num_beams,
            max_new_tokens=max_tokens,
            min_new_tokens=1,
            do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        return self.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def batches(pairs: Sequence[Pair], size: int = 8, seed: int = 0) -> Iterator[list[Pair]]:
    """Shuffled."""
    order = random.Random(seed).sample(list(pairs), len(pairs))
    yield from (order[first : first + size] for first in range(0, len(order), size))


def train_epoch(model: Captioner, optimizer: torch.optim.Optimizer, pairs: Sequence[Pair]) -> int:
    """One epoch in float32; returns the tokens that were learnt."""
    model.train()
    total = 0
    for batch in batches(pairs):
        optimizer.zero_grad()
        loss, tokens = model.loss(batch)
        loss.backward()
        optimizer.step()
        total += tokens
    return total


def bertscore(candidates: Sequence[str], references: Sequence[Sequence[str]], model: str, layers: int) -> Tensor:
    """F1 (N,), as a validation computes it."""
    from bert_score import score

    return score(list(candidates), [list(some) for some in references], model_type=model, num_layers=layers)[2]


def picture(pipeline: Any, caption: str, seed: int, **settings: Any) -> Image.Image:
    """One caption's, by a diffusers pipeline."""
    return pipeline(caption, generator=torch.Generator("cpu").manual_seed(seed), **settings).images[0]
