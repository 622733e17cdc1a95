"""A folder of sounds with a caption table: reading, splits, and what is said about mistakes."""

import csv
import io
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from a2i.compose import build
from a2i.data import Clip
from a2i.data.folder import Folder, MissingRecordingsError, locate, position, read_table


def write_sounds(folder: Path, names: list[str]) -> None:
    """Real WAV files: 0.1 s at 8 kHz."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.linspace(-0.5, 0.5, 800, dtype=np.float32), 8000)


def folder_of(root: Path, table: str, names: list[str], **arguments: object) -> Folder:
    write_sounds(root, names)
    (root / "captions.csv").write_text(table, encoding="utf-8")
    return Folder(root, **arguments)  # type: ignore[arg-type]


def test_a_split_column_and_parts_of_files(tmp_path: Path) -> None:
    table = (
        "split,start,end,file_name,caption\n"
        'train,,,a.wav,"A bell rings, then stops."\n'
        "train,0.5,2,sub/b.wav,Water drips.\n"
        "train,2,,sub/b.wav,A tap is closed.\n"
        "val,,,c.wav,Wind.\n"
        "test,,0.05,a.wav,A bell.\n"
    )
    source = folder_of(tmp_path, table, ["a.wav", "sub/b.wav", "c.wav"])
    source.prepare()
    assert source.clips("train") == [
        Clip("a.wav", tmp_path / "a.wav", ("A bell rings, then stops.",)),
        Clip("sub/b.wav#t=0.5,2", tmp_path / "sub/b.wav", ("Water drips.",), 0.5, 2.0),
        Clip("sub/b.wav#t=2", tmp_path / "sub/b.wav", ("A tap is closed.",), 2.0, None),
    ]
    assert [clip.name for clip in source.clips("val")] == ["c.wav"]
    assert source.clips("test") == [Clip("a.wav#t=,0.05", tmp_path / "a.wav", ("A bell.",), None, 0.05)]


def test_empty_extra_captions_are_left_out_and_columns_keep_their_order(tmp_path: Path) -> None:
    table = "file_name,caption_2,note,caption_1,caption_3\na.wav, two ,x,one,\nb.wav,,y,,three\n"
    source = folder_of(tmp_path, table, ["a.wav", "b.wav"], val_share=0, test_share=0)
    assert [clip.captions for clip in source.clips("train")] == [("two", "one"), ("three",)]


def test_the_shares_are_fixed_disjoint_and_about_right(tmp_path: Path) -> None:
    names = [f"{number:03}.wav" for number in range(400)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "captions.csv").write_text("file_name,caption\n" + "".join(f"{name},x\n" for name in names))
    parts = {split: {clip.name for clip in Folder(tmp_path).clips(split)} for split in ("train", "val", "test")}
    assert parts["train"] | parts["val"] | parts["test"] == set(names)
    assert sum(map(len, parts.values())) == 400
    assert 25 <= len(parts["val"]) <= 55
    assert 25 <= len(parts["test"]) <= 55
    assert {clip.name for clip in Folder(tmp_path, seed=1).clips("val")} != parts["val"]
    # Fewer rows move no clip to another split.
    (tmp_path / "captions.csv").write_text("file_name,caption\n" + "".join(f"{name},x\n" for name in names[::2]))
    assert {clip.name for clip in Folder(tmp_path).clips("val")} == parts["val"] & set(names[::2])


def test_parts_of_one_file_share_a_split(tmp_path: Path) -> None:
    rows = "".join(f"a.wav,{start},x\n" for start in range(30))
    source = folder_of(tmp_path, f"file_name,start,caption\n{rows}", ["a.wav"], val_share=0.4, test_share=0.3)
    home = "val" if position("a.wav") < 0.4 else "test" if position("a.wav") < 0.7 else "train"
    assert len(source.clips(home)) == 30


def test_position_is_fixed_and_blind_to_the_normal_form() -> None:
    # MD5 of "0/a.wav" begins with these 6 bytes: the split of a file must not change with a release of ours.
    assert position("a.wav") == int("11a4f8f9de76", 16) / 2**48
    assert position(unicodedata.normalize("NFC", "é.wav")) == position(unicodedata.normalize("NFD", "é.wav"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,caption\na.wav,\n", "row 2: no caption"),
        ("file_name,text\na.wav,hello\n", "row 2: no caption"),
        ("file_name,caption\na.wav,x\n,y\n", "row 3: file_name is empty"),
        ("file_name,caption\na.wav,x\n\na.wav,y\n", "row 4: 'a.wav' is already in row 2"),
        ("file_name,caption\na.wav,x, y\n", "row 2: got 3 cells, expected 2"),
        ("name,caption\na.wav,x\n", r"expected \['file_name'\] too"),
        ("file_name,caption,split\na.wav,x,training\n", "row 2: split 'training'"),
        ("file_name,caption,start\na.wav,x,-1\n", "row 2: start '-1'"),
        ("file_name,caption,start\na.wav,x,soon\n", "row 2: start 'soon'"),
        ("file_name,caption,end\na.wav,x,nan\n", "row 2: end 'nan'"),
        ("file_name,caption,start,end\na.wav,x,3,3\n", "row 2: start 3 s is not before end 3 s"),
        ('file_name,caption\na.wav,"x\n', "not a CSV file"),
        ("", r"has the columns \[\]"),
    ],
)
def test_mistakes_in_the_table_are_told_with_their_row(tmp_path: Path, table: str, message: str) -> None:
    source = folder_of(tmp_path, table, ["a.wav"])
    with pytest.raises(ValueError, match=message):
        source.prepare()


def test_other_mistakes(tmp_path: Path) -> None:
    source = folder_of(tmp_path, "file_name,caption,split\na.wav,x,train\nb.wav,x,train\n", ["a.wav"])
    with pytest.raises(MissingRecordingsError, match="1 recording is missing") as caught:
        source.clips("train")
    assert caught.value.missing == ["b.wav"]
    with pytest.raises(ValueError, match="no row for 'val'"):
        source.clips("val")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        source.clips("dev")
    with pytest.raises(ValueError, match=r"val_share=0\.6"):
        Folder(tmp_path, val_share=0.6, test_share=0.4)
    with pytest.raises(FileNotFoundError, match="no caption table"):
        Folder(tmp_path, captions="other.csv").clips("train")
    (tmp_path / "latin.csv").write_bytes("file_name,caption\na.wav,café\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_table(tmp_path / "latin.csv", ("file_name",))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_bytes("\ufefffile_name,caption\r\na.wav,x\r\n".encode())
    write_sounds(tmp_path, ["a.wav"])
    Folder(tmp_path).prepare()


def test_locate_forgives_what_file_systems_change_where_one_file_fits(tmp_path: Path) -> None:
    composed, split_up = unicodedata.normalize("NFC", "café.wav"), unicodedata.normalize("NFD", "café.wav")
    write_sounds(tmp_path, [split_up, "Rain.wav", "storm & rain.wav", "a.wav", "a .wav", "exact .wav"])
    names = [composed, "Rain .wav", "storm &amp; rain.wav", "a .wav", "a.wav", "exact .wav"]
    found = [path.name for path in locate(names, tmp_path, "").values()]
    assert found == [split_up, "Rain.wav", "storm & rain.wav", "a .wav", "a.wav", "exact .wav"]


def test_paths_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["a.wav", "in/deep/b.wav"])
    names = ["./a.wav", "in/../a.wav", str(tmp_path / "a.wav"), "in\\deep\\b.wav", ".\\in\\deep/b.wav"]
    found = locate(names, tmp_path, "")
    assert list(found) == names
    assert list(found.values()) == [tmp_path / "a.wav"] * 3 + [tmp_path / "in/deep/b.wav"] * 2
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    outside = tmp_path / "link" / "deep"
    assert locate(["b.wav", str(tmp_path / "in/deep/b.wav")], outside, "")["b.wav"] == outside / "b.wav"


@pytest.mark.skipif(os.sep == "\\", reason="a backslash separates folders there")
def test_a_backslash_may_be_part_of_a_name(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["odd\\name.wav"])
    assert locate(["odd\\name.wav"], tmp_path, "") == {"odd\\name.wav": tmp_path / "odd\\name.wav"}


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.wav", "sub/../../secret.wav", "/secret.wav", "..\\secret.wav", "sub\\..\\..\\secret.wav"),
        *("\\secret.wav", "C:\\secret.wav", "\\\\server\\share\\secret.wav", "..", "sub/../../in2/secret.wav"),
    ],
)
def test_a_file_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    """A table may come from anyone, and a report that is passed on holds the sounds it names."""
    write_sounds(tmp_path, ["secret.wav", "in2/secret.wav", "in/a.wav"])
    table = tmp_path / "in" / "captions.csv"
    table.write_text(f"file_name,caption\na.wav,x\n{name},y\n")
    with pytest.raises(ValueError, match=r"captions\.csv, row 3: the file name .* leads out of") as caught:
        Folder(tmp_path / "in").prepare()
    assert repr(name) in str(caught.value)
    with pytest.raises(ValueError, match="leads out of"):
        locate(["a.wav", name], tmp_path / "in", "")
    with pytest.raises(ValueError, match="leads out of"):
        locate([str(tmp_path / "secret.wav")], tmp_path / "in", "")


def test_a_row_that_names_the_same_file_is_found(tmp_path: Path) -> None:
    source = folder_of(tmp_path, "file_name,caption\nin/a.wav,x\n./in\\a.wav,y\n", ["in/a.wav"])
    with pytest.raises(ValueError, match=r"row 3: '\./in\\\\a\.wav' is already in row 2"):
        source.prepare()


# --- How tables are written

ROWS = [["file_name", "caption_1", "caption_2"], ["a.wav", "Wind, then rain", ""], ["b.wav", "Äpfel", 'a "loud" bell']]


def written(delimiter: str, end: str = "\n") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(ROWS)
    return text.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(written(delimiter).encode() for delimiter in ",;\t"),
        *(written(";", end).encode("utf-8-sig") for end in ("\r\n", "\r")),
        written("\t", "\r\n").encode("utf-16"),
        written(",").encode("utf-16-be").join([b"\xfe\xff", b""]),
        b"sep=;\r\n" + written(";", "\r\n").encode(),
        (written(",") + ",,\n,,,,\n\n").encode(),
        "\n".join(f"{line},,," for line in written(",").splitlines()).encode(),
        written(",").replace("file_name", " File_Name ").replace("caption_1", "Caption 1").encode(),
        b"\n" + written("\t").encode(),
    ],
    ids=[
        "comma",
        "semicolon",
        "tab",
        "crlf",
        "cr",
        "utf-16",
        "utf-16-be",
        "sep",
        "rows",
        "cells",
        "header",
        "blank first",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    rows = read_table(tmp_path / "table.csv", ["file_name", "caption_1"])
    assert [list(cells) for _, cells in rows] == [ROWS[0]] * 2
    assert [list(cells.values()) for _, cells in rows] == ROWS[1:]
    assert [number for number, _ in rows] == ([3, 4] if content.startswith(b"\n") else [2, 3])


def test_captions_are_no_evidence_of_a_delimiter(tmp_path: Path) -> None:
    """More semicolons than commas; and a column of rows' numbers in front, as pandas writes it."""
    (tmp_path / "table.csv").write_text(",file_name,caption\n0,a.wav,rain; wind; hail; snow\n1,b.wav,a;b;c;d\n")
    rows = read_table(tmp_path / "table.csv", ["file_name"])
    assert [cells["caption"] for _, cells in rows] == ["rain; wind; hail; snow", "a;b;c;d"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"file_name,caption\na.wav,caf\xe9\n",
            r"line 2 has the byte 0xe9 \('é' in Latin-1 .*save it again as CSV in UTF-8",
        ),
        ("file_name,caption\na.wav,x\n".encode("utf-16-le"), "NUL bytes, as UTF-16 without a mark"),
        (b"\xff\xfea", "nor whole UTF-16"),
        (b"PK\x03\x04rest", "a spreadsheet or an archive"),
        (b"\xd0\xcf\x11\xe0rest", "a spreadsheet or an archive"),
        (b"file_name,caption,note\na.wav,x\n", "row 2: got 2 cells, expected 3; a missing value is an empty cell"),
        (b'file_name,caption\na.wav,x\nb.wav,"y\nc.wav,z\n', "row 3: not a CSV file .* double quote .* not closed"),
        (b'file_name,caption\na.wav,"x" y\nb.wav,z\n', "row 2: not a CSV file"),
        (b"file_name,caption,caption\na.wav,x,y\n", "more than one column 'caption'; expected each once"),
        (b"file_name;Caption_1;caption 1\na.wav;x;y\n", "more than one column 'caption_1'"),
        (b"file_name,note,caption,note\na.wav,x,y,z\n", "more than one column 'note'"),
        (b"file_name,caption,,\na.wav,A dog barks, then rain,\n", "row 2: got 4 cells, expected 2"),
        (b"file_name;caption\na.wav;x;y\n", "row 2: got 3 cells, expected 2"),
        (b"name;caption\na.wav;x\n", r"has the columns \['name.*expected \['file_name'\] too"),
        (
            b"file_name,caption\na.wav,x\nb.wav,nan\n",
            "row 3: caption is 'nan', as programs write a value that is missing",
        ),
        (b"file_name,caption_1,caption_2\na.wav,x,None\n", "row 2: caption_2 is 'None'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "table.csv", ["file_name"])


def test_a_relative_path_is_told_with_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf"no caption table at gone\.csv \(relative to {re.escape(str(tmp_path))}\)"
    ):
        read_table(Path("gone.csv"), ["file_name"])
    with pytest.raises(MissingRecordingsError, match=rf"is missing in in \(relative to {re.escape(str(tmp_path))}\)"):
        locate(["a.wav"], Path("in"), "")


def test_locate_never_gives_one_file_to_two_names_nor_guesses(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["a.wav", "b .wav", " b.wav"])
    (tmp_path / "folder.wav").mkdir()
    names = ["a.wav", "a .wav", "b.wav", "folder.wav", "A.wav"]
    with pytest.raises(MissingRecordingsError) as caught:
        locate(names, tmp_path, "advice at the end")
    assert caught.value.missing == ["a .wav", "b.wav", "folder.wav", "A.wav"]
    assert str(caught.value).endswith("advice at the end")
    (tmp_path / "a.wav").rename(tmp_path / "a  .wav")
    with pytest.raises(MissingRecordingsError) as caught:
        locate(["a.wav", "a .wav"], tmp_path, "")
    assert caught.value.missing == ["a.wav", "a .wav"]


def test_the_configuration_names_the_arguments(tmp_path: Path) -> None:
    config = OmegaConf.load(Path(__file__).parents[1] / "conf/data/folder.yaml")
    assert OmegaConf.missing_keys(config) == {"root"}
    config.root = str(tmp_path)
    (tmp_path / "captions.csv").write_text("file_name,caption\n")
    build(config).prepare()
