"""Waveform → log-mel spectrogram, a batch at a time, with a mask: the exact numbers of AST, or of the PANNs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from a2i import bounds
from a2i.audio import SAMPLE_RATE
from a2i.machine import in_threads

FeatureKind = Literal["ast", "panns_16k", "panns_32k"]
FRAME_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
FFT_LENGTH = 512  # points
FEWEST_MEL_BINS = 4  # of Kaldi's
PREEMPHASIS = 0.97
LOWEST_FREQUENCY = 20.0  # Hz
PANNS_LOWEST_FREQUENCY = 50.0  # Hz
PANNS_FLOOR = 1e-10  # of a mel bin's power: -100 dB
CHUNK_FRAMES = 6_000  # one minute; bounds the memory that framing takes
CACHED_FRAMES = 1_024  # 2 MB of them: a core's share of the third cache
LOUDNESS_FRAME = 320  # samples, 20 ms
LOUD_FRAMES = 5  # 100 ms: a bark is as long, a click is not
SILENT = -58.0  # dBFS: what is softer is silence, and stays it
SLOPE = 5.0  # dB that a clip is raised by, at most, for each dB above silence: no clip is on an edge
# Mean and standard deviation: AudioSet's (Gong et al. 2021), and of the PANNs' decibels ESC-10's, rounded.
STATISTICS = {"ast": (-4.2677393, 4.5689974), "panns_16k": (-41.0, 31.0), "panns_32k": (-46.0, 38.0)}


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
            * `panns_32k`: 50 Hz to 14 kHz, for the PANNs of 32 kHz (Cnn10, Cnn14). All sound here has 16 kHz: their bins above
              8 kHz stay empty, the others hold what the same sound at 32 kHz would give.
        level: dBFS that softer clips are raised to, each by itself, before all else; None leaves them as they are. How loud a
            clip is, is the RMS that its loudest 100 ms exceed, whatever is around them; a click does not count. One near
            silence, -58 dBFS, is raised less, and silence not at all; none becomes softer.
    """

    num_mel_bins: int = 128
    mean: float = None  # type: ignore[assignment]  # never None once it is built
    std: float = None  # type: ignore[assignment]
    kind: FeatureKind = "ast"
    level: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FeatureKind):
            raise ValueError(f"got features of kind {self.kind!r}; expected one of {', '.join(get_args(FeatureKind))}")
        bounds.number("num_mel_bins", self.num_mel_bins, FEWEST_MEL_BINS if self.kind == "ast" else 1, whole=True)
        if self.level is not None:
            bounds.number("level", self.level, above=SILENT, most=0)
        for name, value in zip(("mean", "std"), STATISTICS[self.kind], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        bounds.number("mean", self.mean)
        bounds.number("std", self.std, above=0)

    @property
    def padding(self) -> float:
        """What stands in masked frames: a log-mel of 0, normalised, as AST's own padding is; for the PANNs silence."""
        return self.normalised(0.0 if self.kind == "ast" else -100.0)

    def normalised(self, log_mel: Any) -> Any:
        """Log-mel values, a number or a tensor, with mean 0 and standard deviation 0.5 over the data of `mean` and `std`."""
        return (log_mel - self.mean) / (2 * self.std)

    def restored(self, log_mel: Any) -> Any:
        """What `normalised` was given."""
        return log_mel * (2 * self.std) + self.mean


class LogMel(nn.Module):
    """Batched log-mel filter bank energies, normalised.

    `ast` equals `transformers.ASTFeatureExtractor` to 1e-4, but takes a batch, runs where its input lies, keeps every frame and
    says which frames are real. The PANNs' kinds equal, before normalisation, what their authors compute with librosa's
    filters: centred frames, the clip mirrored at both ends.
    """

    window: Tensor
    mel_banks: Tensor

    def __init__(self, settings: FeatureSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or FeatureSettings()
        kaldi = self.settings.kind == "ast"
        window = torch.hann_window(FRAME_LENGTH, periodic=False) if kaldi else torch.hann_window(FFT_LENGTH)
        banks = _kaldi_banks(self.settings.num_mel_bins) if kaldi else _panns_banks(self.settings)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_banks", banks, persistent=False)  # (257, num_mel_bins)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a batch.

        Args:
            waveforms: (B, N) float32 in [-1, 1] at 16 kHz; what lies beyond a clip's length is ignored.
            lengths: (B,) integer; samples of each clip, at least 1.

        Returns:
            log-mel (B, T, num_mel_bins) with T the frames of the longest clip, and mask (B, T) bool, True for real
            frames. A clip shorter than one frame (25 or 32 ms) is filled up with silence and has one frame at least.

        Raises:
            ValueError: shapes don't fit together, or a length is not within 1 … N.
        """
        if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
            raise ValueError(
                f"got waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)}; expected (B, N) and (B,)"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > waveforms.shape[1]:
            raise ValueError(f"got lengths {lengths.tolist()}; expected 1 to {waveforms.shape[1]} samples each")
        frames, longest = frame_count(lengths, self.settings.kind), int(lengths.max())
        waveforms, size = waveforms[:, :longest].float(), len(self.window)
        if int(lengths.min()) < longest:
            samples = torch.arange(longest, device=waveforms.device)
            waveforms = waveforms.masked_fill(samples >= lengths.to(waveforms.device)[:, None], 0.0)
        if self.settings.level is not None:
            waveforms = waveforms * gains(waveforms, lengths.to(waveforms.device), self.settings.level)[:, None]
        if longest < size:
            waveforms = nn.functional.pad(waveforms, (0, size - longest))
        if self.settings.kind != "ast":
            waveforms = _mirrored(waveforms, lengths.to(waveforms.device))
        framed = waveforms.unfold(1, size, HOP_LENGTH)[:, : int(frames.max())]
        log_mel = self._in_pieces(framed)
        mask = torch.arange(log_mel.shape[1], device=log_mel.device) < frames.to(log_mel.device)[:, None]
        if not bool(mask.all()):
            log_mel.masked_fill_(~mask[:, :, None], self.settings.padding)
        return log_mel, mask

    def _in_pieces(self, framed: Tensor) -> Tensor:
        """(B, T, 400 or 512) samples → log-mel (B, T, num_mel_bins).

        A CPU is fastest with little at a time, which stays in its cache, and each thread with a clip of its own: threads that
        share each operation wait for each other hundreds of times, for milliseconds where another program has a core. A GPU
        is fastest with much.
        """
        log_mel = framed.new_empty(*framed.shape[:2], self.settings.num_mel_bins)
        on_cpu = framed.device.type == "cpu"
        rows, columns = (1, CACHED_FRAMES) if on_cpu else (len(framed), CHUNK_FRAMES)
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
        """(B, T, 400 or 512) samples → log-mel (B, T, num_mel_bins), normalised."""
        if self.settings.kind == "ast":
            frames = frames - frames.mean(dim=-1, keepdim=True)
            # The first sample would be its own predecessor, but there the window is 0.
            frames = frames - PREEMPHASIS * nn.functional.pad(frames, (1, 0))[..., :-1]
        spectra = torch.fft.rfft(frames * self.window, FFT_LENGTH)
        energies = (spectra.real.square() + spectra.imag.square()) @ self.mel_banks
        if self.settings.kind == "ast":
            log_mel = energies.clamp_min(torch.finfo(torch.float32).eps).log()
        else:
            log_mel = 10 * energies.clamp_min(PANNS_FLOOR).log10()
        normalised: Tensor = self.settings.normalised(log_mel)
        return normalised


def gains(waveforms: Tensor, lengths: Tensor, level: float) -> Tensor:
    """What softer clips are multiplied by to be as loud as `level`; see `FeatureSettings`.

    Args:
        waveforms: (B, N) with zeros beyond a clip's length.
        lengths: (B,) samples of each clip, at least 1.
        level: dBFS.

    Returns:
        (B,), at least 1.
    """
    padded = nn.functional.pad(waveforms, (0, -waveforms.shape[1] % LOUDNESS_FRAME))
    # Variances: a constant offset, as poor sound cards leave it, is not heard.
    powers = padded.unflatten(1, (-1, LOUDNESS_FRAME)).var(dim=2, correction=0)
    frames = (lengths // LOUDNESS_FRAME).clamp_min(1)  # whole ones
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


def frame_count(samples: Tensor, kind: FeatureKind = "ast") -> Tensor:
    """Frames of a waveform of so many samples at 16 kHz; at least 1."""
    if kind != "ast":
        return samples // HOP_LENGTH + 1
    return ((samples - FRAME_LENGTH).clamp_min(0) // HOP_LENGTH) + 1


def _kaldi_banks(num_mel_bins: int) -> Tensor:
    """(257, num_mel_bins): Kaldi's filters."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        # Of 128 filters the lowest lie between two FFT points; AST learnt with them as they are.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        banks = mel_filter_bank(
            FFT_LENGTH // 2 + 1,
            num_mel_bins,
            LOWEST_FREQUENCY,
            SAMPLE_RATE / 2,
            SAMPLE_RATE,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return torch.from_numpy(banks).float()


def _panns_banks(settings: FeatureSettings) -> Tensor:
    """(257, num_mel_bins): Slaney's filters, as librosa has them.

    512 points at 16 kHz are spaced as 1,024 at 32 kHz: there the same bins follow up to 8 kHz, with twice the amplitude.
    """
    from transformers.audio_utils import mel_filter_bank

    times = 2 if settings.kind == "panns_32k" else 1
    highest = 14_000.0 if times == 2 else 8_000.0
    points, rate = FFT_LENGTH // 2 * times + 1, SAMPLE_RATE * times
    banks = mel_filter_bank(
        points, settings.num_mel_bins, PANNS_LOWEST_FREQUENCY, highest, rate, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(banks[: FFT_LENGTH // 2 + 1]).float() * times**2


def _mirrored(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """(B, N) with half a frame more at each end, where every clip goes on as its own mirror image."""
    half = FFT_LENGTH // 2
    # Of what is shorter than a frame the silence behind it is mirrored too.
    last = lengths.clamp_min(FFT_LENGTH)[:, None] - 1
    places = torch.arange(-half, waveforms.shape[1] + half, device=waveforms.device).abs()
    places = torch.where(places > last, 2 * last - places, places).clamp_min(0)
    return waveforms.gather(1, places)
