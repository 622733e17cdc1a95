import io
import os
import struct
import threading
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from a2i import audio
from a2i.audio import files


def dominant_frequency(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * 16_000 / len(waveform))


@pytest.mark.parametrize(
    ("suffix", "format_", "subtype"),
    [
        ("wav", "WAV", "PCM_16"),
        ("wav", "WAV", "PCM_24"),
        ("wav", "WAV", "FLOAT"),
        ("wav", "WAV", "ULAW"),
        ("flac", "FLAC", "PCM_16"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
        ("aiff", "AIFF", "PCM_16"),
    ],
)
def test_formats(tmp_path: Path, suffix: str, format_: str, subtype: str) -> None:
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, tone(440, 1.0, 48_000), 48_000, format=format_, subtype=subtype)
    waveform = audio.load(path, 16_000)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert abs(len(waveform) / 16_000 - 1.0) < 0.1  # mp3 pads
    assert abs(dominant_frequency(waveform) - 440) < 3
    assert abs(waveform.max() - 0.5) < 0.06
    assert audio.duration(path) == pytest.approx(len(waveform) / 16_000, abs=0.01)


ENCODERS = {
    "mp3": "libmp3lame",
    "ogg": "vorbis",
    "opus": "libopus",
    "flac": "flac",
    "m4a": "aac",
    "mka": "aac",
    "webm": "libopus",
    "aac": "aac",
    "wma": "wmav2",
    "wv": "wavpack",
    "mp2": "mp2",
    "ac3": "ac3",
    "tta": "tta",
    "mov": "pcm_s16le",
    "ts": "mp2",
}


def encoded(path: Path, sound: np.ndarray, rate: int = 48_000, **options: str) -> Path:
    """A file of (samples,) or (channels, samples), written by FFmpeg; Ogg Vorbis by libsndfile, since PyAV has no encoder."""
    sound = np.atleast_2d(sound)
    if path.suffix == ".ogg":
        soundfile.write(path, sound.T, rate, format="OGG", subtype="VORBIS")
        return path
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream(ENCODERS[path.suffix[1:]], rate=rate, layout={1: "mono", 2: "stereo"}[len(sound)])
        if path.suffix in (".wma", ".ac3"):
            stream.bit_rate = 128_000
        formats = [each.name for each in stream.codec.audio_formats or []]
        kind = next(each for each in formats or ["fltp"] if each[:3] in ("flt", "s16"))
        data = np.round(sound * 32767).astype(np.int16) if kind[0] == "s" else sound.astype(np.float32)
        data = data if kind.endswith("p") else np.ascontiguousarray(data.T).reshape(1, -1)
        size = (stream.codec_context.frame_size or 4096) * (1 if kind.endswith("p") else len(sound))
        for first in range(0, data.shape[1], size):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(data[:, first : first + size]), format=kind, layout=stream.layout.name
            )
            frame.sample_rate, frame.pts = rate, first * len(data) // len(sound)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard(path: Path, start: float | None = None) -> tuple[np.ndarray, str | None]:
    recording = audio.Recording(path, 16_000)
    return np.concatenate(list(recording.blocks(start))), recording.warning


