"""What CLIP and CLAP share: loading, settings, and the tower that embeds sentences."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from a2i import hub
from a2i.metrics.provenance import versions
from a2i.metrics.sentence_model import max_tokens


class Texts(NamedTuple):
    """Sentences embedded."""

    vectors: Tensor  # (N, D) float32 on the CPU, unit length
    unseen_tokens: tuple[int, ...]  # N: tokens of each sentence's end that the model did not see


class Tower(ABC):
    """What CLIP and CLAP share: a text tower, and a way to be loaded."""

    kind: str
    model_class: Any

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
    ) -> None:
        """Load a model.

        Args:
            model: a local folder in transformers' format, or a Hub id.
            revision: branch, tag or commit on the Hub.
            device: None for CUDA where there is one, else the CPU.
            batch_size: pictures, sounds or texts at once. It does not change the embeddings.

        Raises:
            ValueError: the model can't be had, is not of this kind, or lacks weights.
        """
        if batch_size < 1:
            raise ValueError(f"got batch_size {batch_size}; expected at least 1")
        self.name = str(model)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size
        logging.disable_progress_bar()  # a bar over some hundred tensors that are there at once
        try:
            hub.look_up(self.name, revision, "config.json")
            self.tokenizer, self.processor, self.model = self._load(self.name, revision)
        except (
            *hub.failures(),
            ValueError,
            KeyError,
            RuntimeError,
            ImportError,
            SafetensorError,
            UnpicklingError,
        ) as error:
            raise ValueError(
                f"{self.name}: no {self.kind.upper()} model to be had there ({hub.why(error)}); expected a Hub id, which "
                "needs the network once, or a local folder in transformers' format, with tokenizer and preprocessor"
            ) from error
        self.model.eval().requires_grad_(False).to(self.device)
        self.max_tokens = max_tokens(self.tokenizer, self.model.text_model)

    def _load(self, source: str, revision: str | None) -> tuple[Any, Any, Any]:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        if config.model_type != self.kind:
            raise ValueError(f"its type is {config.model_type!r}, not {self.kind!r}")
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        processor = self._load_processor(source, revision)
        model, report = self.model_class.from_pretrained(
            source, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"{len(report['missing_keys'])} weights are missing: {min(report['missing_keys'])}, …")
        return tokenizer, processor, model

    @abstractmethod
    def _load_processor(self, source: str, revision: str | None) -> Any:
        """What turns pictures or sounds into the model's input."""

    @property
    def settings(self) -> dict[str, Any]:
        """What made the embeddings, as plain values for a report or a log."""
        return {
            "library": "a2i",
            "model": self.name,
            "revision": getattr(self.model.config, "_commit_hash", None),
            "max_tokens": self.max_tokens,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "versions": versions("a2i", "torch", "transformers", "tokenizers", "pillow", "soxr"),
        }

    def embed_texts(self, texts: Sequence[str]) -> Texts:
        """Embed sentences; what is longer than the model takes (77 tokens in most CLIPs) is cut, and told.

        Raises:
            ValueError: something is not a string.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"got {texts!r:.200}; expected a list of strings")
        cut: dict[str, Any] = {"truncation": True, "max_length": self.max_tokens} if self.max_tokens else {}
        vectors, unseen = [], []
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            whole = self.tokenizer(batch, truncation=False, verbose=False)["input_ids"]
            seen = self.tokenizer(batch, padding=True, return_attention_mask=True, return_tensors="pt", **cut)
            ids, mask = seen["input_ids"], seen["attention_mask"]
            unseen += [len(full) - int(kept.sum()) for full, kept in zip(whole, mask, strict=True)]
            vectors.append(self._run("get_text_features", input_ids=ids, attention_mask=mask))
        return Texts(self._stack(vectors), tuple(unseen))

    @torch.no_grad()
    def _run(self, method: str, **inputs: Tensor) -> Tensor:
        """A batch's embeddings (B, D), unit length, on the CPU."""
        with torch.autocast(self.device.type, enabled=False):
            given = {key: value.to(self.device) for key, value in inputs.items()}
            features = getattr(self.model, method)(**given).pooler_output
        return normalize(features, dim=-1).cpu()

    def _stack(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(vectors)) if vectors else torch.empty(0, self.model.config.projection_dim)
