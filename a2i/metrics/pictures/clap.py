"""CLAP: sounds and sentences in one space."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import ClapFeatureExtractor, ClapModel

from a2i.metrics.pictures.towers import Tower


class CLAP(Tower):
    """Embeds sounds and sentences in one space: Wu et al. 2023 (arXiv:2211.06687)."""

    kind = "clap"
    model_class = ClapModel

    def _load_processor(self, source: str, revision: str | None) -> Any:
        return ClapFeatureExtractor.from_pretrained(source, revision=revision or "main")

    @property
    def sampling_rate(self) -> int:
        """Hz that the model hears, mostly 48,000."""
        return int(self.processor.sampling_rate)

    def embed_sounds(self, waveforms: Iterable[np.ndarray], rate: int) -> Tensor:
        """(N, D) float32 on the CPU, unit length, of N waveforms (samples,) float32 in [-1, 1] at `rate` Hz.

        They are resampled to the model's `sampling_rate`; from 16 kHz, nothing above 8 kHz is there to be heard. Of a sound
        longer than the model's window, mostly 10 s, transformers embeds pieces drawn at random. Here it is split
        into equal pieces, as few as fit, whose embeddings are averaged: all is heard, and the same every time.

        Raises:
            ValueError: a waveform has another shape, is empty or not finite; or the rate is not above 0.
        """
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        vectors: list[Tensor] = []
        window, count = self.processor.nb_max_samples, 0
        for i, waveform in enumerate(waveforms):
            if rate < 1 or np.ndim(waveform) != 1 or not len(waveform) or not np.isfinite(waveform).all():
                raise ValueError(
                    f"sound {i}: got shape {np.shape(waveform)} at {rate} Hz; expected (samples,), finite, at least one"
                )
            sound = np.asarray(waveform, dtype=np.float32)
            if rate != self.sampling_rate:
                sound = soxr.resample(sound, rate, self.sampling_rate)
            sound = sound if len(sound) else np.zeros(1, dtype=np.float32)  # less than a sample of the model's rate
            found = np.array_split(sound, -(-len(sound) // window))
            pieces += found
            owners += [i] * len(found)
            count = i + 1
            while len(pieces) >= self.batch_size:
                vectors.append(self._hear(pieces[: self.batch_size]))
                pieces = pieces[self.batch_size :]
        vectors += [self._hear(pieces)] if pieces else []
        total = torch.zeros(count, self.model.config.projection_dim)
        return normalize(total.index_add(0, torch.tensor(owners, dtype=torch.long), self._stack(vectors)), dim=-1)

    def _hear(self, pieces: Sequence[np.ndarray]) -> Tensor:
        features = self.processor(list(pieces), sampling_rate=self.sampling_rate, return_tensors="pt")
        # The processor calls one short sound of a batch, drawn at random, a long one: for training. None is.
        longer = torch.zeros(len(pieces), 1, dtype=torch.bool)
        return self._run("get_audio_features", input_features=features["input_features"].float(), is_longer=longer)
