"""Live: on time by the clock, never behind, bounded in memory, and ended cleanly."""

import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import soundfile
from conftest import make_captioner, tone
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from a2i.captioner import Captioner
from a2i.captioner.candidates import Candidate
from a2i.captioner.text import CaptionTokenizer
from a2i.command_line import composed
from a2i.listen.__main__ import Screen, _append, _hear, check
from a2i.listen.live import Heard, Scenes, Schedule, Summary, captions
from a2i.listen.pictures import Drawer
from a2i.listen.sources import Microphone, Newest, Played, microphones
from a2i.pipeline import AudioToImage


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds: a low tone, then a high one."""
    file = tmp_path_factory.mktemp("sounds") / "long.wav"
    soundfile.write(file, np.concatenate([tone(200, 10.0), tone(3000, 10.0)]), 16_000)
    return file


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


@given(st.integers(1, 50), st.lists(st.integers(0, 120), max_size=20))
def test_the_newest_samples_are_kept_and_no_more(size: int, blocks: list[int]) -> None:
    newest, everything = Newest(size), np.zeros(0, np.float32)
    for length in blocks:
        block = np.arange(len(everything), len(everything) + length, dtype=np.float32)
        newest.add(block)
        everything = np.concatenate([everything, block])
        samples, count = newest.look()
        assert count == len(everything)
        assert samples.tolist() == everything[-size:].tolist()
        assert len(newest._samples) == size


@given(st.floats(0.1, 60), st.lists(st.floats(0, 200), min_size=1, max_size=60), st.floats(0, 1e6), st.floats(0.5, 60))
def test_windows_end_by_the_clock_however_long_captions_take(
    every: float, works: list[float], began: float, window: float
) -> None:
    """With a clock that the test turns: no error adds up, none waits for a window in the past, and all are counted."""
    first = began + window
    schedule, now, busy, shown, dropped = Schedule(first, every), began, 0.0, 0, 0
    for work in works:
        due, lost = schedule.next(now)
        shown, dropped = shown + 1, dropped + lost
        number = (due - first) / every
        assert math.isclose(number, round(number), abs_tol=1e-6)
        assert round(number) == shown + dropped - 1, "each window is shown or dropped"
        assert due >= now - 1e-6
        assert lost == 0 or busy >= every * lost - 1e-6, "none is dropped that could be heard"
        now, busy = max(now, due) + work, work


def test_a_file_in_real_time_becomes_captions_and_pictures(
    long_sound: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = (f"audio={long_sound}", f"captioner={captioner_folder}", f"image={painter_folder}", "image.steps=1")
    timing = ("window=2", "every=2", "speed=10", "sure=0", f"out={out}", "device=cpu")
    done = programs.run("listen", *given, *timing)
    assert done.returncode == 0, done.stderr
    found = rows(out)
    assert 18 < found[-1]["end"] <= 20, "to the file's end"
    assert all(0 < row["end"] - row["start"] <= 2.01 for row in found)
    assert all(row["error"] is None and 0 <= row["confidence"] <= 1 and row["late"] >= 0 for row in found)
    assert all(datetime.fromisoformat(row["time"]).tzinfo for row in found)
    assert found[0]["scene"]
    pictures = sorted(out.glob("*.png"))
    assert pictures
    assert Image.open(pictures[0]).text["caption"] in {row["caption"] for row in found}  # type: ignore[attr-defined]
    assert f"{len(found)} caption{'s' * (len(found) != 1)}, " in done.stdout
    assert "on average" in done.stdout
    lines = [line for line in done.stdout.splitlines() if "% sure)" in line]
    assert len(lines) == len(found)
    programs.run("listen", *given[:2], "image=none", *timing, "seconds=4")
    assert len(rows(out)) > len(found), "a second run adds to the first"


def test_a_short_file_is_heard_whole(long_sound: Path, captioner_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(400, 0.7), 16_000)
    done = programs.run(
        "listen", str(tmp_path / "short.wav"), f"captioner={captioner_folder}", "image=none", f"out={tmp_path / 'out'}"
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "out")
    assert (row["start"], row["end"]) == (0, pytest.approx(0.7))


def test_two_do_not_write_into_one_folder(long_sound: Path, captioner_folder: Path, tmp_path: Path) -> None:
    given = (
        f"audio={long_sound}",
        f"captioner={captioner_folder}",
        "image=none",
        f"out={tmp_path}",
        "seconds=5",
        "speed=10",
    )
    with FileLock(tmp_path / ".listen.lock"):
        done = programs.run("listen", *given)
    assert done.returncode == 2
    assert f"error: got out={tmp_path}, where another a2i.listen is writing; expected another folder" in done.stderr
    assert not (tmp_path / "captions.jsonl").exists()
    assert programs.run("listen", *given).returncode == 0, "the folder is free again"
    assert not (tmp_path / ".listen.lock").exists()


class Slow:
    """A captioner that takes its time."""

    def __init__(self, inner: Captioner, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def caption(self, *given: Any, **changes: Any) -> Any:
        time.sleep(self._seconds)
        return self._inner.caption(*given, **changes)


def test_a_slow_captioner_drops_windows_and_never_falls_behind(tokenizer: CaptionTokenizer, long_sound: Path) -> None:
    """Each caption takes as long as it takes two or three windows to end."""
    slow = Slow(make_captioner(tokenizer), 0.25)
    source = Played(long_sound, slow.sampling_rate, 1.0, speed=10)
    found = list(captions(slow, source, 1.0, 1.0, speed=10))  # type: ignore[arg-type]
    assert sum(each.dropped for each in found) >= len(found) - 1
    ends = [each.end for each in found[:-1]]  # the last hears what is left
    assert min(np.diff(ends)) > 1.5, "a queue would have given each window its turn, a second after the one before"


def test_what_fails_stops_no_other(tokenizer: CaptionTokenizer, long_sound: Path) -> None:
    captioner = make_captioner(tokenizer)
    source = Played(long_sound, captioner.sampling_rate, 1.0, speed=20)
    with np.errstate(all="ignore"):
        hearing = captions(captioner, source, 1.0, 2.0, speed=20)
        first = next(hearing)
        source.newest.look = lambda: (np.full(100, np.nan, np.float32), 10**6)  # type: ignore[method-assign]
        second = next(hearing)
        hearing.close()
    assert first.error is None
    assert second.caption is None
    assert "not numbers" in str(second.error)
    summary = Summary()
    for each in (first, second):
        summary.add(each)
    assert (summary.captions, summary.failed) == (1, 1)
    assert "1 failed" in summary.line()


def test_ctrl_c_ends_it_with_a_summary(long_sound: Path, captioner_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ((out / "captions.jsonl").exists() and rows(out)):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    watching = threading.Thread(target=interrupt)
    watching.start()
    done = programs.run(
        "listen", f"audio={long_sound}", f"captioner={captioner_folder}", "image=none", f"out={out}", "window=1"
    )
    watching.join()
    assert done.returncode == 0, done.stderr
    assert "s after their window on average" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert all(row["error"] is None for row in rows(out))


def heard(caption: str | None, confidence: float | None) -> Heard:
    return Heard(datetime.now().astimezone(), 0.0, 5.0, caption, confidence, -1.0, 0.1, 0)


def test_a_scene_begins_where_a_sure_caption_differs() -> None:
    scenes = Scenes(0.5)
    given = [("A dog barks.", 0.9), ("A dog barks.", 0.9), ("Rain.", 0.3), (None, None), ("Rain.", 0.6), ("Rain.", 0.2)]
    assert [scenes.begins(heard(*each)) for each in given] == [True, False, False, False, True, False]


def test_a_picture_gives_its_place_to_a_newer_one(
    tokenizer: CaptionTokenizer, painter_folder: Path, tmp_path: Path
) -> None:
    a2i = AudioToImage.load(make_captioner(tokenizer), {"model": str(painter_folder), "steps": 1}, "cpu")
    told: list[str] = []
    drawer = Drawer(a2i, tmp_path, 0, lambda line, is_error: told.append(line))
    assert a2i.painter is not None
    with a2i.painter._drawing:  # type: ignore[attr-defined]  # as while it draws another
        drawer.ask(heard("A dog barks.", 0.9))
        while not drawer._drawing:
            time.sleep(0.01)
        for caption in ("Rain.", "Wind.", "Birds."):
            drawer.ask(heard(caption, 0.9))
        assert drawer.is_busy
    drawer.finish()
    assert (drawer.drawn, drawer.passed_over, drawer.failed) == (2, 2, 0)
    captions_drawn = {Image.open(path).text["caption"] for path in tmp_path.glob("*.png")}  # type: ignore[attr-defined]
    assert captions_drawn == {"A dog barks.", "Birds."}
    assert len(told) == 2


def test_what_was_heard_is_drawn_and_told_before_an_error_ends_it(
    tokenizer: CaptionTokenizer,
    painter_folder: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a microphone that is pulled out."""

    def captions_until_gone(*given: Any, **more: Any) -> Iterator[Heard]:
        yield heard("A dog barks.", 0.9)
        raise OSError("gives no sound any more")

    monkeypatch.setattr("a2i.listen.live.captions", captions_until_gone)
    a2i = AudioToImage.load(make_captioner(tokenizer), {"model": str(painter_folder), "steps": 1}, "cpu")
    drawer = Drawer(a2i, tmp_path, 0, Screen().tell)
    source = Played(settings["audio"], 16_000, 1.0)
    with pytest.raises(OSError, match="gives no sound any more"):
        _hear(check(settings | {"out": str(tmp_path)}), a2i, source, drawer, Screen())
    assert not drawer.is_busy
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert "1 caption, " in capsys.readouterr().out.splitlines()[-1]


