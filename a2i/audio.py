"""Any sound file → mono float32 waveform in [-1, 1] at 16 kHz.

soundfile (libsndfile) reads wav, flac, mp3, ogg and opus with nothing else installed; PyAV, the `media` extra, adds m4a
and the other formats that FFmpeg knows.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000  # Hz, what AST was trained on
RATES = (1_000, 1_000_000)  # Hz, of files that are taken for sound
UNKNOWN = 1 << 48  # samples; headers without a length give more
BLOCK = 1 << 20  # samples of each channel that are decoded at once
# Endings of files that can be heard alone: sound, and video with sound. Samples without a header are not among them.
SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".8svx", ".svx",
     ".avr", ".paf", ".pvf", ".ircam", ".sph", ".nist", ".flac", ".wv", ".ape", ".tta", ".tak", ".shn",
     ".dsf", ".mp1", ".mp2", ".mp3", ".mpa", ".m2a", ".mpga", ".aac", ".adts", ".m4a", ".m4b", ".m4r", ".f4a", ".ac3",
     ".eac3", ".ec3", ".dts", ".dtshd", ".thd", ".mlp", ".ogg", ".oga", ".ogx", ".opus", ".spx", ".mpc", ".mp+", ".wma",
     ".asf", ".xwma", ".ra", ".rm", ".rmvb", ".amr", ".awb", ".3ga", ".qcp", ".oma", ".aa3", ".mka", ".weba",
     ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".f4v", ".flv", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".wmv",
     ".ogv", ".ogm", ".mpg", ".mpeg", ".mpe", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".dv", ".mxf", ".nut", ".wtv"}
)  # fmt: skip
SHARED_SUFFIXES = frozenset({".ts", ".mts"})  # that other kinds of files have as well: TypeScript


class AudioError(ValueError):
    """A sound file that can't be used. The message says what was got, what was expected and what to do."""


def load(path: str | Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Read a sound file.

    Args:
        path: the sound file; any sample rate and number of channels.
        start: seconds from the file's beginning; None for the beginning.
        end: seconds from the file's beginning; None, or anything past it, for the file's end.

    Returns:
        (samples,) float32 in [-1, 1] at 16,000 Hz, at least one sample. Channels are averaged. Samples of floating-point
        files beyond full scale are clipped, as a sound card would.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is a folder, no sound file, holds no samples in the asked range, or samples that are no numbers.
    """
    path = _existing(path)
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise AudioError(
            f"{path}: asked for {start or 0} s to {end} s; expected 0 or later, and an end after the start"
        )
    waveform, rate = _decode(path, start or 0.0, end)
    if waveform.size == 0:
        span = "" if start is None and end is None else f" between {start or 0} s and {end if end else 'the end'}"
        raise AudioError(f"{path}: holds no samples{span}; expected at least one. Is the file complete?")
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: says it has {rate} samples a second; expected {RATES[0]:,} to {RATES[1]:,}")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{path}: some samples are not numbers (NaN or infinite); export the file again")
    if rate != SAMPLE_RATE:
        import soxr

        # A handful of samples can resample to none at all; one silent sample keeps the promise above.
        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
        waveform = waveform if waveform.size else np.zeros(1, np.float32)
    return np.clip(waveform, -1.0, 1.0).astype(np.float32, copy=False)


def duration(path: str | Path) -> float:
    """Length of a sound file in seconds, from its header where soundfile knows the format.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it can't be read as sound.
    """
    import soundfile

    path = _existing(path)
    try:
        info = soundfile.info(os.fsencode(path))
        # A stream that was never closed does not say how long it is.
        return float(info.duration) if info.frames < UNKNOWN else len(load(path)) / SAMPLE_RATE
    except (soundfile.LibsndfileError, TypeError) as error:
        if find_spec("av") is None:
            raise _unreadable(path, error) from error
        waveform, rate = _decode_with_av(path, error)
        return len(waveform) / rate


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; expected a sound file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected a sound file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); expected a sound file")
    return path


def _decode(path: Path, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """(samples,) float32, channels averaged, and the sample rate in Hz."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = file.samplerate
            first = min(round(start * rate), file.frames)
            file.seek(first)
            left = None if end is None else max(round(end * rate) - first, 0)
            blocks = []
            # Block by block: the length in a header may be unknown or a lie, and an hour in stereo need not lie in memory.
            while left is None or left > 0:
                block = file.read(BLOCK if left is None else min(BLOCK, left), dtype="float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(block.mean(axis=1, dtype=np.float32))
                left = None if left is None else left - len(block)
            return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate
    # A TypeError: raw samples, which say neither rate nor format.
    except (soundfile.LibsndfileError, TypeError) as error:
        waveform, rate = _decode_with_av(path, error)
        return waveform[round(start * rate) : None if end is None else round(end * rate)], rate


def _decode_with_av(path: Path, first_error: Exception) -> tuple[np.ndarray, int]:
    if find_spec("av") is None:
        raise _unreadable(path, first_error) from first_error
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: holds no audio stream; expected a recording")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            blocks = [
                block.to_ndarray().mean(axis=0, dtype=np.float32)
                for frame in [*container.decode(stream), None]
                for block in resampler.resample(frame)
            ]
            rate = int(stream.rate)
    except (av.FFmpegError, UnicodeError) as error:
        raise AudioError(
            f"{path}: can't be read as sound ({error}); expected wav, flac, mp3, ogg, opus, m4a …"
        ) from error
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return AudioError(
        f"{path}: can't be read as sound ({reason}); expected wav, flac, mp3, ogg or opus"
        ' (m4a and more: pip install "a2i[media]")'
    )
