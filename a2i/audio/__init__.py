"""Any sound file → mono float32 waveform in [-1, 1] at the sampling rate that is asked for.

A file is heard as far as it decodes, whatever its header says of its length (`a2i.audio.files`), in a process that can die
alone (`a2i.audio.apart`); channels are mixed so that no sound is lost (`a2i.audio.mixing`). It goes through in blocks: an hour
takes no more memory than a minute.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from a2i.audio.apart import decode, measure
from a2i.audio.files import BLOCK, Block, Notes, opened
from a2i.audio.files import AudioError as AudioError
from a2i.audio.files import Held as Held
from a2i.audio.mixing import CONTEXT, mix

RATES = (1_000, 1_000_000)  # Hz, of files that are taken for sound
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


class Recording:
    """A sound file, to be read in blocks from its beginning to its end.

    Attributes:
        path: the file, what is held in something else, or a pipe, which can be read once.
        rate: Hz that the blocks have.
        seconds: that were read, when a reading is through.
        warning: what was wrong with the file though it could be read (it is cut short, some of it is damaged), in one
            line; None if nothing was, if `end` came first, or before a reading is through.
    """

    def __init__(self, path: str | Path | Held, rate: int) -> None:
        self.path, self.rate = path if isinstance(path, Held) else Path(path), rate
        self.seconds = 0.0
        self.warning: str | None = None

    def blocks(self, start: float | None = None, end: float | None = None) -> Iterator[np.ndarray]:
        """Read the file.

        Args:
            start: seconds from the file's beginning; None for the beginning.
            end: seconds from the file's beginning; None, or anything past it, for the file's end.

        Yields:
            (samples,) float32 in [-1, 1], some seconds at a time, together at least one sample. Together they are the same
            samples, however many there are in each.

        Raises:
            FileNotFoundError: there is no such file.
            AudioError: it is a folder, no sound file, holds no samples in the asked range, or samples that are no numbers.
        """
        begin, samples, heard = start or 0.0, 0, False
        if begin < 0 or (end is not None and end <= begin):
            raise AudioError(
                f"{self.path}: asked for {begin} s to {end} s; expected 0 or later, and an end after the start"
            )
        notes = Notes()
        with (
            opened(self.path) as file,
            closing(decode(file, str(self.path), notes, max(begin - CONTEXT, 0.0))) as decoded,
        ):
            for _, run in groupby(decoded, key=lambda block: block.run):
                for block in self._resampled(run, begin, end):
                    heard, samples = True, samples + len(block)
                    if len(block):
                        yield block
                if end is not None and samples >= round((end - begin) * self.rate):
                    break
            else:
                self.warning = notes.line(begin + samples / self.rate)
        if not heard:
            span = "" if start is None and end is None else f" between {begin} s and {end if end else 'the end'}"
            raise AudioError(f"{self.path}: holds no samples{span}; expected at least one. Is the file complete?")
        if not samples:
            # A handful of samples can resample to none at all; one silent sample keeps the promise above.
            samples = 1
            yield np.zeros(1, np.float32)
        self.seconds = samples / self.rate

    def _resampled(self, run: Iterator[Block], begin: float, end: float | None) -> Iterator[np.ndarray]:
        """What lies between `begin` and `end` of a stretch of one rate: mixed down, resampled, clipped."""
        head = next(run)
        rate, position = head.rate, head.position
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(f"{self.path}: says it has {rate} samples a second; expected {RATES[0]:,} to {RATES[1]:,}")
        first = max(round((begin - head.base) * rate), 0)
        last = None if end is None else max(round((end - head.base) * rate), 0)
        resampler = None
        if rate != self.rate:
            import soxr

            resampler = soxr.ResampleStream(rate, self.rate, 1, dtype="float32")
        some = False
        for block in mix(chain([head.samples], (block.samples for block in run)), rate, position):
            piece = block[max(first - position, 0) : None if last is None else max(last - position, 0)]
            position += len(block)
            if len(piece):
                if not np.isfinite(piece).all():
                    raise AudioError(
                        f"{self.path}: some samples are not numbers (NaN or infinite); export the file again"
                    )
                some = True
                yield _clipped(piece if resampler is None else resampler.resample_chunk(np.ascontiguousarray(piece)))
            if last is not None and position >= last:
                break
        if some and resampler is not None:
            yield _clipped(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def load(path: str | Path | Held, rate: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Read a sound file.

    Args:
        path: the sound file, or what holds its content; any sample rate and number of channels.
        rate: of the waveform, in Hz.
        start: seconds from the file's beginning; None for the beginning.
        end: seconds from the file's beginning; None, or anything past it, for the file's end.

    Returns:
        (samples,) float32 in [-1, 1] at `rate`, at least one sample. Channels are averaged, but for what that would
        silence; see `a2i.audio.mixing`. Samples of floating-point files beyond full scale are clipped, as a sound card would.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is a folder, no sound file, holds no samples in the asked range, or samples that are no numbers.
    """
    return np.concatenate(list(Recording(path, rate).blocks(start, end)))


def mix_down(samples: np.ndarray, rate: int) -> np.ndarray:
    """Several channels → one, with no sound lost, as `load` does it; see `a2i.audio.mixing`.

    Args:
        samples: (samples, channels) float32 in [-1, 1].
        rate: Hz.

    Returns:
        (samples,) float32: the channels' average, but for what that would silence. No louder than the loudest channel in any
        band, and clipped at full scale.

    Raises:
        ValueError: it has another number of dimensions, or no channel.
    """
    if samples.ndim != 2 or not samples.shape[1]:
        raise ValueError(f"got samples of shape {samples.shape}; expected (samples, channels), at least one channel")
    blocks = (samples[first : first + BLOCK].astype(np.float32, copy=False) for first in range(0, len(samples), BLOCK))
    return _clipped(np.concatenate([np.zeros(0, np.float32), *mix(blocks, rate)]))


def duration(path: str | Path | Held, exact: bool = True) -> float:
    """Length of a sound file in seconds.

    Args:
        path: the sound file, or what holds its content.
        exact: what decodes; False for what headers, last pages or packets say, which is quick and nearly always the same, to
            sort by and to plan with.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it can't be read as sound.
    """
    with opened(path if isinstance(path, Held) else Path(path)) as file:
        return measure(file, str(path), exact)


def _clipped(waveform: np.ndarray) -> np.ndarray:
    return np.clip(waveform, -1.0, 1.0).astype(np.float32, copy=False)
