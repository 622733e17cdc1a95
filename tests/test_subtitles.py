from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.storyboard import Scene, Storyboard
from a2i.storyboard.subtitles import AGAIN, LINE, LONGEST, Cue, as_srt, as_vtt, cues, description, write_subtitles

EVIL = "A <b>dog</b> & a cat --> {\\an8} run"


def board(*scenes: tuple[float, str]) -> Storyboard:
    """Scenes of a length and a caption each, one after the other."""
    made, start = [], 0.0
    for seconds, caption in scenes:
        made.append(Scene(start, start + seconds, caption, 0.5))
        start += seconds
    return Storyboard(Path("recording.wav"), tuple(made), 0, "tiny")


def read(path: Path) -> list[tuple[float, float, str]]:
    """Start, end and text of each cue, as FFmpeg reads the file."""
    found = []
    with av.open(str(path)) as file:
        stream = file.streams.subtitles[0]
        for packet in file.demux(stream):
            if packet.size:
                texts = [rect.dialogue.decode() for rect in packet.decode()]
                start = float(packet.pts * packet.time_base)
                found.append((start, start + float(packet.duration * packet.time_base), "\n".join(texts)))
    return found


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("Rain pours down on a roof.", "rain pours down on a roof"),
        ("TV plays in a room.", "TV plays in a room"),
        ("I walk.", "I walk"),
        ("A bell  rings\nfar\x1b[0m away...", "a bell rings far (0m away..."),
        ("", ""),
    ],
)
def test_a_caption_becomes_a_sound_description(caption: str, said: str) -> None:
    assert description(caption) == said


def test_a_description_stands_where_its_scene_begins_and_breaks_where_it_reads_well() -> None:
    long = "Rain pours down on a roof while somebody walks on gravel."
    assert cues(board((5.0, "A dog barks."), (20.0, long))) == [
        Cue(0.0, 5.0, ("[a dog barks]",)),
        Cue(5.0, 12.0, ("[rain pours down on a roof", "while somebody walks on gravel]")),
    ]


def test_what_goes_on_for_long_is_said_again() -> None:
    found = cues(board((2 * AGAIN + 29, "Wind howls."), (AGAIN + 31, "Rain falls.")))
    assert [(cue.start, *cue.lines) for cue in found] == [
        (0.0, "[wind howls]"),
        (AGAIN, "[continues: wind howls]"),
        (2 * AGAIN + 29, "[rain falls]"),
        (3 * AGAIN + 29, "[continues: rain falls]"),
    ]


def test_a_caption_that_two_lines_cannot_hold_is_several_cues() -> None:
    words = " ".join(["word"] * 40)
    found = cues(board((60.0, words)))
    assert [cue.start for cue in found] == [0.0, LONGEST, 2 * LONGEST]
    short = cues(board((3.0, words)))
    assert [cue.lines for cue in short] == [cue.lines for cue in found]
    assert short[-1].end == pytest.approx(3.0)


def test_a_silent_captioner_writes_files_without_cues(tmp_path: Path) -> None:
    vtt, srt = write_subtitles(board((5.0, "")), tmp_path)
    assert vtt.read_bytes() == b"WEBVTT\n"
    assert srt.read_bytes() == b""


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.5, 400.0), st.text(max_size=200)), min_size=1, max_size=4))
def test_cues_fit_the_screen_and_the_scenes(scenes: list[tuple[float, str]]) -> None:
    storyboard = board(*scenes)
    found = cues(storyboard)
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= LINE for line in cue.lines)
        assert cue.start < cue.end <= cue.start + LONGEST + 1e-9
        assert cue.lines[0][0] == "["
        assert cue.lines[-1][-1] == "]"
    assert all(before.end <= after.start + 1e-6 for before, after in pairwise(found))
    assert not found or found[-1].end <= storyboard.seconds + 1e-6
    for scene in storyboard.scenes:
        inside = [cue for cue in found if scene.start <= cue.start < scene.end - 1e-6]
        first = [cue for cue in inside if cue.start < scene.start + AGAIN - 1e-6]
        said = "".join(" ".join(cue.lines)[1:-1] for cue in first)
        assert said.replace(" ", "") == description(scene.caption).replace(" ", ""), "a word is lost"
    text = as_vtt(found)
    assert text.count("-->") == len(found)
    assert as_srt(found).count("-->") == len(found)


def test_ffmpeg_reads_both(tmp_path: Path) -> None:
    storyboard = board((3.25, "A dog barks."), (3600.0, EVIL), (4.5, "Öl brutzelt in der Pfanne."))
    for path in write_subtitles(storyboard, tmp_path):
        content = path.read_bytes()
        assert not content.startswith(b"\xef\xbb\xbf")
        assert b"\r" not in content
        found = read(path)
        assert len(found) == 1 + 60 + 1
        assert found[0][:2] == pytest.approx((0.0, 3.25))
        assert found[0][2].endswith("[a dog barks]")
        assert found[1][:2] == pytest.approx((3.25, 10.25))
        assert found[-1][:2] == pytest.approx((3603.25, 3607.75))
        assert found[-1][2].endswith("[öl brutzelt in der Pfanne]")
    assert "01:00:03,250 --> 01:00:07,750" in (tmp_path / "captions.srt").read_text(encoding="utf-8")


TRACK = """async (text) => {
  const track = document.createElement("track");
  track.kind = "captions";
  track.src = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  const video = document.createElement("video");
  video.append(track);
  document.body.append(video);
  track.track.mode = "hidden";
  await new Promise((done, failed) => { track.onload = done; track.onerror = failed; });
  return [...track.track.cues].map((cue) => [cue.startTime, cue.endTime, cue.getCueAsHTML().textContent]);
}"""


@pytest.mark.browser
def test_a_browser_shows_the_text_that_was_meant(opened: Callable[..., Any], tmp_path: Path) -> None:
    storyboard = board((3.25, "A dog barks."), (3600.0, EVIL), (5.0, "Rain falls on a roof and a bell rings far away."))
    vtt, _ = write_subtitles(storyboard, tmp_path)
    (tmp_path / "empty.html").write_text("<!doctype html><title>empty</title>", encoding="utf-8")
    found = opened(tmp_path / "empty.html").evaluate(TRACK, vtt.read_text(encoding="utf-8"))
    assert found == [[cue.start, pytest.approx(cue.end), "\n".join(cue.lines)] for cue in cues(storyboard)]
    assert found[1][2] == "[a <b>dog</b> & a cat --> {\\an8} run]"
