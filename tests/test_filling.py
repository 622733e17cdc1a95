import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import soundfile
from conftest import full_disk, tone

from a2i import audio
from a2i.data import Clip
from a2i.data.cache import Cache, log_mels, waveforms
from a2i.data.filling import fill
from a2i.features import FeatureSettings
from a2i.whole import ABANDONED

COUNT = 60
# A process of its own that prepares a folder of sounds; it says each entry as soon as it is there.
SCRIPT = """
import sys
from pathlib import Path
from a2i.data import Clip
from a2i.data import cache, filling

if __name__ == "__main__":
    sounds, folder, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    clips = [Clip(path.name, path, ("A bell.",)) for path in sorted(sounds.glob("*.wav"))]
    say = lambda line: print(line, flush=True)
    print("made", filling.fill([cache.waveforms(folder, 16_000)], clips, workers, say), flush=True)
"""


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = []
    (tmp_path / "many").mkdir()
    for index in range(COUNT):
        path = tmp_path / "many" / f"{index:03}.wav"
        soundfile.write(path, tone(200 + index, 0.3), 22_050)
        made.append(Clip(path.name, path, ("A bell.",)))
    return made


def start(tmp_path: Path, workers: int = 0) -> subprocess.Popen[str]:
    (tmp_path / "filler.py").write_text(SCRIPT)
    command = [
        sys.executable,
        str(tmp_path / "filler.py"),
        str(tmp_path / "many"),
        str(tmp_path / "cache"),
        str(workers),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def entries(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("waveforms-*/*/*.npy"))


def assert_right(tmp_path: Path, clips: list[Clip]) -> None:
    cache = waveforms(tmp_path / "cache", 16_000)
    for clip in clips:
        assert cache(clip).tobytes() == audio.load(clip.path, 16_000).tobytes()
    assert len(entries(tmp_path)) == len(clips)
    assert not list((tmp_path / "cache").rglob("*.partial"))


@pytest.mark.long
def test_killed_in_the_middle_beside_another_and_resumed(tmp_path: Path, clips: list[Clip]) -> None:
    first, second = start(tmp_path), start(tmp_path)
    try:
        while len(entries(tmp_path)) < 5 and first.poll() is None and second.poll() is None:
            time.sleep(0.005)
        first.kill()
        said = second.communicate(timeout=120)[0]
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert second.returncode == 0
    assert "made" in said
    for path in (tmp_path / "cache").rglob("*.partial"):  # what the killed one was at, at most
        os.utime(path, (time.time() - ABANDONED - 1,) * 2)
    fill([waveforms(tmp_path / "cache", 16_000)], clips, 0, print)
    assert_right(tmp_path, clips)


@pytest.mark.long
def test_processes_end_with_the_first_and_the_rest_is_made_later(tmp_path: Path, clips: list[Clip]) -> None:
    process = start(tmp_path, workers=2)
    while len(entries(tmp_path)) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(entries(tmp_path))
    deadline = time.monotonic() + 30
    while _running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(process.pid)
    if before < COUNT:
        assert fill([waveforms(tmp_path / "cache", 16_000)], clips, 2, print) >= COUNT - len(entries(tmp_path))
    for path in (tmp_path / "cache").rglob("*.partial"):
        path.unlink()
    assert_right(tmp_path, clips)


def be_killed(_: Clip) -> NoReturn:
    """As the kernel does where memory runs out."""
    signal.raise_signal(signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow  # processes of their own import PyTorch
def test_a_worker_that_is_killed_is_told_in_one_line(tmp_path: Path, clips: list[Clip]) -> None:
    killing = Cache(tmp_path / "cache", {"kind": "killing"}, be_killed, 16_000)
    with pytest.raises(ChildProcessError, match=r"^a worker process ended early .*run again, or set workers=0$"):
        fill([killing], clips, 2, print)
    assert fill([waveforms(tmp_path / "cache", 16_000)], clips, 2, print) == COUNT
    assert_right(tmp_path, clips)


def _running(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_made_twice_and_bad_files_stop_no_others(tmp_path: Path, clips: list[Clip]) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    some = [*clips[:5], clips[0], Clip("text.wav", tmp_path / "text.wav", ("A text.",))]
    caches = [waveforms(tmp_path / "cache", 16_000), log_mels(tmp_path / "cache", FeatureSettings(64))]
    lines: list[str] = []
    with pytest.raises(ValueError, match=r"2 of 12 entries can't be made: .*text.wav: can't be read as sound"):
        fill(caches, some, 0, lines.append)
    assert len(lines) == 1
    assert "entries of at most 0.00 GB in" in lines[0]
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(stamps) == 10
    fill(caches, clips[:5], 0, lines.append)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_known_clips_take_no_time(tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2i.data.file_hash.RACY", 0.0)
    cache = waveforms(tmp_path / "cache", 16_000)
    assert fill([cache], clips, 0, print) == COUNT
    assert fill([waveforms(tmp_path / "cache", 16_000)], clips, 0, pytest.fail) == 0


def test_a_disk_that_gets_full_is_told_and_what_was_made_stays(tmp_path: Path, clips: list[Clip]) -> None:
    soundfile.write(clips[3].path, tone(200, 3.0), 22_050)
    with full_disk(40_000), pytest.raises(OSError, match=r"can't be written \(File too large\); expected .*\.npy"):
        fill([waveforms(tmp_path / "cache", 16_000)], clips, 0, print)
    assert len(entries(tmp_path)) == 3
    assert fill([waveforms(tmp_path / "cache", 16_000)], clips, 0, print) >= COUNT - 3
    assert_right(tmp_path, clips)


def test_too_little_disk_is_said_before_anything_is_made(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(
        OSError, match=r"preparing 60 entries needs about [0-9.]+ MB in .*, where 1.0 kB are free; make room"
    ):
        fill([waveforms(tmp_path / "cache", 16_000)], clips, 0, print)
    assert not entries(tmp_path)
