"""Encoder, bridge and decoder as one: loss, captions, save and load."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from a2i.audio.waveforms import check
from a2i.captioner.bridge import Bridge, BridgeKind, Resampler, make_bridge
from a2i.captioner.candidates import Candidate, best_first, distinct
from a2i.captioner.cleaning import Lexicon
from a2i.captioner.confidence import Calibration
from a2i.captioner.decoders import Decoding
from a2i.captioner.folder import WEIGHTS_FILE, check_finite, read, standing, write
from a2i.captioner.keywords import Keywords
from a2i.captioner.text import IGNORE, CaptionTokenizer, TokenBatch
from a2i.features import FeatureSettings, LogMel, side_by_side

LEAST = math.log(torch.finfo(torch.float32).tiny)  # of evidence: what underflows to 0 has no logarithm


class Captioner(nn.Module):
    """Hears a waveform and writes a caption."""

    name: str = "captioner"  # the folder that it was loaded from
    licence: str | None = None

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        tokenizer: CaptionTokenizer,
        bridge: BridgeKind | dict[str, Any] = "auto",
        features: FeatureSettings | None = None,
        decoding: Decoding | None = None,
        keywords: dict[str, Any] | None = None,
    ) -> None:
        """Put a captioner together.

        Args:
            encoder: see `a2i.captioner.encoders`.
            decoder: see `a2i.captioner.decoders`.
            tokenizer: whose vocabulary the decoder has.
            bridge: see `a2i.captioner.bridge`.
            features: of the log-mel spectrogram.
            decoding: how captions are found unless a call says otherwise.
            keywords: `a2i.captioner.keywords.Keywords`' names and settings; None for a decoder that is told none.

        Raises:
            ValueError: the bridge does not fit.
        """
        super().__init__()
        self.log_mel = LogMel(features)
        self.encoder = encoder
        self.bridge: Bridge | Resampler = make_bridge(encoder.width, decoder.width, bridge)  # type: ignore[arg-type]
        self.keywords = Keywords(encoder.width, decoder.width, **keywords) if keywords else None  # type: ignore[arg-type]
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self.calibration: Calibration | None = None
        self.lexicon: Lexicon | None = None

    @property
    def device(self) -> torch.device:
        return self.log_mel.window.device

    def encode(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """log-mel (B, T, F) and mask (B, T) → what the decoder attends to, states (B, S, D) and mask (B, S)."""
        return self.attended(*self.encoder(log_mel, mask))

    def attended(self, states: Tensor, states_mask: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The encoder's states → what the decoder attends to: bridged, and the keywords after them if there are any.

        Args:
            states: (B, S, D_encoder).
            states_mask: (B, S) bool.
            labels: (B, keywords + 1) shares of the true ones, to learn from; None to estimate them. All 0 where a clip's
                are not known: these are estimated.
        """
        bridged, bridged_mask = self.bridge(states, states_mask)
        if self.keywords is None:
            return bridged, bridged_mask
        if labels is None or not bool((known := labels.sum(dim=1, keepdim=True) > 0).all()):
            shares, _ = self.keywords.estimate(states, states_mask)
            labels = shares if labels is None else torch.where(known, labels, shares)
        keyword_state = self.keywords(labels).to(bridged.dtype)
        return torch.cat((bridged, keyword_state), dim=1), nn.functional.pad(bridged_mask, (0, 1), value=True)

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
        logits = self.decoder(tokens.inputs, tokens.mask, states, states_mask, clip_index)
        targets = tokens.targets.flatten()
        loss = cross_entropy(
            logits.flatten(0, 1).float(), targets, ignore_index=IGNORE, label_smoothing=label_smoothing
        )
        return loss, (targets != IGNORE).sum()

    def decoding_with(self, **changes: Any) -> Decoding:
        """This captioner's decoding settings, some of them changed; None leaves one as it is.

        Raises:
            ValueError: a name is unknown, a value does not fit, or cleaning is asked for that this captioner can't do.
        """
        decoding = self.decoding.with_changes(**changes)
        if decoding.cleaning != "none" and self.lexicon is None:
            raise ValueError(
                f"got cleaning={decoding.cleaning}, for which this captioner lacks the words of its training captions"
                " (lexicon.json in its folder); expected text.cleaning=none, or a captioner that a2i.train wrote"
            )
        return decoding

    @torch.no_grad()
    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> list[list[Candidate]]:
        """Captions of a batch of clips.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at 16 kHz; of other arrays `a2i.audio.waveforms.from_array`
                makes them.
            **changes: of the decoding settings, by name.

        Returns:
            for each clip its candidates, the best first, no two alike: at least one, at most `num_candidates`.

        Raises:
            ValueError: there are no waveforms or one is none, a decoding setting does not fit, or a probability came out as
                no number.
        """
        decoding = self.decoding_with(**changes)
        check(waveforms)
        batch = side_by_side([torch.from_numpy(waveform) for waveform in waveforms])
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        with self._precision(decoding):
            log_mel, mask = self.log_mel(batch.to(self.device), lengths.to(self.device))
            states, states_mask = self.encoder(log_mel, mask)
            return self.caption_states(states, states_mask, decoding)

    @torch.no_grad()
    def caption_states(self, heard: Tensor, heard_mask: Tensor, decoding: Decoding) -> list[list[Candidate]]:
        """Captions of a batch of encoded clips, the encoder's own states (B, S, D) and mask (B, S); see `caption`."""
        count = decoding.num_candidates
        with self._precision(decoding):
            heard = heard.to(self.log_mel.window.dtype)  # in mixed precision encoders give lower ones
            states, states_mask = self.attended(heard, heard_mask)
            # Known before words are searched: neither beams nor a draw would know what to do.
            _check_finite(states.masked_fill(~states_mask[:, :, None], 0.0), "what the captioner hears")
            try:
                ids = self.decoder.generate(  # type: ignore[operator]
                    states, states_mask, self.tokenizer.bos_id, self.tokenizer.eos_id, decoding
                )
            except RuntimeError as error:  # torch's, of a draw
                if "probability tensor" in str(error):
                    _check_finite(states.new_tensor(math.nan), "the words' probabilities")
                raise
            evidence = scores = self._log_probabilities(ids, states, states_mask)
            if self.keywords is not None:
                evidence = self.keywords.estimate(heard, heard_mask)[1].clamp_min(LEAST).repeat_interleave(count)
        _check_finite(torch.stack((evidence, scores)), "the captions' probabilities")
        sure = self.calibration.confidence if self.calibration else math.exp
        captions = [self.tokenizer.decode(row) for row in ids.tolist()]
        if decoding.cleaning == "published" and self.lexicon is not None:
            captions = [self.lexicon.clean(caption) for caption in captions]
        found = [
            Candidate(caption, score, sure(seen), seen)
            for caption, score, seen in zip(captions, scores.tolist(), evidence.tolist(), strict=True)
        ]
        clips = [found[first : first + count] for first in range(0, len(found), count)]
        if decoding.do_sample:
            clips = [best_first(clip) for clip in clips]
        return [distinct(clip) for clip in clips]

    def _precision(self, decoding: Decoding) -> AbstractContextManager[Any]:
        """Kept within mixed precision too, as training has it around validation."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=decoding.precision == "bfloat16")

    def _log_probabilities(self, ids: Tensor, states: Tensor, states_mask: Tensor) -> Tensor:
        """(C × n, L) generated ids → (C × n,) mean log-probability of the tokens up to the first EOS."""
        clip_index = torch.arange(len(states), device=ids.device).repeat_interleave(len(ids) // len(states))
        inputs, targets = ids[:, :-1], ids[:, 1:]
        ended = (targets == self.tokenizer.eos_id).cumsum(dim=1)
        real = (ended == 0) | ((ended == 1) & (targets == self.tokenizer.eos_id))
        logits = self.decoder(inputs, real, states, states_mask, clip_index)
        chosen = logits.float().log_softmax(dim=-1).gather(2, targets[:, :, None])[:, :, 0]
        return (chosen * real).sum(dim=1) / real.sum(dim=1)

    def save(self, folder: str | Path, card: str = "", dtype: torch.dtype = torch.float32) -> Path:
        """Write the captioner folder: weights, settings, tokenizer and model card.

        It is there whole or not at all, and one that it replaces stays until then: killed at any moment, `load` finds one.

        Args:
            folder: replaced if it is a captioner folder already.
            card: Markdown for the model card: what the captioner was trained on, how well it does.
            dtype: of the weights on disk; they are loaded as float32.

        Raises:
            ValueError: the folder holds something else, or a weight or setting is no finite number.
        """
        return write(self, folder, card, dtype)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "Captioner":
        """Load a captioner folder, ready to caption.

        Raises:
            FileNotFoundError: there is no captioner there.
            ValueError: it was written by a newer version, its weights don't fit its settings, a number in it is none, or it
                names code or weights that lie elsewhere.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        folder = standing(folder)
        parts, calibration, lexicon = read(folder)
        try:
            captioner = cls(**parts)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder}: {error}. Expected a captioner folder as a2i writes it") from error
        captioner.calibration, captioner.lexicon, captioner.name = calibration, lexicon, str(folder)
        try:
            load_model(captioner, str(Path(folder) / WEIGHTS_FILE))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: the weights don't fit the settings ({str(error).splitlines()[0]})") from error
        try:
            check_finite(captioner, "can't be loaded")
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return captioner.to(device).eval()


def _check_finite(values: Tensor, what: str) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"got NaN or infinite numbers as {what}; expected finite ones: use a captioner with sound weights, or"
            " decoding.precision=float32"
        )
