import os
import time
from pathlib import Path

import pytest
from conftest import full_disk

from a2i.whole import ABANDONED, PARTIAL, sweep, write_text


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    write_text(file, "éa\r\nb\n")
    assert file.read_bytes() == "éa\r\nb\n".encode()
    write_text(file, "a \udcff name")
    assert file.read_text() == "a \\udcff name"
    assert list(file.parent.iterdir()) == [file]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    with pytest.raises(OSError, match=r"can't be written \(.*expected a folder with room.*/folder'"):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(OSError, match=r"can't be written \(.*a\.txt/b"):
        write_text(file / "b", "text")
    with full_disk(10), pytest.raises(OSError, match=r"can't be written \(File too large\); expected .*a\.txt"):
        write_text(file, "more than there is room for")
    assert file.read_text() == "a \\udcff name"
    assert list(file.parent.iterdir()) == [file]


def test_what_a_kill_left_is_swept_whatever_the_clock_says(tmp_path: Path) -> None:
    """A clock that went back leaves files of the future; what another process may still write to stays."""
    now, ages = time.time(), {"0" * 32: 2 * ABANDONED, "1" * 32: -2 * ABANDONED, "2" * 32: 60, "mine": 2 * ABANDONED}
    for folder in (tmp_path, tmp_path / "a" / "b"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, age in ages.items():
            (folder / f".{name}{PARTIAL}").touch()
            os.utime(folder / f".{name}{PARTIAL}", (now - age,) * 2)
    stay = {f".{'2' * 32}.partial", ".mine.partial"}
    sweep(tmp_path)
    assert {path.name for path in tmp_path.glob(".*")} == stay
    assert len(list((tmp_path / "a" / "b").iterdir())) == 4
    sweep(tmp_path, "*/*/")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == stay
