"""A captioner that needs no training: a large audio-language model, asked for a caption.

Qwen2-Audio (Chu et al. 2024), as `transformers` has it: nothing that comes with the weights is run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2i.captioner.decoding import Decoding
from a2i.captioner.pretrained import PretrainedCaptioner, check_dtype, loaded

MODEL_TYPE = "qwen2_audio"
SHORTEST = 0.1  # seconds: of less the model would make no state at all; shorter clips are filled up with silence


class AudioLanguageCaptioner(PretrainedCaptioner):
    """Captions clips with a model from the Hub or a local folder in its format."""

    prompt_ids = "input_ids"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        prompt: str = "<|audio_bos|><|AUDIO|><|audio_eos|>Generate the caption in English:",
        dtype: str = "auto",
        licence: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load the model; from the Hub it is downloaded once.

        Args:
            model: Hub id, or local folder with the model and its processor.
            revision: branch, tag or commit on the Hub.
            prompt: what the model goes on from; the sound stands where `<|AUDIO|>` is.
            dtype: of the weights: `float32`, `bfloat16`, `float16`, or `auto` for what they are kept in.
            licence: of the weights.
            device: to run on.

        Raises:
            ValueError: the model can't be had here, or is no Qwen2-Audio; or the prompt leaves no place for the sound.
        """
        check_dtype(dtype)
        self.prompt = prompt
        failure = (
            f"{model}: could not load a Qwen2-Audio ({{}}); expected a Hub id such as Qwen/Qwen2-Audio-7B (17 GB, needs the"
            " network once) or, with captioner.model=FOLDER, a local folder with config.json, weights and processor"
        )
        self.processor, whole = loaded(lambda: _load(model, revision, dtype), failure)
        if prompt.count(self.processor.audio_token) != 1:
            raise ValueError(f"got prompt={prompt!r}; expected {self.processor.audio_token} in it, once")
        # Generation goes on from a prompt's end, so that shorter ones are filled up in front.
        self.processor.tokenizer.padding_side = "left"
        super().__init__(model, licence, whole, self.processor.tokenizer, Decoding(num_beams=1), device)

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that the model hears, as its processor says."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that the model hears as one: 30 as published."""
        return float(self.processor.feature_extractor.chunk_length)

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """The prompt's tokens (B, L) with a place for each state, log-mel, and their masks."""
        shortest = round(SHORTEST * self.sampling_rate)
        inputs = self.processor(
            text=[self.prompt] * len(waveforms),
            audio=[np.pad(waveform, (0, max(0, shortest - len(waveform)))) for waveform in waveforms],
            sampling_rate=self.sampling_rate,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        return {**inputs, "input_features": inputs["input_features"].to(self.model.dtype)}


def _load(model: str, revision: str | None, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoProcessor, Qwen2AudioForConditionalGeneration

    where: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    kind = AutoConfig.from_pretrained(model, **where).model_type
    if kind != MODEL_TYPE:
        raise ValueError(f"it is a model of type {kind}")
    processor = AutoProcessor.from_pretrained(model, **where)
    return processor, Qwen2AudioForConditionalGeneration.from_pretrained(model, dtype=dtype, weights_only=True, **where)
