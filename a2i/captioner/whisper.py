"""Captioners that are Whispers: speech recognition's Transformer, trained on to caption instead.

Kadlčík, Hájek, Kieslich and Winiecki 2023, "A Whisper transformer for audio captioning trained with synthetic captions and
transfer learning" (arXiv 2305.09690), weights `MU-NLPC/whisper-tiny-audio-captioning` and its kin. The architecture is
Whisper's own (Radford et al. 2022). One model learnt from three data sets, and a prefix tells the decoder whose captions to
write like.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2i import hub
from a2i.captioner.decoding import Decoding
from a2i.captioner.pretrained import PretrainedCaptioner, check_dtype, loaded

# The data sets that the models learnt from, and what stood before their captions. A caption's first word follows the space
# without one of its own: the two were tokenised apart.
STYLES = {"clotho": "clotho > caption: ", "audiocaps": "audiocaps > caption: ", "audioset": "audioset > keywords: "}
STARTS = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")  # stands before every style


class WhisperCaptioner(PretrainedCaptioner):
    """Captions clips with a Whisper of that paper, from the Hub or a local folder in its format."""

    prompt_ids = "decoder_input_ids"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        style: str = "clotho",
        dtype: str = "auto",
        licence: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load the model; from the Hub it is downloaded once.

        Args:
            model: Hub id, or local folder with the model, its tokenizer and its feature extractor.
            revision: branch, tag or commit on the Hub.
            style: of the captions: `clotho`, whole sentences; `audiocaps`, shorter ones; `audioset`, keywords.
            dtype: of the weights: `float32`, `bfloat16`, `float16`, or `auto` for what they are kept in.
            licence: of the weights.
            device: to run on.

        Raises:
            ValueError: the model can't be had here, is no Whisper or lacks its tokens; or there is no such style.
        """
        check_dtype(dtype)
        if style not in STYLES:
            raise ValueError(f"got style={style!r}; expected {', '.join(list(STYLES)[:-1])} or {list(STYLES)[-1]}")
        failure = (
            f"{model}: could not load a Whisper (…); expected a Hub id such as MU-NLPC/whisper-tiny-audio-captioning"
            " (needs the network once) or, with captioner.model=FOLDER, a local folder with config.json, weights,"
            " tokenizer and preprocessor_config.json"
        )
        whole, tokenizer, self.extractor, prefix = loaded(lambda: _load(model, revision, dtype, style), failure)
        self.prefix = torch.tensor([prefix])  # (1, L)
        # With five beams its authors captioned Clotho's evaluation split.
        super().__init__(model, licence, whole, tokenizer, Decoding(num_beams=5), device)

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that the model hears, as its feature extractor says."""
        return int(self.extractor.sampling_rate)

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that the model hears as one: 30 as published."""
        return float(self.extractor.chunk_length)

    def decoding_with(self, **changes: Any) -> Decoding:
        """The decoding settings, some of them changed; None leaves one as it is.

        Raises:
            ValueError: as `PretrainedCaptioner.decoding_with`, or captions may be longer than the decoder's positions.
        """
        decoding = super().decoding_with(**changes)
        positions, prefix = self.model.config.max_target_positions, self.prefix.shape[1]
        if decoding.max_tokens > (most := positions - prefix - 1):
            raise ValueError(
                f"got max_tokens={decoding.max_tokens} for {self.name}; expected at most {most}: its decoder has"
                f" {positions} positions, and the style takes {prefix} of them"
            )
        return decoding

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Log-mel (B, bins, frames), filled up with silence to `longest`, and the prefix (B, L)."""
        features = self.extractor(list(waveforms), sampling_rate=self.sampling_rate, return_tensors="pt")
        return {
            "input_features": features["input_features"].to(self.device, self.model.dtype),
            # Whisper hears padding as silence; what it is given only says that this is meant.
            "attention_mask": torch.ones(features["input_features"].shape[::2], dtype=torch.long, device=self.device),
            "decoder_input_ids": self.prefix.to(self.device).expand(len(waveforms), -1),
        }


def _load(model: str, revision: str | None, dtype: str, style: str) -> tuple[Any, Any, Any, list[int]]:
    """Model, tokenizer, feature extractor, and the ids that every caption of a style goes on from."""
    from transformers import AutoConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    where: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    hub.look_up(model, revision, "config.json")
    kind = AutoConfig.from_pretrained(model, **where).model_type
    if kind != "whisper":
        raise ValueError(f"it is a model of type {kind}")
    tokenizer = WhisperTokenizer.from_pretrained(model, **where)
    starts = tokenizer.convert_tokens_to_ids(list(STARTS))
    if len(set(starts)) < len(STARTS) or tokenizer.unk_token_id in starts:
        raise ValueError(f"its tokenizer lacks some of {', '.join(STARTS)}")
    extractor = WhisperFeatureExtractor.from_pretrained(model, **where)
    prefix = [*starts, *tokenizer(STYLES[style], add_special_tokens=False)["input_ids"]]
    whole = WhisperForConditionalGeneration.from_pretrained(model, dtype=dtype, weights_only=True, **where)
    if whole.config.num_mel_bins != extractor.feature_size:
        raise ValueError(
            f"its features have {extractor.feature_size} bins, and it hears {whole.config.num_mel_bins} of them"
        )
    return whole, tokenizer, extractor, prefix
