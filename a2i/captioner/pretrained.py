"""What captioners have in common whose model and search are those of `transformers`: settings, search, candidates.

Nothing that comes with the weights is run: no code of a repository, and pickled weights are read as numbers alone.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from a2i import hub
from a2i.audio.waveforms import check
from a2i.captioner.candidates import Candidate, best_first, distinct
from a2i.captioner.decoding import Decoding

DTYPES = ("auto", "float32", "bfloat16", "float16")

T = TypeVar("T")


class PretrainedCaptioner(ABC):
    """Captions clips as `Captioner` does; a subclass makes the model's inputs.

    Attributes:
        prompt_ids: name of that one of the inputs whose tokens the caption goes on from.
    """

    prompt_ids: str

    def __init__(
        self,
        name: str,
        licence: str | None,
        model: Any,
        tokenizer: Any,
        decoding: Decoding,
        device: str | torch.device = "cpu",
    ) -> None:
        """Put together what is loaded.

        Args:
            name: Hub id or folder of the model.
            licence: of the weights.
            model: one with `generate`.
            tokenizer: of the model.
            decoding: the settings used where a call changes none.
            device: to run on.
        """
        self.name, self.licence, self.decoding = name, licence, decoding
        self.model, self.tokenizer = model.to(device).eval(), tokenizer
        for setting in ("max_length", "temperature", "top_k", "top_p"):  # `decoding` says them
            setattr(self.model.generation_config, setting, None)

    @property
    @abstractmethod
    def sampling_rate(self) -> int:
        """Hz of the waveforms that the model hears."""

    @property
    @abstractmethod
    def longest(self) -> float:
        """Seconds of the longest clip that the model hears as one."""

    @abstractmethod
    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """What `generate` takes for B clips, on the model's device: `prompt_ids` (B, L) among it, all of one length."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str | torch.device) -> "PretrainedCaptioner":
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
        """Captions of a batch of clips; what is longer than `longest` is cut.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at `sampling_rate`.
            **changes: of the decoding settings, by name.

        Returns:
            for each clip its candidates, the best first, no two alike: at least one, at most `num_candidates`.

        Raises:
            ValueError: there are no waveforms, one is not a waveform, a decoding setting does not fit, or a probability is
                NaN or infinite.
        """
        from transformers import GenerationMixin

        decoding = self.decoding_with(**changes)
        check(waveforms, self.sampling_rate)
        most = round(self.longest * self.sampling_rate)
        inputs = self.inputs([waveform[:most] for waveform in waveforms])
        config = self.generation_config(decoding)
        # Not a model's own: Whisper's searches for speech, with time stamps, fallbacks and windows.
        generate: Any = GenerationMixin.generate
        output = generate(self.model, **inputs, generation_config=config)
        ids = output.sequences[:, inputs[self.prompt_ids].shape[1] :]
        scores = self._log_probabilities(output, ids, config.eos_token_id)
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f"got NaN or infinite numbers as the captions' probabilities of {self.name}; expected finite ones: try"
                " captioner.dtype=float32"
            )
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        found = [
            Candidate(" ".join(text.split()), score, math.exp(score), score)
            for text, score in zip(texts, scores, strict=True)
        ]
        count = decoding.num_candidates
        clips = [found[first : first + count] for first in range(0, len(found), count)]
        if decoding.do_sample:
            clips = [best_first(clip) for clip in clips]
        return [distinct(clip) for clip in clips]

    def generation_config(self, decoding: Decoding) -> Any:
        """`transformers`' settings of the same search; what `decoding` does not name, such as tokens ruled out or a penalty
        for repetition, is as the model's own settings have it."""
        from transformers import GenerationConfig

        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
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
            **(
                {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0} if decoding.do_sample else {}
            ),
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


def loaded(load: Callable[[], T], failure: str) -> T:
    """What `load` gives.

    Args:
        load: loads a model with `from_pretrained`, whose `weights_only` is true.
        failure: what is said where it can't, with … for the reason.

    Raises:
        ValueError: `load` failed.
    """
    # Else `transformers` asks a service on the Hub to convert a repository that has no safetensors.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        return load()
    except UnpicklingError as error:
        raise ValueError(
            failure.replace("…", "its weights file holds more than numbers, which is not run", 1)
        ) from error
    except (*hub.failures(), ValueError, RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(failure.replace("…", hub.why(error), 1)) from error


def check_dtype(dtype: str) -> None:
    """Refuse what is no type of weights.

    Raises:
        ValueError: it is none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise ValueError(f"got dtype={dtype!r}; expected {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
