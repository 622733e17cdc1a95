"""The captioner, encoder → bridge → decoder: loss, captions, saving and loading."""

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
from a2i.captioner.bridge import Bridged, BridgeKind, make_bridge
from a2i.captioner.candidates import Calibration, Candidate, best_first, distinct
from a2i.captioner.cleaning import Lexicon
from a2i.captioner.decoding import Decoding
from a2i.captioner.folder import FAILURES, WEIGHTS_FILE, check_finite, licence, read, standing, unfit, write
from a2i.captioner.protocols import Decoder, Encoder
from a2i.captioner.text import IGNORE, CaptionTokenizer, TokenBatch
from a2i.errors import first_line
from a2i.features import FeatureSettings, LogMel, side_by_side


class Captioner(nn.Module):
    """Captions waveforms.

    Examples:
        >>> captioner = Captioner.load("runs/first/captioner")
        >>> captioner.sampling_rate
        44100
        >>> [[best, *_]] = captioner.caption([waveform])
        >>> best.caption
        'A bell rings several times.'
    """

    longest = 60.0  # seconds; captioners learn from clips of up to half a minute

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        tokenizer: CaptionTokenizer,
        bridge: BridgeKind | dict[str, Any] = "auto",
        features: FeatureSettings | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        """Put a captioner together.

        Args:
            encoder: see `a2i.captioner.protocols`.
            decoder: see `a2i.captioner.protocols`.
            tokenizer: whose vocabulary the decoder has.
            bridge: see `a2i.captioner.bridge`.
            features: of the log-mel spectrogram.
            decoding: the settings used where a call changes none.

        Raises:
            ValueError: the bridge does not fit.
        """
        super().__init__()
        self.log_mel = LogMel(features)
        self.encoder: Encoder = encoder
        self.bridge = make_bridge(encoder.width, decoder.width, bridge)
        self.decoder: Decoder = decoder
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self.name = "captioner"  # `load` gives it the folder's
        self.licence: str | None = None
        self.calibration: Calibration | None = None
        self.lexicon: Lexicon | None = None
        self.register_load_state_dict_pre_hook(_rename_keywords)

    @property
    def sampling_rate(self) -> int:
        """Hz of the waveforms that it hears."""
        return self.log_mel.settings.sampling_rate

    @property
    def device(self) -> torch.device:
        return self.log_mel.window.device

    def encode(self, log_mel: Tensor, mask: Tensor) -> Bridged:
        """log-mel (B, T, F) and mask (B, T) → what the decoder attends to."""
        bridged: Bridged = self.bridge(*self.encoder(log_mel, mask))
        return bridged

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
        bridged = self.encode(log_mel, mask)
        return self.loss_from_states(bridged.states, bridged.mask, tokens, clip_index, label_smoothing)

    def loss_from_states(
        self, states: Tensor, states_mask: Tensor, tokens: TokenBatch, clip_index: Tensor, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """`loss` from what the decoder attends to: states (B, S, D) and mask (B, S)."""
        logits = self.decoder(tokens.inputs, tokens.mask, states, states_mask, clip_index)
        targets = tokens.targets.flatten()
        loss = cross_entropy(
            logits.flatten(0, 1).float(), targets, ignore_index=IGNORE, label_smoothing=label_smoothing
        )
        return loss, (targets != IGNORE).sum()

    def decoding_with(self, **changes: Any) -> Decoding:
        """`decoding` with some values changed; None leaves a value as it is.

        Raises:
            ValueError: a name is unknown, a value does not fit, or this captioner has no lexicon for the cleaning step.
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
        """Caption a batch of clips. Several threads may call this at once.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at `sampling_rate`; `a2i.audio.waveforms.from_array` converts others.
            **changes: of the decoding settings, by name.

        Returns:
            the candidates of each clip, best first, no two alike: at least one, at most `num_candidates`.

        Raises:
            ValueError: there are no waveforms, one is not a waveform, a decoding setting does not fit, or a probability is
                NaN or infinite.
        """
        decoding = self.decoding_with(**changes)
        check(waveforms, self.sampling_rate)
        batch = side_by_side([torch.from_numpy(waveform) for waveform in waveforms])
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        with self._precision(decoding):
            log_mel, mask = self.log_mel(batch.to(self.device), lengths.to(self.device))
            states, states_mask = self.encoder(log_mel, mask)
            return self.caption_states(states, states_mask, decoding)

    @torch.no_grad()
    def caption_states(self, encoded: Tensor, encoded_mask: Tensor, decoding: Decoding) -> list[list[Candidate]]:
        """Caption a batch of encoder states (B, S, D_encoder) with their mask (B, S); see `caption`."""
        with self._precision(decoding):
            # In mixed precision the encoder returns lower precision.
            bridged = self.bridge(encoded.to(self.log_mel.window.dtype), encoded_mask)
            ids, scores = self._search(bridged, decoding)
        count = decoding.num_candidates
        evidence = scores if bridged.evidence is None else bridged.evidence.repeat_interleave(count)
        _check_finite(torch.stack((evidence, scores)), "the captions' probabilities")
        captions = [self.tokenizer.decode(row) for row in ids.tolist()]
        if decoding.cleaning == "published" and self.lexicon is not None:
            captions = [self.lexicon.clean(caption) for caption in captions]
        confidence = self.calibration.confidence if self.calibration else math.exp
        found = [
            Candidate(caption, score, confidence(sure), sure)
            for caption, score, sure in zip(captions, scores.tolist(), evidence.tolist(), strict=True)
        ]
        clips = [found[first : first + count] for first in range(0, len(found), count)]
        if decoding.do_sample:
            clips = [best_first(clip) for clip in clips]
        return [distinct(clip) for clip in clips]

    def _search(self, bridged: Bridged, decoding: Decoding) -> tuple[Tensor, Tensor]:
        """Token ids (B × n, L) and their mean log-probabilities (B × n,)."""
        states, mask, _ = bridged
        # Checked before the search: beam search and sampling fail in their own ways on NaN.
        _check_finite(states.masked_fill(~mask[:, :, None], 0.0), "the states that the decoder attends to")
        try:
            ids = self.decoder.generate(states, mask, self.tokenizer.bos_id, self.tokenizer.eos_id, decoding)
        except RuntimeError as error:  # torch's, when it samples
            if "probability tensor" in str(error):
                _check_finite(states.new_tensor(math.nan), "the tokens' probabilities")
            raise
        return ids, self._log_probabilities(ids, states, mask)

    def _precision(self, decoding: Decoding) -> AbstractContextManager[Any]:
        """The precision of `decoding`, whatever autocast is around it: validation runs within training's."""
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

        The folder is replaced in one step: if the process is killed, `load` finds the old captioner or the new one.

        Args:
            folder: new, empty, or a captioner folder, which is replaced.
            card: the model card, in Markdown.
            dtype: of the weights on disk; they are loaded as float32.

        Raises:
            ValueError: the folder holds something else, or a weight or setting is not finite.
        """
        return write(self, folder, card, dtype)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "Captioner":
        """Load a captioner folder, ready to caption.

        Raises:
            FileNotFoundError: the folder has no captioner.
            ValueError: a newer version wrote it, its weights don't fit its settings, a number in it is not finite, or it
                names code or weights outside the folder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        name, folder = str(folder), standing(folder)
        parts, calibration, lexicon = read(folder)
        try:
            captioner = cls(**parts)
        except FAILURES as error:
            raise unfit(folder, error) from error
        captioner.name, captioner.calibration, captioner.lexicon = name, calibration, lexicon
        captioner.licence = licence(folder)
        try:
            load_model(captioner, str(Path(folder) / WEIGHTS_FILE))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: the weights don't fit the settings ({first_line(error)})") from error
        try:
            check_finite(captioner, "can't be loaded")
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return captioner.to(device).eval()


def _rename_keywords(_: nn.Module, weights: dict[str, Any], prefix: str, *__: Any) -> None:
    """Weights that were saved when the keywords stood beside the bridge, and not around it, get today's names."""
    old = f"{prefix}keywords."
    if not any(name.startswith(old) for name in weights):
        return
    for name in list(weights):
        if name.startswith(f"{prefix}bridge."):
            weights[f"{prefix}bridge.inner.{name.removeprefix(f'{prefix}bridge.')}"] = weights.pop(name)
    for name in list(weights):
        if name.startswith(old):
            own = name.removeprefix(old)
            own = f"label_{own}" if own.startswith("head.") else own
            weights[f"{prefix}bridge.{own}"] = weights.pop(name)


def _check_finite(values: Tensor, what: str) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"got NaN or infinite numbers as {what}; expected finite ones: use a captioner with sound weights, or"
            " decoding.precision=float32"
        )
