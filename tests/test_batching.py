import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone

from a2i import AudioToImage, audio
from a2i.captioner.batching import Opened, caption_many, read
from a2i.data import Clip
from a2i.infer import write_results
from a2i.results import ResultsFile, RowSettings
from a2i.rows import infer


@pytest.fixture(scope="module")
def a2i(captioner_folder: Path) -> AudioToImage:
    return AudioToImage.load(captioner_folder, "none", device="cpu")


def noise(seconds: float) -> np.ndarray:
    """At 16 kHz, as 16-bit samples hold it."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 16_000))
    return (np.round(samples * 32768) / 32768).astype(np.float32)


def lengths(sound: np.ndarray, block: int) -> list[float]:
    blocks: Iterator[np.ndarray] = (sound[first : first + block] for first in range(0, len(sound), block))
    spans = list(Opened(next(blocks), 16_000, 960_000, 0.0, blocks).parts())
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
    opened = read(pipe, 16_000, 60.0)
    assert opened.rest is not None
    assert len(opened.begun) <= 16_000 * 70  # not all of it
    spans = list(opened.parts())
    writer.join()
    assert [end - start for start, end, _ in spans] == pytest.approx([60, 35, 35])
    assert np.array_equal(np.concatenate([piece for _, _, piece in spans]), sound)
    assert opened.recording is not None
    assert opened.recording.warning is None


def test_one_that_cannot_be_read_takes_no_other_with_it(a2i: AudioToImage, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", tone(440, 1.0), 16_000)
    (tmp_path / "bad.mp3").write_text("no sound")
    bad, good = caption_many(a2i.captioner, [tmp_path / "bad.mp3", tmp_path / "good.wav"], 2)
    assert "can't be read as sound" in str(bad)
    assert not isinstance(good, Exception)
    assert good.candidates == tuple(a2i.captioner.caption([audio.load(tmp_path / "good.wav", 16_000)])[0])


def test_an_excerpt_is_captioned_as_if_it_were_a_file(a2i: AudioToImage, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", noise(70.0), 16_000, subtype="PCM_16")
    clips = [Clip("a", tmp_path / "long.wav", (), 1.0, 3.5), Clip("b", tmp_path / "long.wav", (), 2.0, None)]
    first, second = caption_many(a2i.captioner, clips, 2)
    (alone, rest) = caption_many(a2i.captioner, [(noise(70.0)[16_000:56_000], 16_000), (noise(70.0)[32_000:], 16_000)])
    for one, other in ((first, alone), (second, rest)):
        assert not isinstance(one, Exception)
        assert not isinstance(other, Exception)
        assert [each.caption for each in one.candidates] == [each.caption for each in other.candidates]
        assert [part.end for part in one.parts] == [part.end for part in other.parts]
    assert not isinstance(second, Exception)
    assert [part.end for part in second.parts] == pytest.approx([34, 68])


def test_no_more_is_read_than_a_batch(a2i: AudioToImage) -> None:
    given = []

    def sounds() -> Iterator[tuple[np.ndarray, int]]:
        for seconds in (0.3, 0.9, 0.4, 0.3, 0.3):
            given.append(seconds)
            yield tone(440, seconds), 16_000

    found = caption_many(a2i.captioner, sounds(), 2)
    next(found)
    assert len(given) == 2
    assert len(list(found)) == 4


@pytest.mark.parametrize("decoding", [{"do_sample": True, "num_beams": 1, "num_candidates": 2}, {"num_beams": 2}])
def test_threads_share_a_captioner(a2i: AudioToImage, decoding: dict[str, Any]) -> None:
    """Each has the captions that one alone has, from its own seed, and torch's random state stays as it was."""
    sounds = [(tone(300 + 500 * index, 0.3 + 0.2 * index), 16_000) for index in range(4)]

    def captions(index: int) -> list[str]:
        return [candidates for seed in range(3) for candidates in a2i(sounds[index], seed, **decoding).candidates]

    alone = [captions(index) for index in range(4)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            assert list(pool.map(captions, range(4))) == alone
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seconds", [4.0, 130.0])
def test_what_was_cut_is_captioned_and_the_result_says_so(
    a2i: AudioToImage, tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: float
) -> None:
    whole, cut = tmp_path / "whole.flac", tmp_path / "cut.flac"
    soundfile.write(whole, noise(seconds), 16_000, subtype="PCM_16")
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    with ResultsFile(tmp_path / "out") as kept:
        assert write_results(infer(a2i, [whole, cut], kept, RowSettings("a", None), 0, {}), kept, 2) == 0
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
    with ResultsFile(tmp_path / "out") as kept:
        [row] = infer(a2i, [path], kept, RowSettings("a", None), 0, {})
    assert row["caption"] is None
    assert str(path) in row["error"]
