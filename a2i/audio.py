"""Any sound file → mono float32 waveform in [-1, 1] at 16 kHz.

soundfile (libsndfile) reads wav, flac, mp3, ogg and opus with nothing else installed; PyAV, the `media` extra, adds m4a
and the other formats that FFmpeg knows.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000  # Hz, what AST was trained on
SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64",
     ".m4a", ".mp4", ".aac", ".wma", ".webm", ".mka", ".amr"}
)  # fmt: skip


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
    if start is not None and end is not None and end <= start:
        raise AudioError(f"{path}: asked for {start} s to {end} s, which is no time at all; the end must come later")
    waveform, rate = _decode(path, start or 0.0, end)
    if waveform.size == 0:
        span = "" if start is None and end is None else f" between {start or 0} s and {end if end else 'the end'}"
        raise AudioError(f"{path}: holds no samples{span}; expected at least one. Is the file complete?")
    waveform = waveform.mean(axis=1, dtype=np.float32)
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
        return float(soundfile.info(str(path)).duration)
    except soundfile.LibsndfileError as error:
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
    """(frames, channels) float32 and its sample rate in Hz."""
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            first = min(round(start * rate), file.frames)
            file.seek(first)
            frames = -1 if end is None else max(round(end * rate) - first, 0)
            return file.read(frames, dtype="float32", always_2d=True), rate
    except soundfile.LibsndfileError as error:
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
                block.to_ndarray() for frame in [*container.decode(stream), None] for block in resampler.resample(frame)
            ]
            rate = int(stream.rate)
    except av.FFmpegError as error:
        raise AudioError(
            f"{path}: can't be read as sound ({error}); expected wav, flac, mp3, ogg, opus, m4a …"
        ) from error
    return (np.concatenate(blocks, axis=1).T if blocks else np.zeros((0, 1), np.float32)), rate


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return AudioError(
        f"{path}: can't be read as sound ({reason}); expected wav, flac, mp3, ogg or opus"
        ' (m4a and more: pip install "a2i[media]")'
    )
