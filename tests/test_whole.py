from pathlib import Path

import pytest

from a2i.whole import write_text


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
