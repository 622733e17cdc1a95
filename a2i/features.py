"""Waveform → log-mel spectrogram: the Audio Spectrogram Transformer's exact numbers, a batch at a time, with a mask."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from a2i.audio import SAMPLE_RATE

FRAME_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
FFT_LENGTH = 512  # points
PREEMPHASIS = 0.97
LOWEST_FREQUENCY = 20.0  # Hz
CHUNK_FRAMES = 6_000  # one minute; bounds the memory that framing takes


@dataclass(frozen=True)
class FeatureSettings:
    """What a captioner was trained on; saved in its folder.

    Attributes:
        num_mel_bins: mel bins from 20 Hz to 8 kHz.
        mean: of the log-mel values that are subtracted (AudioSet's, from Gong et al. 2021).
        std: their standard deviation; values are divided by twice it.
    """

    num_mel_bins: int = 128
    mean: float = -4.2677393
    std: float = 4.5689974

    @property
    def padding(self) -> float:
        """What stands in masked frames: a log-mel of 0, normalised, as AST's own padding is."""
        return -self.mean / (2 * self.std)


class LogMel(nn.Module):
    """Batched Kaldi log-mel filter bank energies, normalised as AST expects them (Gong et al. 2021, section 2.1).

    Equals `transformers.ASTFeatureExtractor` to 1e-4, but takes a batch, runs where its input lies, keeps every frame and
    says which frames are real.
    """

    window: Tensor
    mel_banks: Tensor

    def __init__(self, settings: FeatureSettings | None = None) -> None:
        super().__init__()
        import torchaudio.compliance.kaldi as kaldi

        self.settings = settings or FeatureSettings()
        banks, _ = kaldi.get_mel_banks(
            self.settings.num_mel_bins, FFT_LENGTH, float(SAMPLE_RATE), LOWEST_FREQUENCY, 0.0, 100.0, -500.0, 1.0
        )
        # Kaldi's banks leave out the Nyquist bin: it is zero.
        banks = nn.functional.pad(banks, (0, 1)).T.contiguous()
        self.register_buffer("window", torch.hann_window(FRAME_LENGTH, periodic=False), persistent=False)
        self.register_buffer("mel_banks", banks, persistent=False)  # (257, num_mel_bins)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a batch.

        Args:
            waveforms: (B, N) float32 in [-1, 1] at 16 kHz; what lies beyond a clip's length is ignored.
            lengths: (B,) integer; samples of each clip, at least 1.

        Returns:
            log-mel (B, T, num_mel_bins) with T the frames of the longest clip, and mask (B, T) bool, True for real
            frames. A clip shorter than one frame (25 ms) is filled up with silence and has one frame.

        Raises:
            ValueError: shapes don't fit together, or a length is not within 1 … N.
        """
        if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
            raise ValueError(
                f"got waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)}; expected (B, N) and (B,)"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > waveforms.shape[1]:
            raise ValueError(f"got lengths {lengths.tolist()}; expected 1 to {waveforms.shape[1]} samples each")
        frames = frame_count(lengths)
        samples = torch.arange(waveforms.shape[1], device=waveforms.device)
        waveforms = waveforms.float().masked_fill(samples >= lengths.to(waveforms.device)[:, None], 0.0)
        waveforms = nn.functional.pad(waveforms, (0, max(0, FRAME_LENGTH - waveforms.shape[1])))
        # Under mixed precision the logarithm of tiny powers would lose its digits.
        with torch.autocast(waveforms.device.type, enabled=False):
            pieces = waveforms.unfold(1, FRAME_LENGTH, HOP_LENGTH)[:, : int(frames.max())].split(CHUNK_FRAMES, dim=1)
            log_mel = torch.cat([self._log_mel(piece) for piece in pieces], dim=1)
        mask = torch.arange(log_mel.shape[1], device=log_mel.device) < frames.to(log_mel.device)[:, None]
        log_mel = (log_mel - self.settings.mean) / (2 * self.settings.std)
        return log_mel.masked_fill(~mask[:, :, None], self.settings.padding), mask

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(B, T, 400) samples → (B, T, num_mel_bins) natural logarithm of mel energies."""
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        frames = (frames - PREEMPHASIS * previous) * self.window
        power = torch.fft.rfft(frames, n=FFT_LENGTH).abs().pow(2)
        return (power @ self.mel_banks).clamp_min(torch.finfo(torch.float32).eps).log()


def frame_count(samples: Tensor) -> Tensor:
    """Frames of a waveform of so many samples at 16 kHz; at least 1."""
    return ((samples - FRAME_LENGTH).clamp_min(0) // HOP_LENGTH) + 1