def noise(seconds: float, rate: int = 48_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("suffix", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_files_are_heard_whole_and_cut_ones_as_far_as_they_go(tmp_path: Path, suffix: str, channels: int) -> None:
    sound = tone(440, 3.0, 48_000) + noise(3.0) / 10
    path = encoded(tmp_path / f"sound.{suffix}", np.stack([sound] * channels))
    waveform, warning = heard(path)
    assert len(waveform) / 16_000 == pytest.approx(3.0, abs=0.08)  # some pad
    assert abs(dominant_frequency(waveform) - 440) < 3
    assert warning is None
    assert audio.duration(path) == pytest.approx(len(waveform) / 16_000, abs=0.001)
    assert audio.duration(path, exact=False) == pytest.approx(3.0, abs=0.15)
    if suffix in ("m4a", "mov"):
        return  # these end with what one needs to know to read them
    content = path.read_bytes()
    for tenths in (5, 8):
        path.write_bytes(content[: len(content) * tenths // 10 + 101])
        waveform, warning = heard(path)
        assert 0.5 < len(waveform) / 16_000 < 0.1 + 0.3 * tenths
        assert abs(dominant_frequency(waveform) - 440) < 3
        assert warning is not None
        assert warning.startswith("cut short after ")


def test_an_m4a_that_was_cut_is_heard_where_its_index_comes_first(tmp_path: Path) -> None:
    path = encoded(tmp_path / "sound.m4a", noise(3.0), movflags="faststart")
    path.write_bytes(path.read_bytes()[:-6000])
    waveform, warning = heard(path)
    assert 1.5 < len(waveform) / 16_000 < 2.95
    assert "cut short" in str(warning)
    encoded(path, noise(3.0))
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(audio.AudioError, match=r"can't be read as sound.*cut short"):
        audio.load(path, 16_000)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus", "flac", "aac", "mp2", "ac3", "wav"])
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (32_000, 2)])
def test_joined_files_are_heard_one_after_the_other(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    """Chained Ogg, Opus and FLAC, joined MP3s and WAVs, also where the second has another rate and more channels."""
    if suffix == "opus":
        rate = 48_000
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    for path, frequency, its_rate, its_channels in ((first, 300, 48_000, 1), (second, 2000, rate, channels)):
        sound = np.stack([tone(frequency, 2.0, its_rate)] * its_channels)
        if suffix == "wav":
            soundfile.write(path, sound.T, its_rate)
        else:
            encoded(path, sound, its_rate)
    both = tmp_path / "both"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    waveform, warning = heard(both)
    assert len(waveform) / 16_000 == pytest.approx(4.0, abs=0.15)
    assert abs(dominant_frequency(waveform[:30_000]) - 300) < 3
    assert abs(dominant_frequency(waveform[-28_000:]) - 2000) < 3
    assert warning is None
    assert audio.duration(both) == pytest.approx(len(waveform) / 16_000, abs=0.01)
    part = audio.load(both, 16_000, 2.5, 3.0)
    assert len(part) == 8000
    assert abs(dominant_frequency(part) - 2000) < 3


def test_a_variable_bit_rate_without_a_length_header(tmp_path: Path) -> None:
    sound = np.concatenate([noise(2.0), np.zeros(96_000, np.float32), noise(2.0)])
    path = encoded(tmp_path / "sound.mp3", sound, write_xing="0", id3v2_version="0")
    waveform, warning = heard(path)
    assert len(waveform) / 16_000 == pytest.approx(6.0, abs=0.08)
    assert warning is None


@pytest.mark.parametrize("suffix", ["ogg", "flac", "m4a", "aac", "mp3"])
def test_what_is_damaged_in_the_middle_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = encoded(tmp_path / f"sound.{suffix}", noise(4.0))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = np.random.default_rng(1).bytes(len(content) // 20)
    path.write_bytes(content)
    waveform, warning = heard(path)
    assert 1.8 < len(waveform) / 16_000 < 4.1
    assert np.abs(waveform[-8000:]).mean() > 0.01
    assert warning is not None
    assert "damaged" in warning or suffix == "mp3"


def wav(samples: np.ndarray, size: int | None = None, behind: bytes = b"") -> bytes:
    """A WAV of 16 bits, 16 kHz, whose header says that there are `size` bytes."""
    data = (samples * 32767).astype("<i2").tobytes()
    size = len(data) if size is None else size
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", size)
    return b"RIFF" + struct.pack("<I", (36 + size) & 0xFFFFFFFF) + b"WAVE" + head + data + behind


@pytest.mark.parametrize("size", [0, 2000, 0x7FFFFFFE, 0x80000000, 0xFFFFFFFF])
def test_a_wav_that_says_too_little_or_no_end_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(wav(tone(440, 1.0) + 0.1, size))
    waveform, warning = heard(path)
    assert len(waveform) == 16_000
    assert warning is None
    assert audio.duration(path) == audio.duration(path, exact=False) == 1.0
    assert len(audio.load(path, 16_000, 0.25, 0.5)) == 4000


def test_a_wav_that_says_too_much_was_cut_and_what_is_no_sample_is_none(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(wav(tone(440, 1.0), 64_000))
    waveform, warning = heard(path)
    assert len(waveform) == 16_000
    assert warning == "cut short after 1.0 s (its header says 64,044 bytes, 32,044 are there)"
    for behind in (b"LIST\x04\0\0\0abcd", b"TAG" + bytes(125), b"LIST\x03\0\0\0abc\0"):
        path.write_bytes(wav(tone(440, 1.0), behind=behind))
        waveform, warning = heard(path)
        assert len(waveform) == 16_000
        assert warning is None
    path.write_bytes(wav(np.zeros(0), behind=b"LIST\x04\0\0\0abcd"))
    with pytest.raises(audio.AudioError, match="holds no samples"):
        audio.load(path, 16_000)


def test_the_cases_that_people_report(real_data: Path) -> None:
    truth = {
        "vbr_without_header.mp3": (6.7, None),
        "two_streams.ogg": (18.1, None),
        "data_size_0.wav": (6.7, None),
        "cut.flac": (3.45, "cut short after 3.5 s (its header says 6.7 s)"),
        "antiphase.flac": (6.7, None),
    }
    for name, (seconds, told) in truth.items():
        waveform, warning = heard(real_data / "cases" / name)
        assert len(waveform) / 16_000 == pytest.approx(seconds, abs=0.05)
        assert warning == told
        assert np.sqrt(np.mean(waveform**2)) > 0.01
    for path in sorted((real_data / "esc10").rglob("*.ogg"))[::20]:
        waveform, warning = heard(path)
        assert warning is None
        theirs, rate = soundfile.read(path, dtype="float32")
        assert np.abs(waveform - soxr.resample(theirs, rate, 16_000).clip(-1, 1)).max() < 1e-4


def test_from_a_pipe(tmp_path: Path) -> None:
    for suffix in ("m4a", "ogg"):
        path, pipe = encoded(tmp_path / f"sound.{suffix}", noise(1.0)), tmp_path / f"pipe_{suffix}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda path=path, pipe=pipe: pipe.write_bytes(path.read_bytes()))
        writer.start()
        assert np.array_equal(audio.load(pipe, 16_000), audio.load(path, 16_000))
        writer.join()


@pytest.mark.parametrize("suffix", ["m4a", "webm", "mp3", "wav"])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "decode", files.decode)  # in this process, where memory is looked at
    piece, longer = tmp_path / f"piece.{suffix}", tmp_path / f"long.{suffix}"
    if suffix == "wav":
        soundfile.write(longer, np.tile(noise(10.0), 12), 48_000)
    elif suffix == "mp3":
        longer.write_bytes(encoded(piece, noise(10.0)).read_bytes() * 12)
    else:
        encoded(longer, np.tile(noise(10.0), 12))
    tracemalloc.start()
    samples = sum(map(len, audio.Recording(longer, 16_000).blocks()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples / 16_000 == pytest.approx(120, abs=1)
    assert peak < 3e6  # all samples at 48 kHz are 23 MB


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(picture, "JPEG")
    contents = {
        "text.mp3": b"no sound at all\n" * 1000,
        "picture.wav": picture.getvalue(),
        "random.mp3": np.random.default_rng(0).bytes(200_000),
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.aac\n#EXT-X-ENDLIST\n",
        "list.ffconcat": b"ffconcat version 1.0\nfile other.wav\n",
        "title.srt": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n" * 100,
        "samples.s16le": np.random.default_rng(0).bytes(10_000),
        "short.wav": b"RIFF",
        "short.au": b".snd",
        "short.ogg": b"OggS",
        "short.mka": b"\x1aE\xdf\xa3",
        "short.mp3": b"\xff\xfb",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        for exact in (True, False):
            with pytest.raises(audio.AudioError, match=f"{name}: can't be read as sound"):
                audio.duration(tmp_path / name, exact)
        with pytest.raises(audio.AudioError, match=f"{name}: can't be read as sound"):
            audio.load(tmp_path / name, 16_000)
    with pytest.raises(audio.AudioError, match="is a device"):
        audio.load("/dev/zero", 16_000)


@settings(max_examples=20)
@given(rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]), channels=st.integers(1, 6))
def test_any_rate_and_channel_count(tmp_path_factory: pytest.TempPathFactory, rate: int, channels: int) -> None:
    path = tmp_path_factory.mktemp("rates") / "sound.wav"
    soundfile.write(path, np.repeat(tone(440, 0.5, rate)[:, None], channels, axis=1), rate)
    waveform = audio.load(path, 16_000)
    assert abs(len(waveform) - 8_000) <= 1
    assert abs(dominant_frequency(waveform) - 440) < 4


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.stack([np.full(100, 0.5), np.full(100, -0.1)], axis=1), 16_000, subtype="FLOAT")
    assert audio.load(path, 16_000) == pytest.approx(np.full(100, 0.2), abs=1e-6)


def test_start_and_end(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.concatenate([tone(200, 1), tone(3000, 1)]), 16_000)
    assert abs(dominant_frequency(audio.load(path, 16_000, start=1.0)) - 3000) < 3
    assert abs(dominant_frequency(audio.load(path, 16_000, end=1.0)) - 200) < 3
    assert len(audio.load(path, 16_000, 0.5, 1.25)) == 12_000
    assert len(audio.load(path, 16_000, 1.5, 9.0)) == 8_000
    for start, end in ((1.0, 1.0), (-1.0, None), (None, 0.0)):
        with pytest.raises(audio.AudioError, match="an end after the start"):
            audio.load(path, 16_000, start, end)
    with pytest.raises(audio.AudioError, match="holds no samples between 5"):
        audio.load(path, 16_000, start=5.0)


def test_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, 8 * tone(440, 0.1), 16_000, subtype="FLOAT")
    waveform = audio.load(path, 16_000)
    assert waveform.max() == 1.0
    assert waveform.min() == -1.0


def test_a_single_sample_is_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, np.array([0.5]), 48_000)
    assert len(audio.load(path, 16_000)) >= 1


def test_a_stream_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    """FLAC as a pipe leaves it: zero total samples in its header."""
    path = tmp_path / "piped.flac"
    soundfile.write(path, tone(440, 1.0), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO's total samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(audio.load(path, 16_000)) == 16_000
    assert audio.duration(path) == pytest.approx(1.0)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        audio.load(tmp_path / "missing.wav", 16_000)
    with pytest.raises(audio.AudioError, match="is a folder"):
        audio.load(tmp_path, 16_000)
    empty = tmp_path / "empty.wav"
    empty.touch()
    with pytest.raises(audio.AudioError, match="0 bytes"):
        audio.load(empty, 16_000)
    text = tmp_path / "text.wav"
    text.write_text("no sound at all" * 100)
    with pytest.raises(audio.AudioError, match="can't be read as sound"):
        audio.load(text, 16_000)
    with pytest.raises(audio.AudioError, match="can't be read as sound"):
        audio.duration(text)
    silent = tmp_path / "header.wav"
    soundfile.write(silent, np.zeros(0), 16_000)
    with pytest.raises(audio.AudioError, match="holds no samples"):
        audio.load(silent, 16_000)
    raw = tmp_path / "samples.raw"
    raw.write_bytes(bytes(1000))
    with pytest.raises(audio.AudioError, match=r"can't be read as sound|no audio stream"):
        audio.load(raw, 16_000)
    slow = tmp_path / "slow.wav"
    soundfile.write(slow, np.zeros(100), 1)
    with pytest.raises(audio.AudioError, match="1 samples a second"):
        audio.load(slow, 16_000)
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="not numbers"):
        audio.load(broken, 16_000)
