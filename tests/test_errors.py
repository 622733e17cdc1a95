"""Errors of libraries, told in one line."""

import errno
from pathlib import Path

import pytest
import torch

from a2i.audio.waveforms import from_array
from a2i.captioner.encoders import read_weights
from a2i.errors import first_line, one_line, with_kind


def test_an_error_without_text_says_its_kind() -> None:
    for text in ("", " \n "):
        assert (
            first_line(RuntimeError(text)) == one_line(ValueError(text)).replace("Value", "Runtime") == "RuntimeError"
        )
    assert first_line(ValueError("\n a\n b")) == "a"
    assert with_kind(ValueError("a\n b")) == "a b"
    assert with_kind(RuntimeError("a\n b")) == "RuntimeError: a b"


def test_no_password_is_told() -> None:
    said = "no proxy at http://me:se@cret@proxy.example:80/a@b (see https://example.org/a@b)"
    expected = "no proxy at http://…@proxy.example:80/a@b (see https://example.org/a@b)"
    for told in (first_line, one_line):
        assert told(ValueError(said)) == expected
    assert with_kind(RuntimeError(said)) == f"RuntimeError: {expected}"


def test_an_error_without_text_is_told_where_a_library_raises_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def __array__(self, *_: object, **__: object) -> object:
            raise ValueError

    with pytest.raises(ValueError, match=r"that is no array of samples \(ValueError\)"):
        from_array(Silent(), 16_000, 16_000)
    (tmp_path / "x.pth").write_bytes(b"")  # torch's EOFError of a file of no bytes has text in some versions only
    with pytest.raises(ValueError, match=r"could not load weights from .*x.pth \(.+\)"):
        read_weights(tmp_path / "x.pth")

    def silent(*_: object, **__: object) -> None:
        raise EOFError

    monkeypatch.setattr(torch, "load", silent)
    with pytest.raises(ValueError, match=r"x.pth \(EOFError\)"):
        read_weights(tmp_path / "x.pth")


def test_errors_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError) as missing:
        open("nowhere/x")  # noqa: SIM115
    assert one_line(missing.value) == f"nowhere/x: No such file or directory (relative paths begin in {tmp_path})"
    with pytest.raises(FileNotFoundError) as missing:
        open(tmp_path / "nowhere")  # noqa: SIM115
    assert one_line(missing.value) == f"{tmp_path / 'nowhere'}: No such file or directory"
    with pytest.raises(OSError, match="directory") as below:
        Path("file/below").mkdir()
    assert one_line(below.value) == "file/below: Not a directory"
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    full = OSError(errno.ENOSPC, "No space left on device", "x.npy")
    assert one_line(full).startswith("x.npy: no space left on the disk")
    assert one_line(OSError(errno.ENOSPC, "needs 3 GB; make room")) == "needs 3 GB; make room", "and not [Errno 28]"
    sealed = OSError(errno.EROFS, "Read-only file system", "x.npy")
    assert one_line(sealed) == "x.npy: nothing can be written there, as it is read-only; choose another folder"
