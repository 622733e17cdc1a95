"""A captioner that needs no training: a large audio-language model, asked for a caption.

Qwen2-Audio (Chu et al. 2024), as `transformers` has it: nothing that comes with the weights is run.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2i import hub
from a2i.audio.waveforms import check
from a2i.captioner.candidates import Candidate, best_first, distinct
from a2i.captioner.decoding import Decoding

MODEL_TYPE = "qwen2_audio"
SHORTEST = 0.1  # seconds: of less the model would make no state at all; shorter clips are filled up with silence


class AudioLanguageCaptioner:
    """Captions clips as `Captioner` does, with a model from the Hub or a local folder in its format."""

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
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(f"got dtype={dtype!r}; expected auto, float32, bfloat16 or float16")
        self.name, self.prompt, self.licence = model, prompt, licence
        self.processor, self.model = _load(model, revision, dtype)
        self.model.to(device).eval()
        if prompt.count(self.processor.audio_token) != 1:
            raise ValueError(f"got prompt={prompt!r}; expected {self.processor.audio_token} in it, once")
        # Generation goes on from a prompt's end, so that shorter ones are filled up in front.
        self.processor.tokenizer.padding_side = "left"
        self.decoding = Decoding(num_beams=1)

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that the model hears, as its processor says."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str | torch.device) -> "AudioLanguageCaptioner":
        """Move the weights to a device."""
        self.model.to(device)
        return self

    def decoding_with(self, **changes: Any) -> Decoding:
        """The decoding settings, some of them changed; None leaves one as it is.

        Raises:
            ValueError: a name is unknown, a value does not fit, or something is asked for that only captioner folders have.
        """
        decoding = self.decoding.with_changes(**changes)
        if decoding.cleaning != "none":
            raise ValueError(
                f"got cleaning={decoding.cleaning} for {self.name}, which has no training captions to know words from;"
                " expected text.cleaning=none"
            )
        if decoding.precision != "float32":
            raise ValueError(
                f"got decoding.precision={decoding.precision} for {self.name}, whose precision is its weights'; expected"
                " captioner.dtype=bfloat16"
            )
        return decoding

    @torch.no_grad()
    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> list[list[Candidate]]:
        """Captions of a batch of clips; what is longer than the model hears at a time, 30 s as published, is cut.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at `sampling_rate`.
            **changes: of the decoding settings, by name.

        Returns:
            for each clip its candidates, the best first, no two alike: at least one, at most `num_candidates`.
        """
        decoding = self.decoding_with(**changes)
        check(waveforms, self.sampling_rate)
        shortest = round(SHORTEST * self.sampling_rate)
        inputs = self.processor(
            text=[self.prompt] * len(waveforms),
            audio=[np.pad(waveform, (0, max(0, shortest - len(waveform)))) for waveform in waveforms],
            sampling_rate=self.sampling_rate,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        inputs["input_features"] = inputs["input_features"].to(self.model.dtype)
        config = self._generation_config(decoding)
        output = self.model.generate(**inputs, generation_config=config)
        ids = output.sequences[:, inputs["input_ids"].shape[1] :]
        scores = self._log_probabilities(output, ids, config.eos_token_id)
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f"got NaN or infinite numbers as the captions' probabilities of {self.name}; expected finite ones: try"
                " captioner.dtype=float32"
            )
        texts = self.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        found = [
            Candidate(" ".join(text.split()), score, math.exp(score), score)
            for text, score in zip(texts, scores, strict=True)
        ]
        count = decoding.num_candidates
        clips = [found[first : first + count] for first in range(0, len(found), count)]
        if decoding.do_sample:
            clips = [best_first(clip) for clip in clips]
        return [distinct(clip) for clip in clips]

    def _generation_config(self, decoding: Decoding) -> Any:
        from transformers import GenerationConfig

        ends = self.model.generation_config.eos_token_id
        ends = self.processor.tokenizer.eos_token_id if ends is None else ends
        ends = ends if isinstance(ends, list) else [ends]
        return GenerationConfig(
            eos_token_id=ends,
            pad_token_id=ends[0],
            max_new_tokens=decoding.max_tokens + 1,
            min_new_tokens=1,
            num_beams=decoding.num_beams,
            num_return_sequences=decoding.num_candidates,
            do_sample=decoding.do_sample,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            return_dict_in_generate=True,
            output_logits=True,
            **({"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.do_sample else {}),
            **({"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}),
        )

    def _log_probabilities(self, output: Any, ids: Tensor, ends: list[int]) -> list[float]:
        """Of (C × n, L) new ids the mean log-probability of the tokens up to the first end."""
        beams = getattr(output, "beam_indices", None)
        chosen = self.model.compute_transition_scores(output.sequences, output.logits, beams, normalize_logits=True)
        end = torch.isin(ids, torch.tensor(ends, device=ids.device)).long()
        real = (end.cumsum(dim=1) - end)[:, : chosen.shape[1]] == 0
        mean: Tensor = chosen.float().masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)
        return mean.tolist()


def _load(model: str, revision: str | None, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoProcessor, Qwen2AudioForConditionalGeneration

    where: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    try:
        hub.look_up(model, revision, "config.json")
        kind = AutoConfig.from_pretrained(model, **where).model_type
        if kind != MODEL_TYPE:
            raise ValueError(f"it is a model of type {kind}")
        processor = AutoProcessor.from_pretrained(model, **where)
        return processor, Qwen2AudioForConditionalGeneration.from_pretrained(model, dtype=dtype, **where)
    except (*hub.failures(), ValueError, RuntimeError) as error:
        raise ValueError(
            f"{model}: could not load a Qwen2-Audio ({hub.why(error)}); expected a Hub id such as"
            " Qwen/Qwen2-Audio-7B (17 GB, needs the network once) or, with captioner.model=FOLDER, a local folder with"
            " config.json, weights and processor"
        ) from error
