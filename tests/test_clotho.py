"""Clotho: the official layout, its odd file names, the splits of each version, and the real tables where they are."""

import hashlib
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from a2i.compose import build
from a2i.data import clotho
from a2i.data.clotho import Clotho, read_split
from a2i.data.folder import MissingRecordingsError, position

HEADER = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
ODD_NAMES = (
    "Rain, Cracking,  Rumbling .wav",
    "Street Ambient (Spain) .wav",
    "121006_rain&amp;storm.wav",
    "Forest dry leaves walk. .wav",
    "été à la mer.wav",
    'the "best" one\'s.wav',
)


def table_of(names: list[str] | tuple[str, ...]) -> str:
    quoted = (name.replace('"', '""') for name in names)
    return HEADER + "".join(f'"{name}","One, and two.",b {k}, c ,d,e\n' for k, name in enumerate(quoted))


def write_split(root: Path, official: str, names: list[str] | tuple[str, ...]) -> None:
    (root / official).mkdir(parents=True)
    for name in names:
        soundfile.write(root / official / name, np.zeros(441, dtype=np.float32), 44_100)
    (root / f"clotho_captions_{official}.csv").write_text(table_of(names), encoding="utf-8")


def test_odd_names_and_quoted_captions_are_kept_to_the_letter(tmp_path: Path) -> None:
    write_split(tmp_path, "evaluation", ODD_NAMES)
    clips = read_split(tmp_path / "clotho_captions_evaluation.csv", tmp_path / "evaluation")
    assert tuple(clip.name for clip in clips) == ODD_NAMES
    assert all(clip.path == tmp_path / "evaluation" / clip.name and clip.path.is_file() for clip in clips)
    assert clips[1].captions == ("One, and two.", "b 1", "c", "d", "e")
    assert clips[0].start is None
    assert clips[0].end is None


def test_another_normal_form_and_lost_blanks_are_found(tmp_path: Path) -> None:
    write_split(tmp_path, "evaluation", ODD_NAMES)
    for name in ODD_NAMES:
        plain = unicodedata.normalize("NFD", name.replace(" .wav", ".wav").replace("&amp;", "&"))
        (tmp_path / "evaluation" / name).rename(tmp_path / "evaluation" / plain)
    clips = read_split(tmp_path / "clotho_captions_evaluation.csv", tmp_path / "evaluation")
    assert tuple(clip.name for clip in clips) == ODD_NAMES
    assert {clip.path for clip in clips} == set((tmp_path / "evaluation").iterdir())