def test_a_line_that_the_disk_has_no_room_for_is_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"

    class Full(FileIO):
        def write(self, content: Any) -> int:
            return super().write(content[:5])

    path.write_text("before\n")
    with Full(path, "a") as file, pytest.raises(OSError, match=r"can't be written \(No space left on device\)"):
        _append(file, {"caption": "A dog barks."}, path)
    assert path.read_text() == "before\n"


def test_a_confidence_that_is_no_number_is_an_error(
    tokenizer: CaptionTokenizer, long_sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = make_captioner(tokenizer)
    broken = Candidate("A dog barks.", math.nan, math.nan, math.nan)
    monkeypatch.setattr(captioner, "caption", lambda waveforms, **changes: [[broken]] * len(waveforms))
    hearing = captions(captioner, Played(long_sound, captioner.sampling_rate, 1.0, 10), 1.0, 2.0, 10)
    found = next(hearing)
    hearing.close()
    assert found.caption is None
    assert "no number" in str(found.error)


def test_without_a_microphone_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as where it is not installed
    done = programs.run("listen", f"out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "sounddevice is not installed: pip install 'a2i[listen]', or give audio=FILE" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_portaudio_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(OSError, match="PortAudio, through which a microphone is heard, is not installed: apt install"):
        microphones()


def test_a_microphone_that_is_not_there() -> None:
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    with pytest.raises(ValueError, match=r"found no microphone|got microphone=no such thing; expected a number"):
        Microphone("no such thing", 5.0)


@pytest.fixture(scope="module")
def settings(long_sound: Path, captioner_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    given = {"audio": str(long_sound), "captioner": str(captioner_folder), "image": "none"}
    return composed("listen", given | {"out": str(tmp_path_factory.mktemp("listen") / "out")})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"window": 0}, "got window=0; expected a number from 0.5 to 60, in seconds"),
        ({"window": 1e9}, "got window=1e+09; expected"),
        ({"every": 0}, "got every=0; expected a number from 0.1"),
        ({"every": math.nan}, "got every=nan; expected a number"),
        ({"speed": -1}, "got speed=-1; expected"),
        ({"seconds": 1}, "got seconds=1 with window=5; expected at least one window"),
        ({"sure": 2}, "got sure=2; expected a probability"),
        ({"audio": None, "speed": 2}, "got speed=2 with the microphone"),
        ({"audio": ["a.wav", "b.wav"]}, "expected text"),
        ({"microphone": 1}, "beside microphone=1; expected one of the two"),
        ({"decoding": {"num_beams": "many"}}, "num_beams"),
        ({"seed": 10**20}, "got seed="),
    ],
)
def test_hostile_settings(given: dict[str, Any], said: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check(settings | given)


def test_a_file_that_is_not_there(captioner_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = programs.run("listen", "gone.wav", f"captioner={captioner_folder}", "image=none", f"out={out}")
    assert done.returncode == 2
    assert "gone.wav" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_file_that_is_no_sound(captioner_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("no sound")
    done = programs.run(
        "listen", f"audio={tmp_path / 'x.wav'}", f"captioner={captioner_folder}", f"out={tmp_path / 'out'}"
    )
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
