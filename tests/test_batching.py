import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone

from a2i import AudioToImage
from a2i.captioner.batching import Heard, read, read_groups
from a2i.infer import infer, write_results
from a2i.results import Results, Settings


@pytest.fixture(scope="module")
def a2i(captioner_folder: Path) -> AudioToImage:
    return AudioToImage.load(captioner_folder, "none", device="cpu")


def noise(seconds: float) -> np.ndarray:
    """At 16 kHz, as 16-bit samples hold it."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 16_000))
    return (np.round(samples * 32768) / 32768).astype(np.float32)


def lengths(sound: np.ndarray, block: int) -> list[float]:
    blocks: Iterator[np.ndarray] = (sound[first : first + block] for first in range(0, len(sound), block))
    spans = list(Heard(np.zeros(0, np.float32), source=blocks).spans())
    assert np.array_equal(np.concatenate([piece for _, _, piece in spans]), sound)
    assert spans[0][0] == 0
    assert [start for start, _, _ in spans[1:]] == [end for _, end, _ in spans[:-1]]
    assert all(end - start == pytest.approx(len(piece) / 16_000) for start, end, piece in spans)
    return [end - start for start, end, _ in spans]


@pytest.mark.parametrize("block", [7_001, 160_000, 10_000_000])
def test_parts_are_of_a_minute_and_the_last_two_alike(block: int) -> None:
    for seconds, expected in (
        (60.5, [30.25, 30.25]),
        (120.0, [60, 60]),
        (120.5, [60, 30.25, 30.25]),
        (200.0, [60, 60, 40, 40]),
    ):
        assert lengths(noise(seconds), block) == pytest.approx(expected)


def test_a_long_recording_is_read_once_and_from_a_pipe_too(tmp_path: Path) -> None:
    path, pipe, sound = tmp_path / "long.flac", tmp_path / "pipe", noise(130.0)
    soundfile.write(path, sound, 16_000, subtype="PCM_16")
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    heard = read(pipe)
    assert heard.source is not None
    assert heard.held <= 16_000 * 70  # not all of it
    spans = list(heard.spans())
    writer.join()
    assert [end - start for start, end, _ in spans] == pytest.approx([60, 35, 35])
    assert np.array_equal(np.concatenate([piece for _, _, piece in spans]), sound)
    assert heard.warning is None


def test_one_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", tone(440, 1.0), 16_000)
    (tmp_path / "bad.mp3").write_text("no sound")
    [[bad, good]] = read_groups([tmp_path / "bad.mp3", tmp_path / "good.wav"], 2)
    assert "can't be read as sound" in str(bad.error)
    assert good.error is None
    assert len(good.waveform) == 16_000


@pytest.mark.parametrize("seconds", [4.0, 130.0])
def test_what_was_cut_is_captioned_and_the_result_says_so(
    a2i: AudioToImage, tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: float
) -> None:
    whole, cut = tmp_path / "whole.flac", tmp_path / "cut.flac"
    soundfile.write(whole, noise(seconds), 16_000, subtype="PCM_16")
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    with Results(tmp_path / "out") as kept:
        assert write_results(infer(a2i, [whole, cut], kept, Settings("a", None), 0, {}), kept, 2) == 0
    rows = [json.loads(line) for line in kept.path.read_text().splitlines()]
    assert [row["error"] for row in rows] == [None, None]
    assert rows[0]["warning"] is None
    assert rows[1]["warning"].startswith("cut short after ")
    assert f"its header says {seconds:.1f} s" in rows[1]["warning"]
    told = capsys.readouterr().out.splitlines()
    assert "warning" not in told[0]
    assert told[1].endswith(f"; warning: {rows[1]['warning']}")
    if seconds > 60:
        assert rows[1]["parts"][-1]["end"] == pytest.approx(0.75 * seconds, abs=1)


def test_what_decodes_not_at_all_stays_an_error(a2i: AudioToImage, tmp_path: Path) -> None:
    path = tmp_path / "sound.flac"
    soundfile.write(path, noise(1.0), 16_000)
    path.write_bytes(path.read_bytes()[:60])
    with Results(tmp_path / "out") as kept:
        [row] = infer(a2i, [path], kept, Settings("a", None), 0, {})
    assert row["caption"] is None
    assert str(path) in row["error"]
