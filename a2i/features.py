"""Waveform → log-mel spectrogram, a batch at a time, with a mask: the exact numbers of AST, of the PANNs, of a network of
sound effects, or of MobileNets.

The sampling rate is a setting here. All that loads, makes or changes sounds for a captioner takes it from its features.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from a2i import bounds
from a2i.machine import in_threads

FeatureKind = Literal["ast", "panns_16k", "panns_32k", "sound_effects", "mobilenet"]


class Framing(NamedTuple):
    """How a waveform is cut into frames."""

    length: int  # samples of a frame
    hop: int  # samples from one frame to the next
    points: int  # of the Fourier transform


# Of each kind the rates in Hz that it has, its own first.
FRAMINGS: dict[str, dict[int, Framing]] = {
    "ast": {16_000: Framing(400, 160, 512)},
    "panns_16k": {16_000: Framing(512, 160, 512)},
    # Captioners from before features had a rate learnt from 16 kHz, with the bins above 8 kHz empty.
    "panns_32k": {32_000: Framing(1_024, 320, 1_024), 16_000: Framing(512, 160, 512)},
    "sound_effects": {44_100: Framing(2_048, 1_024, 2_048)},
    "mobilenet": {32_000: Framing(800, 320, 1_024)},
}
RATE_OF_OLD = 16_000  # Hz, of captioners and runs that were saved without a rate
KALDI = ("ast", "mobilenet")  # kinds with its filter banks
FEWEST_MEL_BINS = 4  # of Kaldi's
PREEMPHASIS = 0.97
LOWEST_FREQUENCY = 20.0  # Hz
PANNS_LOWEST_FREQUENCY = 50.0  # Hz
PANNS_FLOOR = 1e-10  # of a mel bin's power: -100 dB
SOUND_EFFECTS_SCALE = 1e4  # of a mel bin's power before the logarithm
MOBILENET_HIGHEST_FREQUENCY = 15_000.0  # Hz
MOBILENET_OFFSET = 1e-5  # of a mel bin's power before the logarithm
CHUNK_SAMPLES = 6_000 * 512  # of frames, a minute of AST's; bounds the memory that framing takes
CACHED_SAMPLES = 1_024 * 512  # 2 MB of them: a core's share of the third cache
LOUDNESS_FRAME = 0.02  # seconds
LOUD_FRAMES = 5  # 100 ms: a bark is as long, a click is not
SILENT = -58.0  # dBFS: what is softer is silence, and stays it
SLOPE = 5.0  # dB that a clip is raised by, at most, for each dB above silence: no clip is on an edge
# Mean and standard deviation: AudioSet's (Gong et al. 2021), and of the PANNs' decibels ESC-10's, rounded. Of sound effects
# what divides by 9.457798957824707, as the network learnt it.
STATISTICS = {
    "ast": (-4.2677393, 4.5689974),
    "panns_16k": (-41.0, 31.0),
    "panns_32k": (-46.0, 38.0),
    "sound_effects": (0.0, 9.457798957824707 / 2),
    "mobilenet": (-4.5, 2.5),
}
SILENCE = {  # before normalisation
    "ast": 0.0,
    "panns_16k": -100.0,
    "panns_32k": -100.0,
    "sound_effects": 0.0,
    "mobilenet": math.log(MOBILENET_OFFSET),
}


@dataclass(frozen=True)
class FeatureSettings:
    """What a captioner was trained on; saved in its folder.

    Attributes:
        num_mel_bins: mel bins.
        mean: of the log-mel values that are subtracted; None for what `kind` has.
        std: their standard deviation; values are divided by twice it. None for what `kind` has.
        kind: whose numbers they are:

            * `ast`: Kaldi's filter banks from 20 Hz to 8 kHz, 25 ms frames, pre-emphasis, natural logarithm (Gong et al. 2021);
            * `panns_16k`: 50 Hz to 8 kHz, 32 ms frames, decibels, for the published Cnn14_16k (Kong et al. 2020);
            * `panns_32k`: 50 Hz to 14 kHz, for the published PANNs of 32 kHz (Cnn10, Cnn14);
            * `sound_effects`: HTK's mel bins from 0 Hz to 22.05 kHz, weights that add up to 1, 46 ms frames every 23 ms,
              log10(1 + 10,000 power), for the network of Ma and Lerch (2022), which has 96 bins;
            * `mobilenet`: Kaldi's filter banks from 0 Hz to 15 kHz, 25 ms frames, pre-emphasis of the whole clip, natural
              logarithm, for the MobileNets of Schmid et al. (2023), which have 128 bins.
        level: dBFS that softer clips are raised to, each by itself, before all else; None leaves them as they are. How loud a
            clip is, is the RMS that its loudest 100 ms exceed, whatever is around them; a click does not count. One near
            silence, -58 dBFS, is raised less, and silence not at all; none becomes softer.
        sampling_rate: Hz of the waveforms: 16,000, but 32,000 for `panns_32k` and `mobilenet`, 44,100 for `sound_effects`; None
            for what `kind` has. `panns_32k` takes 16,000 too, as captioners from before have it: its bins above 8 kHz stay
            empty, the others hold what the same sound at 32 kHz would give.
    """

    num_mel_bins: int = 128
    mean: float = None  # type: ignore[assignment]  # never None once it is built
    std: float = None  # type: ignore[assignment]
    kind: FeatureKind = "ast"
    level: float | None = None
    sampling_rate: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.kind not in get_args(FeatureKind):
            raise ValueError(f"got features of kind {self.kind!r}; expected one of {', '.join(get_args(FeatureKind))}")
        bounds.number("num_mel_bins", self.num_mel_bins, FEWEST_MEL_BINS if self.kind in KALDI else 1, whole=True)
        if self.level is not None:
            bounds.number("level", self.level, above=SILENT, most=0)
        for name, value in zip(("mean", "std"), STATISTICS[self.kind], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        bounds.number("mean", self.mean)
        bounds.number("std", self.std, above=0)
        rates = FRAMINGS[self.kind]
        if self.sampling_rate is None:
            object.__setattr__(self, "sampling_rate", next(iter(rates)))
        if type(self.sampling_rate) is not int or self.sampling_rate not in rates:
            raise ValueError(
                f"got sampling_rate={self.sampling_rate!r} for features of kind {self.kind}; expected"
                f" {' or '.join(map(str, rates))} Hz"
            )

    @property
    def framing(self) -> Framing:
        """How a waveform of `sampling_rate` is cut into frames."""
        return FRAMINGS[self.kind][self.sampling_rate]

    @property
    def frames_per_second(self) -> float:
        """Of a waveform's log-mel."""
        return self.sampling_rate / self.framing.hop

    @property
    def padding(self) -> float:
        """What stands in masked frames: a log-mel of 0, normalised, as AST's own padding is; for the other kinds silence."""
        return self.normalised(SILENCE[self.kind])

    def normalised(self, log_mel: Any) -> Any:
        """Log-mel values, a number or a tensor, less `mean` and divided by twice `std`."""
        return (log_mel - self.mean) / (2 * self.std)

    def restored(self, log_mel: Any) -> Any:
        """What `normalised` was given."""
        return log_mel * (2 * self.std) + self.mean


