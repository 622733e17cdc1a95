"""Any sound file → blocks of its channels, in flat memory and to the end, whatever its header says.

WAV, AIFF, AU, CAF and their kin are read by libsndfile, which knows all their variants. Everything else is decoded by
FFmpeg: libsndfile believes the headers of compressed files, and hears a part of them. Which it is, the content decides and
never the name.
"""

import os
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from a2i.audio.headers import Stream, Window, mpeg_frame_size, streams

if TYPE_CHECKING:
    import av

BLOCK = 1 << 16  # samples of each channel, about, that are handed on at once
SPOOLED = 1 << 26  # bytes of a pipe that are kept in memory; more go to a temporary file
EXPECTED = "expected wav, flac, mp3, ogg, opus, m4a or another sound file"
# What libsndfile leaves to FFmpeg.
COMPRESSED = ("VORBIS", "OPUS", "MPEG_LAYER")
# FFmpeg's demuxers that know a sound file by its content and open no other file. Not among them: pictures, subtitles, play
# lists, raw samples, and what only a file's name tells.
DEMUXERS = (
    "aa,aac,ac3,act,adx,aea,aiff,amr,ape,asf,ast,au,avi,bonk,caf,dff,dsf,dss,dts,dtshd,eac3,flac,flv,gxf,hca,iamf,iff,ircam,"
    "ivr,kux,laf,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nsv,nut,ogg,oma,osq,paf,pvf,qcp,qoa,rm,rso,sds,"
    "shn,sox,tak,truehd,tta,voc,vqf,w64,wav,wavarc,wsd,wtv,wv,wve,xwma"
)
STATED = ("flac", "ogg")  # of which FFmpeg knows how long a stream is: from its header, from its last page
COUNTED = ("wv", "tta", "ape")  # whose header says how many samples there are, and FFmpeg passes it on
SAMPLES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # FFmpeg's names
UNBROKEN = ("ogg", "flac")  # whose packets say where they belong, and leave no gap unless some are lost
GAP = 0.1  # seconds
CONSTANT = ("ac3", "dca")  # codecs whose packets are all of one size, but for a byte or two


