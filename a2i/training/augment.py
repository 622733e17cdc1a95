"""Augmentation of waveforms and log-mels, so that a model learns sounds and not recordings."""

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from a2i.bounds import number, switch
from a2i.training.conditions import RecordingConditions

JOINTS = (" and ", " while ", ", and ", " as ")
FRAME = 0.05  # seconds, over which loudness is measured
BACKGROUND = (6.0, 25.0)  # dB that a clip is louder than what is heard behind it
FILTER_POINTS = 6  # along frequency, between which a filter's line is straight


class WaveformAugment:
    """Changes a waveform without changing what its caption says, and mixes clips together with their captions.

    Mixing as in Wu et al. 2024, "Improving audio captioning models with fine-grained audio features, text embedding
    supervision, and LLM mix-up augmentation", where a language model joins the captions; here a word does.
    """

    def __init__(
        self,
        mix: float = 0.0,
        gap_db: float = 6.0,
        gain_db: float = 6.0,
        speed: float = 0.0,
        shift: bool = True,
        max_seconds: float | None = None,
        conditions: RecordingConditions | None = None,
        background: float = 0.0,
        in_turn: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            mix: share of the clips that a second clip is mixed into.
            gap_db: largest difference in loudness between two mixed clips.
            gain_db: largest change of a clip's level, up or down.
            speed: largest change of speed, as a share; it changes the pitch too.
            shift: rotate the waveform by a random number of samples.
            max_seconds: of a longer clip a random part of this length is heard; None for all of it.
            conditions: that the recording, with what was mixed into it, may have been made under; None for its own.
            background: share of the clips without a second one that have another softly behind them, which no caption names.
            in_turn: share of the mixed clips in which the second comes after the first, and does not sound with it. Captions
                are joined as if both were heard at once.

        Raises:
            ValueError: a share or a length is out of range.
        """
        number("mix", mix, 0, most=1)
        number("background", background, 0, most=1)
        number("in_turn", in_turn, 0, most=1)
        number("speed", speed, 0, below=1)
        number("gap_db", gap_db, 0)
        number("gain_db", gain_db, 0)
        switch("shift", shift)
        if max_seconds is not None:
            number("max_seconds", max_seconds, above=0)
        self.mix, self.gap_db, self.gain_db, self.speed, self.shift = mix, gap_db, gain_db, speed, shift
        self.max_seconds, self.conditions, self.background = max_seconds, conditions, background
        self.in_turn = in_turn

    def alone(self, waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """(samples,) float32 at `rate` Hz → (other samples,) float32 with another speed, start and level."""
        if self.max_seconds is not None and (spare := len(waveform) - round(self.max_seconds * rate)) > 0:
            start = int(rng.integers(spare))
            waveform = waveform[start : start + len(waveform) - spare]
        if self.speed:
            waveform = soxr.resample(waveform, rate * np.exp(rng.uniform(-1, 1) * np.log1p(self.speed)), rate)
        if self.shift:
            waveform = np.roll(waveform, rng.integers(len(waveform)))
        return _within(waveform * _ratio(rng.uniform(-self.gain_db, self.gain_db)))

    def together(self, first: np.ndarray, second: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Mix two waveforms of `rate` Hz, the shorter somewhere within the longer, or one after the other, all of both or the
        first half of each: (length of the longer, or of both or half of that,) float32. Silence stays silent."""
        longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
        gap = _ratio(rng.uniform(-self.gap_db, self.gap_db))
        if self.in_turn and rng.random() < self.in_turn:
            level = gap * _loudness(longer, rate) / max(_loudness(shorter, rate), 1e-4)
            ordered = [sound if sound is longer else sound * np.float32(level) for sound in (first, second)]
            if rng.random() < 0.5:  # so that it is not its length that tells a mixed clip
                ordered = [sound[: (len(sound) + 1) // 2] for sound in ordered]
            return _within(np.concatenate(ordered))
        mixed = longer.copy()
        start = int(rng.integers(len(longer) - len(shorter) + 1))
        mixed[start : start + len(shorter)] += shorter * (
            gap * _loudness(longer, rate) / max(_loudness(shorter, rate), 1e-4)
        )
        return _within(mixed)

    def behind(self, front: np.ndarray, back: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Put a waveform of `rate` Hz softly behind another, repeated as often as it takes: (length of the front,) float32."""
        gap = _ratio(-rng.uniform(*BACKGROUND))
        level = gap * _loudness(front, rate) / max(_loudness(back, rate), 1e-4)
        return _within(front + np.resize(back, len(front)) * np.float32(level))

    def recorded(self, waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """(samples,) float32 at `rate` Hz → (samples,) float32, under other conditions."""
        return waveform if self.conditions is None else self.conditions(waveform, rate, rng)


def join_captions(first: str, second: str, rng: np.random.Generator) -> str:
    """`A dog barks.` and `Rain falls.` → `A dog barks while rain falls.`, either first."""
    if rng.random() < 0.5:
        first, second = second, first
    if second[1:2].islower() or second[1:2] == " ":  # no acronym, and no I but `I `, which captions hardly have
        second = second[0].lower() + second[1:]
    return first.rstrip(" .") + str(rng.choice(JOINTS)) + second


def _ratio(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _within(waveform: np.ndarray) -> np.ndarray:
    """Softer where it would leave [-1, 1]."""
    return waveform / max(float(np.abs(waveform).max(initial=0.0)), 1.0)


def _loudness(waveform: np.ndarray, rate: int) -> float:
    """RMS of the loudest tenth of 50 ms frames: a ticking clock counts by its ticks, rain by all of it."""
    size = round(FRAME * rate)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    if not len(frames):
        return float(np.sqrt(np.mean(waveform**2)))
    power = np.sort(np.mean(frames**2, axis=1))[::-1]
    return float(np.sqrt(power[: max(len(power) // 10, 1)].mean()))


class SpecAugment(nn.Module):
    """Frequency and time masking (Park et al. 2019), each clip with masks of its own, within its real frames.

    Masked cells become 0: the mean of normalised features, or silence (`sound_effects`). Before that, if wanted, all
    frequencies are shifted, and each made louder or softer by a random line over frequency (after FilterAugment, Nam, Kim and
    Park 2022), as another microphone and another room would make them.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 24,
        time_masks: int = 2,
        time_share: float = 0.1,
        frequency_shift: int = 0,
        filter_std: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            frequency_masks: in each clip.
            frequency_width: mel bins of the widest.
            time_masks: in each clip.
            time_share: of a clip's frames, the longest.
            frequency_shift: mel bins, up or down, at most; what is shifted in repeats the outermost bin.
            filter_std: standard deviation of the filter at its `FILTER_POINTS` points, in units of the features.

        Raises:
            ValueError: a number is negative, none, or not whole where it counts something.
        """
        super().__init__()
        number("frequency_masks", frequency_masks, 0, whole=True)
        number("frequency_width", frequency_width, 0, whole=True)
        number("time_masks", time_masks, 0, whole=True)
        number("time_share", time_share, 0, most=1)
        number("frequency_shift", frequency_shift, 0, whole=True)
        number("filter_std", filter_std, 0)
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_share = time_masks, time_share
        self.frequency_shift, self.filter_std = frequency_shift, filter_std

    def forward(self, log_mel: Tensor, mask: Tensor) -> Tensor:
        """(B, T, F) and its mask (B, T) → (B, T, F)."""
        batch, length, bins = log_mel.shape
        frames = mask.sum(dim=1).to(log_mel.dtype)
        if self.frequency_shift:
            shift = torch.randint(-self.frequency_shift, self.frequency_shift + 1, (batch, 1), device=mask.device)
            source = (torch.arange(bins, device=mask.device) - shift).clamp(0, bins - 1)
            log_mel = log_mel.gather(2, source[:, None, :].expand(log_mel.shape))
        if self.filter_std:
            points = self.filter_std * torch.randn(batch, 1, FILTER_POINTS, device=mask.device)
            line = nn.functional.interpolate(points, bins, mode="linear", align_corners=True)
            log_mel = torch.where(mask[:, :, None], log_mel + line.to(log_mel.dtype), log_mel)
        for _ in range(self.frequency_masks):
            widest = log_mel.new_full((batch,), min(self.frequency_width, bins))
            log_mel = log_mel.masked_fill(_spans(bins, widest, log_mel.new_full((batch,), bins))[:, None, :], 0.0)
        for _ in range(self.time_masks):
            spans = _spans(length, frames * self.time_share, frames) & mask
            log_mel = log_mel.masked_fill(spans[:, :, None], 0.0)
        return log_mel


def _spans(size: int, widest: Tensor, room: Tensor) -> Tensor:
    """(B, size) bool: for each clip one span up to `widest` (B,) long, somewhere in its `room` (B,)."""
    width = torch.rand_like(widest) * widest
    start = torch.rand_like(widest) * (room - width)
    position = torch.arange(size, device=widest.device)
    return (position >= start[:, None]) & (position < (start + width)[:, None])