class LogMel(nn.Module):
    """Batched log-mel filter bank energies, normalised.

    `ast` equals `transformers.ASTFeatureExtractor` to 1e-4, but takes a batch, runs where its input lies, keeps every frame and
    says which frames are real. The PANNs' kinds equal, before normalisation, what their authors compute with librosa's
    filters: centred frames, the clip mirrored at both ends. `sound_effects` equals what its authors compute with Essentia:
    centred frames, silence before and behind the clip. `mobilenet` equals what its authors compute with torchaudio's filters:
    centred frames, the clip mirrored at both ends, after pre-emphasis, which takes its first sample.
    """

    window: Tensor
    mel_banks: Tensor

    def __init__(self, settings: FeatureSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or FeatureSettings()
        panns = self.settings.kind.startswith("panns")
        window = torch.hann_window(self.settings.framing.length, periodic=panns)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_banks", _banks(self.settings), persistent=False)  # (points / 2 + 1, num_mel_bins)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a batch.

        Args:
            waveforms: (B, N) float32 in [-1, 1] at the settings' sampling rate; what lies beyond a clip's length is ignored.
            lengths: (B,) integer; samples of each clip, at least 1.

        Returns:
            log-mel (B, T, num_mel_bins) with T the frames of the longest clip, and mask (B, T) bool, True for real
            frames. A clip shorter than one frame is filled up with silence and has one frame at least.

        Raises:
            ValueError: shapes don't fit together, or a length is not within 1 … N.
        """
        if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
            raise ValueError(
                f"got waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)}; expected (B, N) and (B,)"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > waveforms.shape[1]:
            raise ValueError(f"got lengths {lengths.tolist()}; expected 1 to {waveforms.shape[1]} samples each")
        frames, longest = frame_count(lengths, self.settings), int(lengths.max())
        size, hop, _ = self.settings.framing
        waveforms = waveforms[:, :longest].float()
        if int(lengths.min()) < longest:
            samples = torch.arange(longest, device=waveforms.device)
            waveforms = waveforms.masked_fill(samples >= lengths.to(waveforms.device)[:, None], 0.0)
        if self.settings.level is not None:
            raised = gains(waveforms, lengths.to(waveforms.device), self.settings.level, self.settings.sampling_rate)
            waveforms = waveforms * raised[:, None]
        lengths = lengths.to(waveforms.device)
        if self.settings.kind == "mobilenet":
            waveforms, lengths = _emphasised(waveforms, lengths)
        if waveforms.shape[1] < size:
            waveforms = nn.functional.pad(waveforms, (0, size - waveforms.shape[1]))
        if self.settings.kind == "sound_effects":
            waveforms = nn.functional.pad(waveforms, (size // 2, size // 2 + hop))
        elif self.settings.kind != "ast":
            waveforms = _mirrored(waveforms, lengths, size)
        framed = waveforms.unfold(1, size, hop)[:, : int(frames.max())]
        log_mel = self._in_pieces(framed)
        mask = torch.arange(log_mel.shape[1], device=log_mel.device) < frames.to(log_mel.device)[:, None]
        if not bool(mask.all()):
            log_mel.masked_fill_(~mask[:, :, None], self.settings.padding)
        return log_mel, mask

    def _in_pieces(self, framed: Tensor) -> Tensor:
        """(B, T, length of a frame) samples → log-mel (B, T, num_mel_bins).

        A CPU is fastest with little at a time, which stays in its cache, and each thread with a clip of its own: threads that
        share each operation wait for each other hundreds of times, for milliseconds where another program has a core. A GPU
        is fastest with much.
        """
        log_mel = framed.new_empty(*framed.shape[:2], self.settings.num_mel_bins)
        on_cpu = framed.device.type == "cpu"
        rows, samples = (1, CACHED_SAMPLES) if on_cpu else (len(framed), CHUNK_SAMPLES)
        columns = samples // self.settings.framing.points
        pieces = [
            piece
            for some, result in zip(framed.split(rows), log_mel.split(rows), strict=True)
            for piece in zip(some.split(columns, dim=1), result.split(columns, dim=1), strict=True)
        ]
        left = iter(pieces)  # who is free takes the next

        @torch.no_grad()
        def work() -> None:
            # Under mixed precision the logarithm of tiny powers would lose its digits.
            with torch.autocast(framed.device.type, enabled=False):
                for frames, place in left:
                    place.copy_(self._log_mel(frames))

        threads = min(torch.get_num_threads(), len(pieces)) if on_cpu else 1
        if threads > 1:
            in_threads(work, threads)
        else:
            work()
        return log_mel

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(B, T, length of a frame) samples → log-mel (B, T, num_mel_bins), normalised."""
        if self.settings.kind == "ast":
            frames = frames - frames.mean(dim=-1, keepdim=True)
            # The first sample would be its own predecessor, but there the window is 0.
            frames = frames - PREEMPHASIS * nn.functional.pad(frames, (1, 0))[..., :-1]
        spectra = torch.fft.rfft(frames * self.window, self.settings.framing.points)
        energies = (spectra.real.square() + spectra.imag.square()) @ self.mel_banks
        if self.settings.kind == "ast":
            log_mel = energies.clamp_min(torch.finfo(torch.float32).eps).log()
        elif self.settings.kind == "sound_effects":
            log_mel = (1 + SOUND_EFFECTS_SCALE * energies).log10()
        elif self.settings.kind == "mobilenet":
            log_mel = (energies + MOBILENET_OFFSET).log()
        else:
            log_mel = 10 * energies.clamp_min(PANNS_FLOOR).log10()
        normalised: Tensor = self.settings.normalised(log_mel)
        return normalised


def gains(waveforms: Tensor, lengths: Tensor, level: float, rate: int) -> Tensor:
    """What softer clips are multiplied by to be as loud as `level`; see `FeatureSettings`.

    Args:
        waveforms: (B, N) with zeros beyond a clip's length.
        lengths: (B,) samples of each clip, at least 1.
        level: dBFS.
        rate: of the waveforms, in Hz.

    Returns:
        (B,), at least 1.
    """
    frame = round(LOUDNESS_FRAME * rate)
    padded = nn.functional.pad(waveforms, (0, -waveforms.shape[1] % frame))
    # Variances: a constant offset, as poor sound cards leave it, is not heard.
    powers = padded.unflatten(1, (-1, frame)).var(dim=2, correction=0)
    frames = (lengths // frame).clamp_min(1)  # whole ones
    powers = powers.masked_fill(torch.arange(powers.shape[1], device=powers.device) >= frames[:, None], -1.0)
    loudest = powers.topk(min(LOUD_FRAMES, powers.shape[1]), dim=1).values
    exceeded = loudest.gather(1, frames.clamp_max(LOUD_FRAMES)[:, None] - 1)[:, 0]
    decibels = 10 * exceeded.clamp_min(1e-20).log10()
    raised: Tensor = 10 ** (torch.minimum(level - decibels, SLOPE * (decibels - SILENT)).clamp_min(0) / 20)
    return raised


class Readable(Protocol):
    """Values that are not in memory yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read_into(self, place: np.ndarray) -> None: ...


def side_by_side(sounds: Sequence[Tensor | Readable], padding: float = 0.0) -> Tensor:
    """Waveforms (N,), or features (T, F), of different lengths → a float32 batch (B, longest, …), `padding` behind the
    shorter ones.

    As `torch.nn.utils.rnn.pad_sequence`, which writes everything twice: first padding, everywhere.
    """
    longest = max(sound.shape[0] for sound in sounds)
    batch = torch.empty(len(sounds), longest, *sounds[0].shape[1:], dtype=torch.float32, device="cpu")
    rows = batch.numpy()  # to slice takes PyTorch ten times as long
    for index, sound in enumerate(sounds):
        length = sound.shape[0]
        if isinstance(sound, Tensor):
            batch[index, :length] = sound  # with all threads
        else:
            sound.read_into(rows[index, :length])
        rows[index, length:] = padding
    return batch


def frame_count(samples: Tensor, settings: FeatureSettings) -> Tensor:
    """Frames of a waveform of so many samples; at least 1."""
    length, hop, _ = settings.framing
    if settings.kind == "ast":
        return (samples - length).clamp_min(0) // hop + 1
    if settings.kind == "sound_effects":
        return (samples + hop - 1) // hop + 1  # the last is the first whose middle lies behind the sound
    if settings.kind == "mobilenet":
        samples = samples - 1  # pre-emphasis takes one
    return samples // hop + 1


def _banks(settings: FeatureSettings) -> Tensor:
    """(points / 2 + 1, num_mel_bins): how much of each point of a power spectrum counts in each mel bin."""
    from transformers.audio_utils import mel_filter_bank

    bins, rate, points = settings.num_mel_bins, settings.sampling_rate, settings.framing.points
    if settings.kind in KALDI:
        lowest, highest = (LOWEST_FREQUENCY, rate / 2) if settings.kind == "ast" else (0.0, MOBILENET_HIGHEST_FREQUENCY)
        with warnings.catch_warnings():
            # Of 128 filters the lowest lie between two FFT points; the networks learnt with them as they are.
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            banks = mel_filter_bank(
                points // 2 + 1,
                bins,
                lowest,
                highest,
                rate,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
    elif settings.kind == "sound_effects":
        banks = mel_filter_bank(
            points // 2 + 1, bins, 0.0, rate / 2, rate, mel_scale="htk", triangularize_in_mel_space=True
        )
        banks = banks / banks.sum(axis=0)
    else:
        # At half the kind's rate half its points have the same spacing, and half its amplitude.
        times = next(iter(FRAMINGS[settings.kind])) // rate
        highest = 14_000.0 if settings.kind == "panns_32k" else 8_000.0
        banks = mel_filter_bank(
            points * times // 2 + 1,
            bins,
            PANNS_LOWEST_FREQUENCY,
            highest,
            rate * times,
            norm="slaney",
            mel_scale="slaney",
        )
        banks = banks[: points // 2 + 1] * times**2
    return torch.from_numpy(banks).float()


def _emphasised(waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N), zeros beyond a clip's length → (B, N - 1) less `PREEMPHASIS` times the sample before, and the lengths left."""
    emphasised = waveforms[:, 1:] - PREEMPHASIS * waveforms[:, :-1]
    real = torch.arange(emphasised.shape[1], device=lengths.device) < lengths[:, None] - 1
    return emphasised * real, lengths - 1


def _mirrored(waveforms: Tensor, lengths: Tensor, size: int) -> Tensor:
    """(B, N) with half a frame of `size` more at each end, where every clip goes on as its own mirror image."""
    half = size // 2
    # Of what is shorter than a frame the silence behind it is mirrored too.
    last = lengths.clamp_min(size)[:, None] - 1
    places = torch.arange(-half, waveforms.shape[1] + half, device=waveforms.device).abs()
    places = torch.where(places > last, 2 * last - places, places).clamp_min(0)
    return waveforms.gather(1, places)