class AudioError(ValueError):
    """A sound file that can't be used. The message says what was got, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Held(ABC):
    """Sound that is not a file of its own: it lies in something larger, such as a shard. Its text names it in messages.

    Attributes:
        suffix: the ending of a file that would hold it, such as `.flac`.
        size: bytes of its content.
        sha256: of its content.
        seconds: about how long it is.
    """

    suffix: str
    size: int
    sha256: bytes = field(repr=False)
    seconds: float

    @property
    def digest(self) -> str:
        """SHA-256 of its content, hexadecimal."""
        return self.sha256.hex()

    @abstractmethod
    def read(self) -> bytes:
        """Its content, as that of a sound file.

        Raises:
            OSError: what it lies in can't be read.
            AudioError: what it lies in holds something else there.
        """


@dataclass
class Notes:
    """What was wrong with a file that was heard nevertheless.

    Attributes:
        cut: what tells that it ends too soon; None where nothing does.
        damaged: packets that could not be decoded.
    """

    cut: str | None = None
    damaged: int = 0

    def line(self, seconds: float) -> str | None:
        """In one line; None for a file in order.

        Args:
            seconds: that were heard.
        """
        told = [f"cut short after {seconds:.1f} s ({self.cut})"] if self.cut else []
        if self.damaged:
            told.append(f"{self.damaged} damaged packet{'s' * (self.damaged > 1)} passed over")
        return "; ".join(told) or None


@dataclass(frozen=True)
class Block:
    """Samples that follow each other.

    Attributes:
        samples: (samples, channels) float32.
        rate: Hz.
        run: which of the stretches of one rate and number of channels it belongs to.
        base: seconds from the file's beginning to its stretch's.
        position: of its first sample, in its stretch.
    """

    samples: np.ndarray
    rate: int
    run: int
    base: float
    position: int


@contextmanager
def opened(path: Path | Held) -> Iterator[BinaryIO]:
    """A sound file to read and to seek in; what comes through a pipe, or is held in something, is kept aside meanwhile.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is a folder or a device, empty, or a link that leads nowhere.
    """
    if isinstance(path, Held):
        with tempfile.SpooledTemporaryFile(SPOOLED) as kept:
            kept.write(path.read())
            if not kept.tell():
                raise AudioError(f"{path}: is empty (0 bytes); expected a sound file")
            yield kept  # type: ignore[misc]
        return
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such file; expected a sound file") from None
    except OSError as error:  # a link to itself, a name that is too long
        raise AudioError(f"{path}: can't be found ({error.strerror}); expected a sound file") from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{path}: is a folder; expected a sound file")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise AudioError(f"{path}: is a device; expected a sound file or a pipe")
    with open(path, "rb") as file:
        if stat.S_ISREG(mode):
            if not os.fstat(file.fileno()).st_size:
                raise AudioError(f"{path}: is empty (0 bytes); expected a sound file")
            yield file
            return
        with tempfile.SpooledTemporaryFile(SPOOLED) as kept:
            while piece := file.read(1 << 20):
                kept.write(piece)
            if not kept.tell():
                raise AudioError(f"{path}: is empty (0 bytes); expected a sound file")
            yield kept  # type: ignore[misc]


def decode(file: BinaryIO, name: str, notes: Notes, start: float = 0.0) -> Generator[Block]:
    """All of a file, or from about `start` seconds on where that place is exactly known without decoding.

    Args:
        file: can be sought.
        name: for messages.
        notes: filled on the way; complete when all is decoded.
        start: seconds; what is given begins there or before.

    Raises:
        AudioError: nothing in it can be decoded.
    """
    size, found = file.seek(0, os.SEEK_END), streams(file)
    run, kind, base, position = -1, (0, 0), 0.0, 0
    for index, stream in enumerate(found):
        notes.cut = stream.cut or notes.cut
        try:
            for rate, first, samples in _decode_stream(file, stream, name, notes, start if len(found) == 1 else 0.0):
                if kind != (rate, samples.shape[1]):
                    base += position / kind[0] if kind[0] else 0.0
                    run, kind, position = run + 1, (rate, samples.shape[1]), first
                yield Block(samples, rate, run, base, position)
                position += len(samples)
        except AudioError as error:
            if run < 0 and index + 1 == len(found):
                raise AudioError(f"{error}; it is cut short: {notes.cut}") if notes.cut else error from None
            # What stands before or behind sound and is none takes nothing from it.
            notes.cut = notes.cut or f"stream {index + 1} of {len(found)} can't be read"
    if file.seek(0, os.SEEK_END) < size:
        notes.cut = "it got shorter while it was read"


def measure(file: BinaryIO, name: str, exact: bool) -> float:
    """Length of a file in seconds.

    Args:
        file: can be sought.
        name: for messages.
        exact: decode what libsndfile does not read; False to believe headers, last pages or packets.

    Raises:
        AudioError: it can't be read as sound.
    """
    seconds = 0.0
    for index, stream in enumerate(streams(file)):
        try:
            if (sound := _with_soundfile(file, stream)) is not None:
                with sound:
                    seconds += sound.frames / sound.samplerate
            elif exact:
                for rate, samples in _decode_with_ffmpeg(file, stream, name, Notes()):
                    seconds += len(samples) / rate
            else:
                seconds += _stated(file, stream, name)
        except AudioError:
            if not index:
                raise
    return seconds


def _stated(file: BinaryIO, stream: Stream, name: str) -> float:
    """Seconds of a stream, by its header, its last page or its packets."""
    with _with_ffmpeg(file, stream, name) as (container, audio):
        ticks = audio.duration if container.format.name in STATED else None
        if ticks is None:
            packets = (packet for packet in _packets(container, audio) if packet is not None)
            ticks = sum(packet.duration or 0 for packet in packets)
        return float(ticks * (audio.time_base or 0))


def _decode_stream(
    file: BinaryIO, stream: Stream, name: str, notes: Notes, start: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Rate, position of the first sample, and (samples, channels) float32."""
    sound = _with_soundfile(file, stream)
    if sound is None:
        yield from ((rate, 0, samples) for rate, samples in _decode_with_ffmpeg(file, stream, name, notes))
        return
    with sound:
        # A frame count of 0 may be a lie too, but there is no place to go then.
        first = min(round(start * sound.samplerate), sound.frames) if start else 0
        if first:
            sound.seek(first)
        while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
            yield sound.samplerate, first, block


def _with_soundfile(file: BinaryIO, stream: Stream) -> Any:
    """The opened stream; None where libsndfile does not know it, or should not be believed."""
    if stream.kind not in ("samples", "unknown"):
        return None
    import soundfile

    try:
        sound = soundfile.SoundFile(Window(file, stream))
    except (soundfile.LibsndfileError, TypeError):
        return None
    if sound.format in ("FLAC", "OGG", "MP3") or sound.subtype.startswith(COMPRESSED):
        sound.close()
        return None
    return sound


