"""Encoder, bridge and decoder as one: loss, captions, and the folder in which a captioner is kept."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from a2i import decoders, encoders
from a2i.bridge import Bridge, BridgeKind
from a2i.confidence import Calibration
from a2i.decoders import Decoding
from a2i.features import FeatureSettings, LogMel
from a2i.text import IGNORE, CaptionTokenizer, TokenBatch

FORMAT = 1
SETTINGS_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER, CARD_FILE = (
    "captioner.json",
    "model.safetensors",
    "tokenizer",
    "README.md",
)


@dataclass(frozen=True)
class Candidate:
    """One caption that a clip could have.

    Attributes:
        caption: the sentence.
        log_probability: mean natural logarithm of its tokens' probabilities, the EOS among them.
        confidence: probability that it names what is heard, by the captioner's `Calibration`; where it has none, the
            geometric mean of its tokens' probabilities, which says how sure the wording is as well.
    """

    caption: str
    log_probability: float
    confidence: float


class Captioner(nn.Module):
    """Hears a waveform and writes a caption."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        tokenizer: CaptionTokenizer,
        bridge: BridgeKind = "auto",
        features: FeatureSettings | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        """Put a captioner together.

        Args:
            encoder: see `a2i.encoders`.
            decoder: see `a2i.decoders`.
            tokenizer: whose vocabulary the decoder has.
            bridge: see `a2i.bridge`.
            features: of the log-mel spectrogram.
            decoding: how captions are found unless a call says otherwise.

        Raises:
            ValueError: the bridge does not fit.
        """
        super().__init__()
        self.log_mel = LogMel(features)
        self.encoder = encoder
        self.bridge = Bridge(encoder.width, decoder.width, bridge)  # type: ignore[arg-type]
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self.calibration: Calibration | None = None

    @property
    def device(self) -> torch.device:
        return self.log_mel.window.device

    def encode(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """log-mel (B, T, F) and mask (B, T) → what the decoder attends to, states (B, S, D) and mask (B, S)."""
        states, states_mask = self.encoder(log_mel, mask)
        return self.bridge(states), states_mask

    def loss(
        self, log_mel: Tensor, mask: Tensor, tokens: TokenBatch, clip_index: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of captions under teacher forcing. A clip is encoded once, however many captions it has.

        Args:
            log_mel: (B, T, F).
            mask: (B, T) bool.
            tokens: of C captions.
            clip_index: (C,) which of the B clips each caption is of.
            label_smoothing: share of the target's probability spread over the vocabulary.

        Returns:
            mean over all target tokens, in nats, and the number of those tokens.
        """
        return self.loss_from_states(*self.encode(log_mel, mask), tokens, clip_index, label_smoothing)

    def loss_from_states(
        self, states: Tensor, states_mask: Tensor, tokens: TokenBatch, clip_index: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """`loss` of clips that are encoded already: states (B, S, D) and mask (B, S)."""
        logits = self.decoder(tokens.inputs, tokens.mask, states[clip_index], states_mask[clip_index])
        targets = tokens.targets.flatten()
        loss = cross_entropy(
            logits.flatten(0, 1).float(), targets, ignore_index=IGNORE, label_smoothing=label_smoothing
        )
        return loss, (targets != IGNORE).sum()

    @torch.no_grad()
    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> list[list[Candidate]]:
        """Captions of a batch of clips.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at 16 kHz.
            **changes: of the decoding settings, by name.

        Returns:
            for each clip its candidates, the best first, no two alike: at least one, at most `num_candidates`.
        """
        decoding = self.decoding.with_changes(**changes)
        batch = pad_sequence([torch.from_numpy(waveform) for waveform in waveforms], batch_first=True)
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        log_mel, mask = self.log_mel(batch.to(self.device), lengths.to(self.device))
        return self.caption_features(log_mel, mask, decoding)

    @torch.no_grad()
    def caption_features(self, log_mel: Tensor, mask: Tensor, decoding: Decoding) -> list[list[Candidate]]:
        """Captions of a batch of log-mel spectrograms; see `caption`."""
        return self.caption_states(*self.encode(log_mel, mask), decoding)

    @torch.no_grad()
    def caption_states(self, states: Tensor, states_mask: Tensor, decoding: Decoding) -> list[list[Candidate]]:
        """Captions of a batch of encoded clips, as `encode` gives them; see `caption`."""
        ids = self.decoder.generate(  # type: ignore[operator]
            states, states_mask, self.tokenizer.bos_id, self.tokenizer.eos_id, decoding
        )
        scores = self._log_probabilities(ids, states, states_mask).tolist()
        sure = self.calibration.confidence if self.calibration else math.exp
        found = [
            Candidate(self.tokenizer.decode(row), score, sure(score))
            for row, score in zip(ids.tolist(), scores, strict=True)
        ]
        count = decoding.num_candidates
        clips = [found[first : first + count] for first in range(0, len(found), count)]
        if decoding.do_sample:
            clips = [sorted(clip, key=lambda candidate: -candidate.log_probability) for clip in clips]
        return [_distinct(clip) for clip in clips]

    def _log_probabilities(self, ids: Tensor, states: Tensor, states_mask: Tensor) -> Tensor:
        """(C × n, L) generated ids → (C × n,) mean log-probability of the tokens up to the first EOS."""
        repeats = len(ids) // len(states)
        states, states_mask = states.repeat_interleave(repeats, 0), states_mask.repeat_interleave(repeats, 0)
        inputs, targets = ids[:, :-1], ids[:, 1:]
        ended = (targets == self.tokenizer.eos_id).cumsum(dim=1)
        real = (ended == 0) | ((ended == 1) & (targets == self.tokenizer.eos_id))
        logits = self.decoder(inputs, real, states, states_mask)
        chosen = logits.float().log_softmax(dim=-1).gather(2, targets[:, :, None])[:, :, 0]
        return (chosen * real).sum(dim=1) / real.sum(dim=1)

    def save(self, folder: str | Path, card: str = "", dtype: torch.dtype = torch.float32) -> Path:
        """Write the captioner folder: weights, settings, tokenizer and model card. It is there whole or not at all.

        Args:
            folder: replaced if it is a captioner folder already.
            card: Markdown for the model card: what the captioner was trained on, how well it does.
            dtype: of the weights on disk; they are loaded as float32.

        Raises:
            ValueError: the folder holds something else.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / SETTINGS_FILE).exists():
            raise ValueError(f"{folder}: holds something that is no captioner; expected an empty or new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            self._write(part, card, dtype)
            part.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return folder

    def _write(self, folder: Path, card: str, dtype: torch.dtype) -> None:
        from copy import deepcopy

        from safetensors.torch import save_model

        weights = self if dtype == torch.float32 else deepcopy(self).to(dtype)
        save_model(weights, str(folder / WEIGHTS_FILE))
        self.tokenizer.save(folder / TOKENIZER_FOLDER)
        settings = {
            "format": FORMAT,
            "features": asdict(self.log_mel.settings),
            "encoder": {"name": _file_name(self.encoder), "settings": self.encoder.settings},
            "bridge": self.bridge.kind,
            "decoder": {
                "name": _file_name(self.decoder),
                "vocab_size": len(self.tokenizer),
                "settings": self.decoder.settings,
            },
            "max_tokens": self.tokenizer.max_tokens,
            "decoding": asdict(self.decoding),
            "calibration": asdict(self.calibration) if self.calibration else None,
            "versions": {name: _version(name) for name in ("a2i", "torch", "transformers")},
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (folder / CARD_FILE).write_text(card or "# An a2i captioner\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "Captioner":
        """Load a captioner folder, ready to caption.

        Raises:
            FileNotFoundError: there is no captioner there.
            ValueError: it was written by a newer version, or its weights don't fit its settings.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        folder = Path(folder)
        for file in (SETTINGS_FILE, WEIGHTS_FILE):
            if not (folder / file).is_file():
                raise FileNotFoundError(
                    f"{folder}: no {file} there; expected a captioner folder, such as the one that training writes at its"
                    " end (RUN/captioner)"
                )
        captioner = cls._built(folder)
        try:
            load_model(captioner, str(folder / WEIGHTS_FILE))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: the weights don't fit the settings ({str(error).splitlines()[0]})") from error
        return captioner.to(device).eval()

    @classmethod
    def _built(cls, folder: Path) -> "Captioner":
        """With random weights, from a folder's settings alone: nothing that they name is downloaded or run."""
        try:
            settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            if settings["format"] != FORMAT:
                raise ValueError(f"captioner format {settings['format']}; this version of a2i reads {FORMAT}")
            encoder, decoder = settings["encoder"], settings["decoder"]
            foreign = [
                name for part in (encoder, decoder) for name in part["settings"] if name in ("pretrained", "revision")
            ]
            if foreign:
                raise ValueError(f"names {foreign[0]!r}; expected settings that need no other weights than its own")
            captioner = cls(
                encoder=encoders.build(encoder["name"], encoder["settings"]),
                decoder=decoders.build(decoder["name"], decoder["vocab_size"], decoder["settings"]),
                tokenizer=CaptionTokenizer.load(folder / TOKENIZER_FOLDER, settings["max_tokens"]),
                bridge=settings["bridge"],
                features=FeatureSettings(**settings["features"]),
                decoding=Decoding(**settings["decoding"]),
            )
            if settings.get("calibration"):
                captioner.calibration = Calibration(**settings["calibration"])
            return captioner
        except (KeyError, TypeError, ValueError) as error:
            said = f"no {error} in {SETTINGS_FILE}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{folder}: {said}. Expected a captioner folder as a2i writes it") from error


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Each caption once, where it first stands."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.caption, candidate)
    return list(seen.values())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a2i itself, when it runs from a checkout that is not installed
        return None


def _file_name(part: nn.Module) -> str:
    """`ast` for `a2i.encoders.ast.ASTEncoder`."""
    return type(part).__module__.rsplit(".", 1)[-1]
