import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2i.data.file_hash import RACY, Contents
from a2i.whole import write_whole


def settled(path: Path, content: bytes) -> Path:
    """A file that looks as if it had been written a minute ago; its change time alone can't be set, and is waited for."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait of three seconds for the clock; the grain of this file system's is well below."""
    monkeypatch.setattr("a2i.data.file_hash.RACY", 0.05)


def test_a_settled_file_is_read_once_by_all(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled(tmp_path / "sound", b"some sound")
    time.sleep(0.1)
    assert Contents(tmp_path / "files").known(path) is None
    digest = Contents(tmp_path / "files").digest(path)
    assert digest == hashlib.sha256(b"some sound").hexdigest()
    other = Contents(tmp_path / "files")
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("read again"))
    monkeypatch.setattr(Path, "read_text", lambda path, **_: os.fsdecode(os.read(os.open(path, os.O_RDONLY), 500)))
    assert other.known(path) == other.digest(path) == digest


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_a_change_is_seen_though_size_and_time_are_the_old_ones(tmp_path: Path, quick: None, how: str) -> None:
    path = settled(tmp_path / "sound", b"some sound")
    time.sleep(0.1)
    contents = Contents(tmp_path / "files")
    before, stat = contents.digest(path), path.stat()
    if how == "written":
        path.write_bytes(b"SOME SOUND")
    else:
        os.replace(settled(tmp_path / "other", b"SOME SOUND"), path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert contents.known(path) is None
    for each in (contents, Contents(tmp_path / "files")):
        assert each.digest(path) == hashlib.sha256(b"SOME SOUND").hexdigest() != before


def test_a_clock_that_went_back_serves_nothing_stale(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "sound", b"some sound")
    time.sleep(0.1)
    contents, now = Contents(tmp_path / "files"), time.time()
    before = contents.digest(path)
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert contents.digest(path) == before
    path.write_bytes(b"SOME SOUND")
    for each in (contents, Contents(tmp_path / "files")):
        assert each.digest(path) == hashlib.sha256(b"SOME SOUND").hexdigest()
        assert each.known(path) is None  # of the future: it is read each time


def test_what_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(b"some sound")
    contents = Contents(tmp_path / "files")
    contents.digest(path)
    assert RACY > 1
    assert contents.known(path) is None
    assert not (tmp_path / "files").exists()


@given(rubbish=st.binary(max_size=200))
def test_a_broken_record_is_no_record(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    folder = tmp_path_factory.mktemp("contents")
    path, contents = settled(folder / "sound", b"some sound"), Contents(folder / "files")
    record = contents._record(path)
    record.parent.mkdir(parents=True)
    record.write_bytes(rubbish)
    assert contents.digest(path) == hashlib.sha256(b"some sound").hexdigest()


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"old"]


@pytest.mark.parametrize(("later", "remembered"), [(RACY - 0.5, False), (RACY + 0.5, True)])
def test_remembered_once_the_file_has_rested(
    later: float, remembered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tmp_path / "sound.wav"
    sound.write_bytes(b"sound")
    changed = sound.stat().st_ctime_ns / 1e9
    monkeypatch.setattr("a2i.data.file_hash.time.time", lambda: changed + later)
    digest = Contents(tmp_path / "files").digest(sound)
    assert Contents(tmp_path / "files").known(sound) == (digest if remembered else None)
