"""Decoding in a process that can die: one file has an error in one line, and the others go on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2i import audio
from a2i.audio import apart, files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no such process on Windows")

RATE = 16_000
# What stands in for a decoder that a file has broken: the process is the real one, and runs this in place of decoding.
BROKEN = {
    "crashes": ("ctypes.string_at(0)", "the decoder died of SIGSEGV"),
    "loops": ("all(itertools.repeat(True))", "the decoder found no sound within 0.5 s"),
    "stands still": ("os.kill(os.getpid(), signal.SIGSTOP)", "the decoder found no sound within 0.5 s"),
    "takes memory": ("bytearray(1 << 40)", "the decoder wanted more than 2 GiB of memory"),
    "fails": ("[].pop()", r"the decoder failed \(IndexError: pop from empty list\)"),
    "talks nonsense": (r"os.write({fd}, b'\x00\x02[]')", "the decoder's answer makes no sense"),
    "claims much": (
        r"os.write({fd}, b'\x00\x17' + b'{{\"shape\":[99999999,64]}}')",
        "the decoder's answer makes no sense .*a block of 99999999 samples of 64 channels",
    ),
}


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A sound of many blocks."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (600_000, 2)), 48_000)
    return path


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only processes that are started from here on, and none of them later."""
    apart._end_all()
    monkeypatch.setattr(apart, "MEMORY", 2 << 30)
    yield
    apart._end_all()


def doing(what: str) -> str:
    """The program of a process that does this in place of decoding."""
    before, serving = apart.PROGRAM.rsplit("from", 1)
    modules = "import ctypes, itertools, os, signal, time; from a2i.audio import files"
    return f"{before}{modules}; files.decode = lambda *_: iter([{what}]); from{serving}"


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_decoder_is_told_in_one_line(
    how: str, broken: None, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does, said = BROKEN[how]
    monkeypatch.setattr(apart, "PROGRAM", doing(does))
    if "0.5 s" in said:
        monkeypatch.setattr(apart, "SECONDS", 0.5)
        monkeypatch.setattr(apart, "GRACE", 1.0)
    with pytest.raises(audio.AudioError, match=f"long.wav: {said}.*; expected wav, flac") as caught:
        audio.load(long, RATE)
    assert "\n" not in str(caught.value)


def test_it_can_write_no_file(broken: None, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PROGRAM", doing(f"open({str(tmp_path / 'written')!r}, 'wb', 0).write(b'x')"))
    with pytest.raises(OSError, match="File too large"):
        audio.load(long, RATE)
    assert (tmp_path / "written").stat().st_size == 0


def test_one_that_dies_midway_takes_no_other_along(long: Path) -> None:
    audio.load(long, RATE)
    first, second = (audio.Recording(long, RATE).blocks() for _ in range(2))
    with closing(first), closing(second):
        pid = apart._waiting[-1].process.pid
        next(first), next(second)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(audio.AudioError, match=r"long\.wav: the decoder died of SIGSEGV; expected wav"):
            list(first)
        assert sum(map(len, second)) > 100_000
    assert pid not in [decoder.process.pid for decoder in apart._waiting]
    assert len(audio.load(long, RATE)) == 200_000


def test_all_is_as_in_this_process(long: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(long.read_bytes()[:-1001])
    for path, start in ((long, 0.0), (long, 3.3), (cut, 0.0)):
        notes, others = files.Notes(), files.Notes()
        with path.open("rb") as file, path.open("rb") as same:
            found = list(apart.decode(file, "a", notes, start))
            expected = list(files.decode(same, "a", others, start))
        assert notes == others
        assert notes.cut is None if path == long else notes.cut is not None
        assert len(found) == len(expected) > 1
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.samples, other.samples)
            assert (one.rate, one.run, one.base, one.position) == (other.rate, other.run, other.base, other.position)
    (tmp_path / "text.wav").write_bytes(b"no sound" * 100)
    with (tmp_path / "text.wav").open("rb") as file:
        said = []
        for each in (apart, files):
            with pytest.raises(audio.AudioError) as caught:
                each.measure(file, "text.wav", True)
            said.append(str(caught.value))
    assert said[0] == said[1]


def test_one_process_serves_one_file_after_the_other(long: Path) -> None:
    audio.load(long, RATE)
    pids = {decoder.process.pid for decoder in apart._waiting}
    for _ in range(5):  # some are read to the end, others are left in the middle
        audio.load(long, RATE, end=1.0)
        audio.duration(long)
        with closing(audio.Recording(long, RATE).blocks()) as blocks:
            next(blocks)
    assert {decoder.process.pid for decoder in apart._waiting} == pids


def test_files_are_read_by_turns_and_from_threads(long: Path) -> None:
    whole = audio.load(long, RATE)
    turns = [list(blocks) for blocks in zip(*(audio.Recording(long, RATE).blocks() for _ in range(3)), strict=True)]
    for blocks in zip(*turns, strict=True):
        assert np.array_equal(np.concatenate(blocks), whole)
    assert len(apart._waiting) <= apart.KEPT
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(audio.load(long, RATE))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert all(np.array_equal(each, whole) for each in found)


def test_an_interruption_leaves_no_process(broken: None, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PROGRAM", doing("time.sleep(60)"))
    apart.begin()
    process = apart._waiting[0].process
    timer = threading.Timer(0.5, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts in the background ignores Ctrl-C
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            audio.load(long, RATE)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.poll() == -signal.SIGKILL


def test_it_ends_with_its_parent(long: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from a2i import audio\n"
        "from a2i.audio import apart\n"
        f"blocks = audio.Recording({str(long)!r}, 16_000).blocks()\n"
        "next(blocks)\n"
        "apart.begin()\n"
        "print(apart._waiting[0].process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    ends = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < ends
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_forked_process_has_one_of_its_own(long: Path) -> None:
    code = (
        "import os, sys\n"
        "from a2i import audio\n"
        "from a2i.audio import apart\n"
        f"path = {str(long)!r}\n"
        "whole = audio.load(path, 16_000)\n"
        "before = {each.process.pid for each in apart._waiting}\n"
        "begun = audio.Recording(path, 16_000).blocks()\n"
        "next(begun)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    begun.close()\n"
        "same = audio.load(path, 16_000).tobytes() == whole.tobytes()\n"
        "own = {each.process.pid for each in apart._waiting}\n"
        "fine = same and (pid or own.isdisjoint(before))\n"
        "if not pid:\n"
        "    os._exit(0 if fine else 1)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "list(begun)\n"
        "assert fine and os.waitstatus_to_exitcode(status) == 0\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux' /proc")
def test_it_holds_no_secret_and_no_other_file(broken: None, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "http_proxy"):
        monkeypatch.setenv(name, "kept-to-myself")
    audio.load(long, RATE)
    place = Path(f"/proc/{apart._waiting[0].process.pid}")
    assert b"kept-to-myself" not in (place / "environ").read_bytes()
    assert b"kept-to-myself" not in (place / "cmdline").read_bytes()
    deadline = time.monotonic() + 60  # it lets go of the sound a moment after its last answer
    while (opened := {os.readlink(each).partition(":")[0] for each in (place / "fd").iterdir()}) != {
        "/dev/null",
        "socket",
    }:
        assert time.monotonic() < deadline, opened
        time.sleep(0.01)
