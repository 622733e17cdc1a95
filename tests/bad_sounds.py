"""Sound files such as nobody should make, made by rule: a few hundred in a folder, each with what may become of it."""

import math
import os
import struct
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

SECONDS = 1.5
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 384_000)
CHANNELS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
SUBTYPES = (
    "PCM_U8",
    "PCM_16",
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
    "IMA_ADPCM",
    "MS_ADPCM",
    "GSM610",
)
# Containers with the codecs that are tried in each; what the build of FFmpeg can't write is left out.
CONTAINERS = {
    "wav": ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms",
            "adpcm_ima_wav", "adpcm_swf", "adpcm_yamaha", "mp2", "libmp3lame", "ac3", "aac", "g722", "wmav2", "flac"),
    "w64": ("pcm_s16le", "pcm_f32le", "adpcm_ms"),
    "aiff": ("pcm_s8", "pcm_s16be", "pcm_s24be", "pcm_f32be", "pcm_f64be", "pcm_alaw", "adpcm_ima_qt"),
    "caf": ("pcm_s16be", "pcm_s24le", "pcm_f32le", "alac", "flac", "libopus", "pcm_mulaw"),
    "au": ("pcm_s16be", "pcm_f32be", "pcm_mulaw", "pcm_alaw"),
    "voc": ("pcm_u8", "pcm_s16le"),
    "flac": ("flac",),
    "mp2": ("mp2",),
    "mp3": ("libmp3lame",),
    "adts": ("aac",),
    "ac3": ("ac3",),
    "eac3": ("eac3",),
    "dts": ("dca",),
    "ogg": ("libvorbis", "vorbis", "libopus", "flac", "libspeex"),
    "oga": ("flac",),
    "opus": ("libopus",),
    "spx": ("libspeex",),
    "ipod": ("aac", "alac", "ac3"),
    "mp4": ("aac", "alac", "ac3", "eac3", "libmp3lame", "libopus", "flac"),
    "mov": ("aac", "alac", "pcm_s16le", "pcm_s24be", "pcm_f32le", "pcm_mulaw", "adpcm_ima_qt", "libmp3lame"),
    "3gp": ("aac",),
    "matroska": ("aac", "ac3", "flac", "libmp3lame", "mp2", "libopus", "libvorbis", "pcm_s16le", "pcm_f32le", "alac", "tta",
                 "wavpack", "truehd", "dca"),
    "webm": ("libopus", "libvorbis"),
    "avi": ("pcm_s16le", "libmp3lame", "ac3", "mp2", "adpcm_ms", "aac"),
    "asf": ("wmav1", "wmav2", "libmp3lame"),
    "flv": ("aac", "libmp3lame", "pcm_s16le", "adpcm_swf", "nellymoser"),
    "mpegts": ("aac", "ac3", "mp2", "libmp3lame"),
    "mpeg": ("mp2", "ac3"),
    "nut": ("pcm_s16le", "libvorbis", "flac", "aac"),
    "rm": ("ac3", "real_144"),
    "tta": ("tta",),
    "wv": ("wavpack",),
    "mxf": ("pcm_s16le", "pcm_s24le"),
    "truehd": ("truehd",),
    "mlp": ("mlp",),
    "rso": ("pcm_u8",),
    "ircam": ("pcm_s16le", "pcm_f32le"),
    "amr": ("libopencore_amrnb",),
    "sox": ("pcm_s32le",),
    "xwma": ("wmav2",),
}  # fmt: skip
NARROW = {"libspeex", "nellymoser", "g722", "real_144", "libopencore_amrnb", "gsm", "adpcm_swf"}  # mono, or low rates


@dataclass(frozen=True)
class Case:
    """A file.

    Attributes:
        path: where it is.
        kind: which rule made it.
        fate: `heard`, `refused`, or `either` where both are right.
    """

    path: Path
    kind: str
    fate: str = "either"


