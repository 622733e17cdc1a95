import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i import audio


def dominant_frequency(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * audio.SAMPLE_RATE / len(waveform))


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
    waveform = audio.load(path)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert abs(len(waveform) / audio.SAMPLE_RATE - 1.0) < 0.1  # mp3 pads
    assert abs(dominant_frequency(waveform) - 440) < 3
    assert abs(waveform.max() - 0.5) < 0.06
    assert audio.duration(path) == pytest.approx(len(waveform) / audio.SAMPLE_RATE, abs=0.01)


@pytest.mark.parametrize("suffix", ["m4a", "mka"])
def test_formats_of_the_media_extra(tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av", reason="needs the media extra")
    path = tmp_path / f"sound.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(440, 1.0, 44_100)[None], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    waveform = audio.load(path)
    assert abs(dominant_frequency(waveform) - 440) < 3
    assert abs(len(waveform) / audio.SAMPLE_RATE - 1.0) < 0.1
    assert audio.duration(path) == pytest.approx(len(waveform) / audio.SAMPLE_RATE, abs=0.05)


def test_without_the_media_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(100))
    code = f"from a2i import audio; audio.find_spec = lambda _: None; audio.load({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "a2i[media]" in done.stderr
    assert "expected wav" in done.stderr


@settings(max_examples=20, deadline=None)
@given(rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]), channels=st.integers(1, 6))
def test_any_rate_and_channel_count(tmp_path_factory: pytest.TempPathFactory, rate: int, channels: int) -> None:
    path = tmp_path_factory.mktemp("rates") / "sound.wav"
    soundfile.write(path, np.repeat(tone(440, 0.5, rate)[:, None], channels, axis=1), rate)
    waveform = audio.load(path)
    assert abs(len(waveform) - 8_000) <= 1
    assert abs(dominant_frequency(waveform) - 440) < 4


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.stack([np.full(100, 0.5), np.full(100, -0.1)], axis=1), 16_000, subtype="FLOAT")
    assert audio.load(path) == pytest.approx(np.full(100, 0.2), abs=1e-6)


def test_start_and_end(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.concatenate([tone(200, 1), tone(3000, 1)]), 16_000)
    assert abs(dominant_frequency(audio.load(path, start=1.0)) - 3000) < 3
    assert abs(dominant_frequency(audio.load(path, end=1.0)) - 200) < 3
    assert len(audio.load(path, 0.5, 1.25)) == 12_000
    assert len(audio.load(path, 1.5, 9.0)) == 8_000
    for start, end in ((1.0, 1.0), (-1.0, None), (None, 0.0)):
        with pytest.raises(audio.AudioError, match="an end after the start"):
            audio.load(path, start, end)
    with pytest.raises(audio.AudioError, match="holds no samples between 5"):
        audio.load(path, start=5.0)


def test_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, 8 * tone(440, 0.1), 16_000, subtype="FLOAT")
    waveform = audio.load(path)
    assert waveform.max() == 1.0
    assert waveform.min() == -1.0


def test_a_single_sample_is_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, np.array([0.5]), 48_000)
    assert len(audio.load(path)) >= 1


def test_a_stream_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    """FLAC as a pipe leaves it: zero total samples in its header."""
    path = tmp_path / "piped.flac"
    soundfile.write(path, tone(440, 1.0), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO's total samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(audio.load(path)) == 16_000
    assert audio.duration(path) == pytest.approx(1.0)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        audio.load(tmp_path / "missing.wav")
    with pytest.raises(audio.AudioError, match="is a folder"):
        audio.load(tmp_path)
    empty = tmp_path / "empty.wav"
    empty.touch()
    with pytest.raises(audio.AudioError, match="0 bytes"):
        audio.load(empty)
    text = tmp_path / "text.wav"
    text.write_text("no sound at all" * 100)
    with pytest.raises(audio.AudioError, match="can't be read as sound"):
        audio.load(text)
    with pytest.raises(audio.AudioError, match="can't be read as sound"):
        audio.duration(text)
    silent = tmp_path / "header.wav"
    soundfile.write(silent, np.zeros(0), 16_000)
    with pytest.raises(audio.AudioError, match="holds no samples"):
        audio.load(silent)
    raw = tmp_path / "samples.raw"
    raw.write_bytes(bytes(1000))
    with pytest.raises(audio.AudioError, match=r"can't be read as sound|no audio stream"):
        audio.load(raw)
    slow = tmp_path / "slow.wav"
    soundfile.write(slow, np.zeros(100), 1)
    with pytest.raises(audio.AudioError, match="1 samples a second"):
        audio.load(slow)
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="not numbers"):
        audio.load(broken)