@pytest.mark.parametrize(("absent", "listed", "rest"), [(3, 3, ""), (20, 20, ""), (27, 20, " and 7 more;")])
def test_missing_recordings_are_listed(tmp_path: Path, absent: int, listed: int, rest: str) -> None:
    names = [f"{number:02}.wav" for number in range(30)]
    write_split(tmp_path, "evaluation", names)
    for name in names[:absent]:
        (tmp_path / "evaluation" / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_split(tmp_path / "clotho_captions_evaluation.csv", tmp_path / "evaluation")
    assert isinstance(caught.value, MissingRecordingsError)
    assert caught.value.missing == names[:absent]
    message = str(caught.value)
    assert f"{absent} recordings are missing" in message
    assert rest in message
    assert (" more;" in message) == bool(rest)
    assert [name for name in names if repr(name) in message] == names[:listed]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.wav,1,2, ,4,\n", "row 2: 'a.wav' has no text in caption_3, caption_5"),
        ("a.wav,1,2,3,4,5\na.wav,1,2,3,4,5\n", "row 3: 'a.wav' is already in row 2"),
        ("a.wav,1,2,3,4,5\n ,1,2,3,4,5\n", "row 3: file_name is empty"),
        ("a.wav,1,2,3,4\n", "row 2: got 5 cells, expected 6"),
    ],
)
def test_mistakes_are_told_with_their_row(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(HEADER + rows)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "table.csv", tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file_name,caption_1\na.wav,x\n")
    with pytest.raises(ValueError, match="'caption_2', 'caption_3', 'caption_4', 'caption_5'"):
        read_split(tmp_path / "table.csv", tmp_path)


@pytest.mark.parametrize("version", ["v2", "v2.1"])
def test_the_splits_of_version_2(tmp_path: Path, version: str) -> None:
    for official in ("development", "validation", "evaluation"):
        write_split(tmp_path, official, [f"{official} {k}.wav" for k in range(2)])
    source = Clotho(str(tmp_path), version)
    source.prepare()
    for split, official in (("train", "development"), ("val", "validation"), ("test", "evaluation")):
        assert [clip.name for clip in source.clips(split)] == [f"{official} 0.wav", f"{official} 1.wav"]
        assert source.clips(official) == source.clips(split)
    with pytest.raises(ValueError, match="no split 'dev'"):
        source.clips("dev")


def test_version_1_holds_out_a_fixed_tenth(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(100)]
    write_split(tmp_path, "development", names)
    write_split(tmp_path, "evaluation", ["e.wav"])
    source = Clotho(tmp_path, "v1")
    source.prepare()
    train, val = ([clip.name for clip in source.clips(split)] for split in ("train", "val"))
    assert val == [name for name in names if position(name) < 0.1]
    assert 3 <= len(val) <= 18
    assert sorted(train + val) == sorted(names)
    assert not set(train) & set(val)
    assert [clip.name for clip in source.clips("development")] == names
    with pytest.raises(ValueError, match="v1 has no split 'validation'"):
        source.clips("validation")


def test_metadata_is_latin_1(tmp_path: Path) -> None:
    columns = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    row = 'été.wav,"sea;café",Not found,,"[0, 9]",José,CC0\n'
    (tmp_path / "clotho_metadata_evaluation.csv").write_bytes((columns + row).encode("latin-1"))
    (rows,) = Clotho(tmp_path).metadata("test")
    assert rows["file_name"] == "été.wav"
    assert rows["manufacturer"] == "José"
    assert rows["keywords"] == "sea;café"
    with pytest.raises(FileNotFoundError, match=r"clotho_metadata_development\.csv"):
        Clotho(tmp_path).metadata("train")


def test_without_download_what_to_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.download=true.*zenodo.org/records/4783391"):
        Clotho(tmp_path).prepare()
    write_split(tmp_path, "evaluation", ["a.wav"])
    Clotho(tmp_path, splits="evaluation").prepare()  # the other splits are not asked for
    (tmp_path / "evaluation/a.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"'a.wav'; set data.download=true"):
        Clotho(tmp_path, splits=["test"]).prepare()
    with pytest.raises(ValueError, match="unknown version 'v3'"):
        Clotho(tmp_path, "v3")
    with pytest.raises(ValueError, match="no split 'all'"):
        Clotho(tmp_path, splits=["all"])


def official_files(folder: Path, names: tuple[str, ...]) -> dict[str, tuple[int, str, str, str]]:
    """A small Clotho record as Zenodo would serve it: an archive, a caption table and a metadata table."""
    py7zr = pytest.importorskip("py7zr", reason="the extra 'download' is not installed")
    write_split(folder / "made", "evaluation", names)
    with py7zr.SevenZipFile(folder / "clotho_audio_evaluation.7z", "w") as archive:
        archive.writeall(folder / "made/evaluation", "evaluation")
    (folder / "made/clotho_captions_evaluation.csv").rename(folder / "clotho_captions_evaluation.csv")
    (folder / "clotho_metadata_evaluation.csv").write_text("file_name,keywords\n")
    files = ("clotho_audio_evaluation.7z", "clotho_captions_evaluation.csv", "clotho_metadata_evaluation.csv")
    archive_md5, captions, metadata = (hashlib.md5((folder / name).read_bytes()).hexdigest() for name in files)
    return {"evaluation": (len(names), archive_md5, captions, metadata)}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine: its address, and the paths that it has been asked for by GET."""
    got: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.path.split("?")[0])
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


def test_prepare_downloads_unpacks_and_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    served, root = tmp_path / "served", tmp_path / "root"
    served.mkdir()
    monkeypatch.setitem(clotho.FILES, "v2.1", official_files(served, ODD_NAMES))
    with serving(served) as (url, got):
        monkeypatch.setattr(clotho, "ZENODO", url + "/{name}?record={record}")
        source = Clotho(root, download=True)
        source.prepare()
        assert {clip.name for clip in source.clips("test")} == set(ODD_NAMES)
        assert len(got) == 3
        source.prepare()
        assert len(got) == 3, "what is there is not fetched again"
        # One recording is lost: only the archive comes again.
        (root / "evaluation" / ODD_NAMES[0]).unlink()
        source.prepare()
        assert got[3:] == ["/clotho_audio_evaluation.7z"]
    assert sorted(path.name for path in root.iterdir()) == [
        "clotho_captions_evaluation.csv",
        "clotho_metadata_evaluation.csv",
        "evaluation",
    ]
    assert "Clotho v2.1 (evaluation; 0.0 GB to download) needs about" in caplog.text


def test_a_table_of_another_version_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_split(tmp_path, "evaluation", ["a.wav"])
    Clotho(tmp_path, splits="evaluation").prepare()
    assert "is not the table of Clotho v2.1 but no official one" in caplog.text
    with pytest.raises(ValueError, match=r"clotho_captions_evaluation.csv has the MD5 \w+, expected 1b16b9e5"):
        Clotho(tmp_path, splits="evaluation", download=True).prepare()
    assert (tmp_path / "clotho_captions_evaluation.csv").read_text() == table_of(["a.wav"])


def test_the_configuration_names_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2I_DATA", str(tmp_path))
    config = OmegaConf.load(Path(__file__).parents[1] / "conf/data/clotho.yaml")
    source = build(config)
    assert isinstance(source, Clotho)
    assert source.root == tmp_path / "clotho"
    assert source.splits[0] == "development"


@pytest.mark.parametrize(("official", "rows"), [("development", 2893), ("evaluation", 1045)])
def test_the_real_tables_are_the_official_ones(official: str, rows: int, tmp_path: Path, real_data: Path) -> None:
    table = real_data / "clotho" / f"clotho_captions_{official}.csv"
    number, _, captions, _ = clotho.FILES["v1"][official]
    assert hashlib.md5(table.read_bytes()).hexdigest() == captions
    assert number == rows
    with pytest.raises(MissingRecordingsError) as caught:
        read_split(table, tmp_path)
    assert len(set(caught.value.missing)) == rows
    for name in caught.value.missing:  # every real name, with its blanks, commas and entities, can be found
        (tmp_path / name).touch()
    clips = read_split(table, tmp_path)
    assert [clip.path for clip in clips] == [tmp_path / clip.name for clip in clips]
    assert len(clips) == rows
    assert all(len(clip.captions) == 5 for clip in clips)


def test_the_real_recordings_that_are_here_are_found_and_the_others_listed(real_data: Path) -> None:
    root = real_data / "clotho"
    with pytest.raises(MissingRecordingsError) as caught:
        Clotho(root, "v1").clips("test")
    here = {path.name for path in (root / "evaluation").iterdir()}
    named = {
        row.split(".wav")[0].strip('"') + ".wav"
        for row in (root / "clotho_captions_evaluation.csv").read_text("utf-8").splitlines()
    }
    assert len(here) == 5
    assert here <= named
    assert len(caught.value.missing) == 1040
    assert not here & set(caught.value.missing)
    for name in list(caught.value.missing)[:20]:
        assert repr(name) in str(caught.value)
    assert "and 1020 more" in str(caught.value)