def sound(rate: int = 44_100, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    """(samples, channels) float32: a tone that swells, another one in each channel."""
    times = np.arange(round(seconds * rate)) / rate
    swell = 0.2 + 0.2 * np.sin(2 * math.pi * 3 * times)
    return np.stack([swell * np.sin(2 * math.pi * (200 + 37 * each) * times) for each in range(channels)], 1).astype(
        "f4"
    )


def encode(path: Path, container: str, codec: str, channels: int = 2, rate: int = 44_100) -> Path | None:
    """Write a file with FFmpeg; None where this build can't."""
    if codec in NARROW:
        channels, rate = 1, {"g722": 16_000, "adpcm_swf": 22_050}.get(codec, 8_000)
    try:
        with av.open(path, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate)
            context = stream.codec_context
            context.layout = "stereo" if channels == 2 else "mono"
            context.options = {"strict": "-2"}
            wanted = (context.codec.audio_formats or [av.AudioFormat("s16")])[0]
            context.format = wanted
            resampler = av.AudioResampler(wanted, context.layout, rate, frame_size=context.frame_size or 0)
            samples = sound(rate, channels)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", context.layout.name)
            frame.sample_rate = rate
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
    except (av.FFmpegError, ValueError, OverflowError):
        path.unlink(missing_ok=True)
        return None
    return path if path.stat().st_size else None


def corpus(folder: Path) -> list[Case]:
    """Make all of them below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    for rule in RULES:
        own = folder / rule.__name__
        own.mkdir()
        cases += rule(own)
    return cases


def containers(folder: Path) -> Iterator[Case]:
    """Everything that this build of FFmpeg writes, whole."""
    for container, codecs in CONTAINERS.items():
        for codec in codecs:
            if made := encode(folder / f"{codec}.{container}", container, codec):
                yield Case(made, "container", "heard")


def kinds_of_samples(folder: Path) -> Iterator[Case]:
    for rate in RATES:
        soundfile.write(folder / f"{rate}.wav", sound(rate), rate)
        yield Case(folder / f"{rate}.wav", "rate", "heard")
    for channels in CHANNELS:
        soundfile.write(folder / f"{channels}_channels.wav", sound(16_000, channels), 16_000)
        yield Case(folder / f"{channels}_channels.wav", "channels", "heard")
    for subtype in SUBTYPES:
        soundfile.write(folder / f"{subtype}.wav", sound(8_000), 8_000, subtype)
        yield Case(folder / f"{subtype}.wav", "depth", "heard")
    for count in (0, 1, 2, 3, 10, 100):
        soundfile.write(folder / f"{count}_samples.wav", sound()[:count], 44_100)
        yield Case(folder / f"{count}_samples.wav", "hardly any", "heard" if count else "refused")
    constant = np.full(22_050, 0.5, np.float32)
    for name, samples in (
        ("dc", constant),
        ("full", np.sign(sound())[:, 0]),
        ("loud", 100 * sound()),
        ("still", 0 * constant),
    ):
        soundfile.write(folder / f"{name}.wav", samples, 44_100, "FLOAT")
        yield Case(folder / f"{name}.wav", "level", "heard")
    for value in (np.nan, np.inf, -np.inf):
        samples = sound()
        samples[1000] = value
        soundfile.write(folder / f"{value}.wav", samples, 44_100, "FLOAT")
        yield Case(folder / f"{value}.wav", "no number", "refused")
    for rate in (0, 1, 500, 2_000_000, 0xFFFFFFFF):
        data = bytearray(_wav())
        data[24:28] = struct.pack("<I", rate)
        yield _written(folder / f"rate_{rate}.wav", data, "rate that can't be", "refused")


def truncated(folder: Path) -> Iterator[Case]:
    """Cut at every tenth of their length, and behind the first bytes."""
    for container, codec in (
        ("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libvorbis"), ("opus", "libopus"),
        ("ipod", "aac"), ("matroska", "libopus"), ("adts", "aac"), ("aiff", "pcm_s16be"), ("asf", "wmav2"),
    ):  # fmt: skip
        whole = encode(folder / f"whole.{container}", container, codec)
        if whole is None:
            continue
        data = whole.read_bytes()
        whole.unlink()
        for tenth in range(1, 10):
            yield _written(folder / f"{tenth}_tenths.{container}", data[: len(data) * tenth // 10], "truncated")
        for count in (1, 4, 12, 44):
            yield _written(folder / f"{count}_bytes.{container}", data[:count], "header", "either")


def headers_that_lie(folder: Path) -> Iterator[Case]:
    data = _wav()
    for name, size in (
        ("none", 0),
        ("little", 100),
        ("double", 2 * len(data)),
        ("endless", 0xFFFFFFFF),
        ("odd", 0x7FFFFFFF),
    ):
        lying = bytearray(data)
        lying[40:44] = struct.pack("<I", size)
        yield _written(folder / f"data_{name}.wav", lying, "lie", "heard")
        lying[4:8] = struct.pack("<I", size)
        yield _written(folder / f"both_{name}.wav", lying, "lie", "heard")
    for place, kind, values in (
        (22, "<H", (0, 65_535)),
        (32, "<H", (0, 7)),
        (34, "<H", (0, 3, 65)),
        (20, "<H", (0, 0x1234)),
    ):
        for value in values:
            lying = bytearray(data)
            lying[place : place + 2] = struct.pack(kind, value)
            yield _written(folder / f"byte_{place}_{value}.wav", lying, "lie")


def what_is_no_sound(folder: Path) -> Iterator[Case]:
    for suffix in ("wav", "mp3", "flac", "ogg", "m4a", "webm", "aiff"):
        yield _written(folder / f"empty.{suffix}", b"", "empty", "refused")
        yield _written(folder / f"text.{suffix}", b"These are only words.\n" * 50, "text", "refused")
        yield _written(folder / f"zeros.{suffix}", bytes(5_000), "zeros", "refused")
        noise = np.random.default_rng(len(suffix)).bytes(20_000)
        yield _written(folder / f"noise.{suffix}", noise, "noise")
    picture = b"\x89PNG\r\n\x1a\n" + bytes(200)
    yield _written(folder / "picture.wav", picture, "picture", "refused")
    yield _written(folder / "page.mp3", b"<!doctype html><html><body>404</body></html>" * 20, "page", "refused")
    yield _written(folder / "list.mp3", b"#EXTM3U\n/etc/passwd\nhttp://127.0.0.1:9/a.mp3\n", "list", "refused")
    yield _written(folder / "concat.wav", b"ffconcat version 1.0\nfile /etc/passwd\n", "list", "refused")
    yield _written(folder / "subtitle.ogg", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n" * 9, "subtitle", "refused")


def wrong_endings(folder: Path) -> Iterator[Case]:
    data = {name: made.read_bytes() for name, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"),
            ("ogg", "libvorbis")) if (made := encode(folder / f"x.{name}", name, codec))}  # fmt: skip
    for true, bytes_ in data.items():
        (folder / f"x.{true}").unlink()
        for said in ("wav", "flac", "mp3", "ogg", "m4a", "aiff"):
            if said != true:
                yield _written(folder / f"{true}_in_truth.{said}", bytes_, "wrong ending", "heard")


def joined(folder: Path) -> Iterator[Case]:
    for container, codec in (
        ("mp3", "libmp3lame"),
        ("ogg", "libvorbis"),
        ("opus", "libopus"),
        ("flac", "flac"),
        ("adts", "aac"),
    ):
        made = encode(folder / f"one.{container}", container, codec)
        if made is None:
            continue
        data = made.read_bytes()
        made.unlink()
        yield _written(folder / f"twice.{container}", data * 2, "joined", "heard")
        yield _written(folder / f"with_junk.{container}", data + b"junk" * 100 + data, "joined", "heard")
        yield _written(
            folder / f"tagged.{container}", b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10) + data, "tag", "heard"
        )


def flipped(folder: Path) -> Iterator[Case]:
    """Bytes changed by chance: a few, and many."""
    random = np.random.default_rng(0)
    for container, codec in (
        ("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libvorbis"), ("opus", "libopus"),
        ("ipod", "aac"), ("webm", "libopus"), ("asf", "wmav2"), ("caf", "alac"), ("mpegts", "mp2"), ("avi", "libmp3lame"),
    ):  # fmt: skip
        made = encode(folder / f"whole.{container}", container, codec)
        if made is None:
            continue
        data = np.frombuffer(made.read_bytes(), np.uint8)
        made.unlink()
        for count in (1, 5, 20, 100, 1000):
            changed = data.copy()
            changed[random.integers(0, len(data), count)] = random.integers(0, 256, count)
            yield _written(folder / f"{count}_bytes.{container}", changed.tobytes(), "flipped")
        changed = data.copy()
        changed[:200] = random.integers(0, 256, min(200, len(data)))
        yield _written(folder / f"head.{container}", changed.tobytes(), "flipped")


def names(folder: Path) -> Iterator[Case]:
    data = _wav()
    for name in (
        "two words.wav", "it's.wav", 'so "called".wav', "line\nbreak.wav", "tab\t.wav", "🐕 bellt.wav", "-o.wav", "--help.wav",
        "$(id).wav", "`id`.wav", "a;b.wav", "a=b.wav", "[1].wav", "{x}.wav", "*.wav", "?.wav", "~.wav", "a,b.wav", "a\\b.wav",
        "%s%n.wav", "..wav", ".hidden.wav", "<script>alert(1)</script>.wav".replace("/", "∕"), "\x1b[31mred.wav", "null.wav",
        "true.wav", "#.wav", "!.wav", "&.wav", "e\u0301.wav", "\u00e9.wav", "\u202egpj.wav", "n" * 240 + ".wav", "CON.wav",
    ):  # fmt: skip
        yield _written(folder / name, data, "name", "heard")
    raw = os.fsencode(folder) + b"/\xff\xfe.wav"
    Path(os.fsdecode(raw)).write_bytes(data)
    yield Case(Path(os.fsdecode(raw)), "name", "heard")
    for place in ("one", "two"):
        (folder / place).mkdir()
        yield _written(folder / place / "same.wav", data, "duplicate", "heard")
        yield _written(folder / place / "same.flac.wav", data, "duplicate", "heard")


def what_is_no_file(folder: Path) -> Iterator[Case]:
    (folder / "folder.wav").mkdir()
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "broken.wav").symlink_to(folder / "nowhere.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "null.wav").symlink_to("/dev/null")
    for name in ("folder.wav", "loop.wav", "broken.wav", "device.wav", "null.wav", "missing.wav"):
        yield Case(folder / name, "no file", "refused")
    real = _written(folder / "real.wav", _wav(), "link", "heard")
    yield real
    (folder / "link.wav").symlink_to(real.path)
    yield Case(folder / "link.wav", "link", "heard")


RULES: tuple[Callable[[Path], Iterator[Case]], ...] = (
    containers, kinds_of_samples, truncated, headers_that_lie, what_is_no_sound, wrong_endings, joined, flipped, names,
    what_is_no_file,
)  # fmt: skip


def _wav() -> bytes:
    """A plain WAV of 16 bits, with a header of 44 bytes."""
    from io import BytesIO

    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes((sound(16_000) * 32_767).astype("<i2").tobytes())
    return file.getvalue()


def _written(path: Path, data: bytes | bytearray, kind: str, fate: str = "either") -> Case:
    path.write_bytes(data)
    return Case(path, kind, fate)