@contextmanager
def _with_ffmpeg(
    file: BinaryIO, stream: Stream, name: str
) -> Iterator[tuple["av.container.InputContainer", "av.AudioStream"]]:
    """The container, and the first of its sounds that is for everyone."""
    import av

    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(Window(file, stream), "r", container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise AudioError(f"{name}: can't be read as sound ({error.strerror}); {EXPECTED}") from error
    with container:
        sounds = [each for each in container.streams.audio if each.codec_context is not None]
        if not sounds:
            held = "sound in a format that FFmpeg can't decode" if container.streams.audio else "no audio stream"
            raise AudioError(f"{name}: holds {held}; {EXPECTED}")
        audio = next((each for each in sounds if each.disposition & av.stream.Disposition.default), sounds[0])
        audio.codec_context.thread_count = 1
        yield container, audio


def _decode_with_ffmpeg(file: BinaryIO, stream: Stream, name: str, notes: Notes) -> Iterator[tuple[int, np.ndarray]]:
    """Rate and (samples, channels) float32."""
    import av

    with _with_ffmpeg(file, stream, name) as (container, audio):
        samples, packets, damaged, unfinished, rate = 0, 0, 0, False, audio.rate
        due, lost = None, 0.0  # ticks of the next packet; seconds that lie in gaps
        size, smallest = 0, 1 << 62  # bytes of a packet: of the last, of those before
        waiting: list[np.ndarray] = []
        held = 0  # samples that wait
        for packet in _packets(container, audio):
            if packet is None:
                unfinished = True
                continue
            if packet.pts is not None and container.format.name in UNBROKEN:
                gap = float((packet.pts - (packet.pts if due is None else due)) * packet.time_base)
                damaged, lost = damaged + (gap > GAP), lost + gap * (gap > GAP)
                due = packet.pts + (packet.duration or 0)
            try:
                frames = audio.codec_context.decode(packet)
            except av.FFmpegError:
                if stream.kind == "mp3" and bytes(packet)[:1] != b"\xff":  # a tag between joined files
                    continue
                damaged, unfinished, frames = damaged + 1, True, []
            else:
                unfinished = packet.is_corrupt if packet.size else unfinished
            if packet.size:
                packets, smallest, size = packets + 1, min(smallest, size or smallest), packet.size
                if stream.kind == "mp3":
                    unfinished = unfinished or size < mpeg_frame_size(bytes(packet)[:4])
            for frame in frames:
                block = _floats(frame)
                if waiting and (frame.rate != rate or block.shape[1] != waiting[0].shape[1]):
                    yield rate, np.concatenate(waiting)
                    waiting, held = [], 0
                rate = frame.rate
                waiting.append(block)
                held, samples = held + len(block), samples + len(block)
            if held >= BLOCK:
                yield rate, np.concatenate(waiting)
                waiting, held = [], 0
        if waiting:
            yield rate, np.concatenate(waiting)
        if audio.codec_context.name in CONSTANT:
            unfinished = unfinished or size + 2 < smallest < 1 << 62
        said = stream.samples
        if container.format.name in COUNTED and audio.duration is not None:
            said = round(audio.duration * (audio.time_base or 0) * rate)
        if not samples or damaged > packets / 2:
            raise AudioError(f"{name}: {damaged} of {packets} packets can't be decoded; {EXPECTED}")
    if said is not None and samples + round(lost * rate) < said:
        notes.cut = f"its header says {said / rate:.1f} s"
    elif stream.packets is not None and packets + 2 < stream.packets:
        notes.cut = f"its header says {stream.packets:,} packets, {packets:,} are there"
    elif unfinished and notes.cut is None:
        notes.cut = "its last packet is not whole"
    notes.damaged += damaged - (damaged > 0 and unfinished and notes.cut is not None)


def _packets(container: "av.container.InputContainer", audio: "av.AudioStream") -> Iterator["av.Packet | None"]:
    """The packets of a stream; None for a place where the container can't be read, behind which it may go on."""
    import av

    failures = 0
    while failures < 100:
        try:
            yield from container.demux(audio)
            return
        except (
            av.FFmpegError,
            IndexError,
        ):  # IndexError: PyAV does not know a stream that begins later, as damage may feign
            failures += 1
            yield None


def _floats(frame: "av.AudioFrame") -> np.ndarray:
    """(samples, channels) float32 in [-1, 1]."""
    kind, channels = np.dtype(SAMPLES[frame.format.name.removesuffix("p")]), frame.layout.nb_channels
    planes = frame.planes if frame.format.is_planar else frame.planes[:1]
    count = frame.samples * channels // len(planes)
    # As `to_ndarray`, but twice as fast: a Vorbis frame may have no more than 128 samples.
    samples = np.stack([np.frombuffer(memoryview(plane), kind, count) for plane in planes], axis=-1).reshape(
        -1, channels
    )
    if kind == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if kind.kind == "i":
        return (samples * (1 / (1 << 8 * kind.itemsize - 1))).astype(np.float32)
    return samples.astype(np.float32, copy=False)
