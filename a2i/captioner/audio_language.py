"""Captioners that need no training: large audio-language models, asked for a caption.

Qwen2-Audio (Chu et al. 2024), the thinker of Qwen2.5-Omni (Xu et al. 2025) and Audio Flamingo 3 (Goel et al. 2025), as
`transformers` has them: nothing that comes with the weights is run, and no template that comes with them is filled in: the
prompt stands whole in the settings.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from a2i import hub
from a2i.captioner.decoding import Decoding
from a2i.captioner.pretrained import PretrainedCaptioner, check_dtype, loaded

# By the type that config.json names. Of Qwen2.5-Omni the thinker alone: what it has besides speaks.
MODELS = {
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "audioflamingo3": "AudioFlamingo3ForConditionalGeneration",
}
ENDS = ("<|im_end|>", "<|endoftext|>")  # of a turn and of a text; not every model's settings name both
SHORTEST = 0.1  # seconds: of less the models would make no state at all; shorter clips are filled up with silence
LONGEST = 60.0  # seconds: one sentence describes one clip, though some models hear minutes


class AudioLanguageCaptioner(PretrainedCaptioner):
    """Captions clips with a model from the Hub or a local folder in its format."""

    prompt_ids = "input_ids"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        prompt: str = "<|audio_bos|><|AUDIO|><|audio_eos|>Generate the caption in English:",
        dtype: str = "auto",
        load_in_4bit: bool = False,
        licence: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load the model; from the Hub it is downloaded once.

        Args:
            model: Hub id, or local folder with the model and its processor.
            revision: branch, tag or commit on the Hub.
            prompt: what the model goes on from; the sound stands where its audio token is, `<|AUDIO|>` or `<sound>`.
            dtype: of the weights: `float32`, `bfloat16`, `float16`, or `auto` for what they are kept in.
            load_in_4bit: keep the weights of linear layers in 4 bits (NF4), a quarter of the memory; on CUDA, by bitsandbytes.
            licence: of the weights.
            device: to run on.

        Raises:
            ValueError: the model can't be had here, or is none of `MODELS`; the prompt leaves no place for the sound; or there
                is no CUDA device or no bitsandbytes for 4 bits.
        """
        check_dtype(dtype)
        more = _in_4bit(device) if load_in_4bit else {}
        failure = (
            f"{model}: could not load an audio-language model (…); expected a Hub id such as Qwen/Qwen2-Audio-7B (17 GB,"
            " needs the network once) or, with captioner.model=FOLDER, a local folder with config.json, weights and processor"
        )
        self.processor, whole = loaded(lambda: _load(model, revision, {"dtype": dtype, **more}), failure)
        token = self.processor.audio_token
        if prompt.count(token) != 1:
            raise ValueError(f"got prompt={prompt!r}; expected {token} in it, once")
        self.prompt = prompt
        tokenizer = self.processor.tokenizer
        # Generation goes on from a prompt's end, so that shorter ones are filled up in front.
        tokenizer.padding_side = "left"
        super().__init__(model, licence, whole, tokenizer, Decoding(num_beams=1), device)
        self.model.generation_config.eos_token_id = _ends(tokenizer, self.model.generation_config.eos_token_id)

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that the model hears, as its processor says."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that is captioned as one: 30 for Qwen2-Audio, 60 for the others, as published."""
        hears = getattr(self.processor, "max_audio_len", self.processor.feature_extractor.chunk_length)
        return min(float(hears), LONGEST)

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """The prompt's tokens (B, L) with a place for each state, log-mel, and their masks."""
        shortest = round(SHORTEST * self.sampling_rate)
        inputs = self.processor(
            text=[self.prompt] * len(waveforms),
            audio=[np.pad(waveform, (0, max(0, shortest - len(waveform)))) for waveform in waveforms],
            sampling_rate=self.sampling_rate,
            text_kwargs={"padding": True},  # not of the sound, which each model wants filled up to its own length
            return_tensors="pt",
        ).to(self.device)
        return {**inputs, "input_features": inputs["input_features"].to(self.model.dtype)}


class OmniEar:
    """What Qwen2.5-Omni's processor does with sound and text; the whole one wants torchvision for pictures and films."""

    audio_token = "<|AUDIO|>"  # noqa: S105 (no secret)

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        self.feature_extractor, self.tokenizer = feature_extractor, tokenizer

    def __call__(
        self,
        text: Sequence[str],
        audio: Sequence[np.ndarray],
        sampling_rate: int,
        text_kwargs: dict[str, Any],
        return_tensors: str,
    ) -> transformers.BatchFeature:
        """A prompt and a clip for each of B → token ids (B, L), one for each state of the audio tower, log-mel, and masks."""
        heard = self.feature_extractor(
            list(audio),
            sampling_rate=sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors=return_tensors,
        )
        frames = heard["attention_mask"].sum(dim=1)
        states = ((frames - 1) // 2 - 1) // 2 + 1  # a convolution and a mean, each of stride 2
        places = [
            prompt.replace(self.audio_token, self.audio_token * count)
            for prompt, count in zip(text, states.tolist(), strict=True)
        ]
        return transformers.BatchFeature(
            {
                **self.tokenizer(places, return_tensors=return_tensors, **text_kwargs),
                "input_features": heard["input_features"],
                "feature_attention_mask": heard["attention_mask"],
            }
        )


def _load(model: str, revision: str | None, more: dict[str, Any]) -> tuple[Any, Any]:
    where: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    hub.look_up(model, revision, "config.json")
    kind = transformers.AutoConfig.from_pretrained(model, **where).model_type
    if kind not in MODELS:
        raise ValueError(f"it is a model of type {kind}, not one of {', '.join(MODELS)}")
    if kind == "qwen2_5_omni":
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(model, **where)
        processor: Any = OmniEar(extractor, transformers.AutoTokenizer.from_pretrained(model, **where))
    else:
        processor = transformers.AutoProcessor.from_pretrained(model, **where)
    return processor, getattr(transformers, MODELS[kind]).from_pretrained(model, weights_only=True, **more, **where)


def _ends(tokenizer: Any, own: int | list[int] | None) -> list[int]:
    """Ids of the tokens that end a caption, those that the model's settings name first."""
    vocabulary = tokenizer.get_vocab()
    ids = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, *map(vocabulary.get, ENDS)]
    return list(dict.fromkeys(each for each in ids if each is not None))


def _in_4bit(device: str | torch.device) -> dict[str, Any]:
    if (kind := torch.device(device).type) != "cuda":
        raise ValueError(f"got captioner.load_in_4bit=true on {kind}; expected it on a CUDA device, or false")
    if find_spec("bitsandbytes") is None:
        raise ValueError("got captioner.load_in_4bit=true, and bitsandbytes is not installed: pip install 'a2i[4bit]'")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": settings, "device_map": {"": device}}
