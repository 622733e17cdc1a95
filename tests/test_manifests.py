import errno
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.audio.addresses import Address, AddressError
from a2i.audio.inputs import Skipped, each_sound, find_sounds
from a2i.audio.manifests import NOTHING, _told, is_manifest, sounds_of
from a2i.parts import Parts, Plan
from a2i.results import RowSettings

VALUES = ["a.wav", "/b/c.wav", "s3://bucket/d.wav", None, "", "a.wav"]


def written(folder: Path, ending: str, values: list[str | None], column: str = "audio") -> Path:
    path = folder / f"manifest{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"n": range(len(values)), column: values}), path)
    elif ending == ".csv":
        path.write_text(f"n,{column}\n" + "".join(f"1,{value or ''}\n" for value in values), encoding="utf-8-sig")
    else:
        path.write_text("".join(json.dumps({"n": 1, column: value}) + "\n" for value in values) + "\n")
    return path


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_rows_are_paths_below_it_or_addresses(tmp_path: Path, ending: str) -> None:
    path, skipped = written(tmp_path, ending, VALUES), Counter[str]()
    found = list(sounds_of(str(path), "audio", skipped))
    assert found == [tmp_path / "a.wav", Path("/b/c.wav"), Address("s3://bucket/d.wav"), tmp_path / "a.wav"]
    assert skipped == {NOTHING: 2}
    told = Skipped()
    assert find_sounds(str(path), told) == found[:3]  # each once
    assert told.files == {NOTHING: 2, "found twice": 1}
    assert list(each_sound(str(path), Skipped())) == found
    with pytest.raises(ValueError, match="has no column 'file'; expected audio_column= one of n, audio"):
        list(sounds_of(str(path), "file", skipped))


def test_one_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", VALUES)
    system = fsspec.filesystem("memory")
    system.pipe("/lists/manifest.parquet", path.read_bytes())
    found = find_sounds("memory://lists/manifest.parquet")
    assert found == [Address("memory://lists/a.wav"), Path("/b/c.wav"), Address("s3://bucket/d.wav")]
    with pytest.raises(OSError, match="no such bucket, folder or file"):
        find_sounds("memory://lists/gone.parquet")


def test_what_is_no_table(tmp_path: Path) -> None:
    for ending, message in ((".parquet", "can't be read as parquet"), (".jsonl", "holds no JSON objects")):
        path = tmp_path / f"broken{ending}"
        path.write_text("no table\n")
        with pytest.raises(ValueError, match=message):
            list(sounds_of(str(path), "audio", Counter()))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="none: it is empty"):
        find_sounds(str(tmp_path / "empty.csv"))
    assert find_sounds("gone.parquet") == [Path("gone.parquet")]  # hearing it will say that


def test_one_with_a_signature(tmp_path: Path) -> None:
    """It is a manifest by its path, and what lies beside it is found without the signature."""
    assert is_manifest("https://host/lists/all.csv?X-Amz-Signature=a/b")
    assert not is_manifest("https://host/a.wav?list=all.csv")


def test_one_that_breaks_off_is_named(tmp_path: Path) -> None:
    """It is not taken for results that can't be written, nor is a signature told."""

    def broken() -> Iterator[str]:
        yield "a.wav"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(AddressError, match=r"^list\.csv: can't be read to its end \("):
        list(_told(broken(), "list.csv"))
    with pytest.raises(AddressError) as told:
        list(_told(broken(), "https://host/list.csv?sig=HIDDEN"))
    assert str(told.value).startswith("https://host/list.csv: ")
    sounds = (Path(each) for each in _told(broken(), "list.csv"))
    with pytest.raises(AddressError, match=r"^list\.csv: "):
        Plan.of(sounds, Parts(str(tmp_path)), RowSettings("caption", None), False, 4, 1)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"audio": [f"{number}.wav" for number in range(5_000)]}), path)
    content = bytearray(path.read_bytes())
    content[20:2_000] = bytes(1_980)
    path.write_bytes(content)
    with pytest.raises(AddressError, match=r"list\.parquet: can't be read to its end \(Corrupt"):
        list(sounds_of(str(path), "audio", Counter()))


def test_one_broken_row_stops_no_other(tmp_path: Path) -> None:
    path, skipped = tmp_path / "manifest.jsonl", Counter[str]()
    path.write_text('{"audio": "a.wav"}\n{"audio": \n[1]\n{"other": 1}\n{"audio": 3}\n{"audio": "b.wav"}\n')
    assert [each.name for each in sounds_of(str(path), "audio", skipped)] == ["a.wav", "b.wav"]
    assert skipped == {NOTHING: 4}


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=9))
def test_names_come_through(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    values = [f"x{value}.wav" for value in values]
    folder = tmp_path_factory.mktemp("m")
    for ending in (".parquet", ".jsonl"):
        found = sounds_of(str(written(folder, ending, [*values])), "audio", Counter())
        assert list(found) == [folder / value for value in values]
