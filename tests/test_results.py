import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.file_names import PictureNames, caseless
from a2i.results import GRID, ResultsFile, RowSettings, settings_of

ASKED = RowSettings("caption", "image")
stems = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=300) | st.sampled_from(
    ["a", "A", "a_2", "a~2", "a_2_2", "é", "e\u0301", "ß", "ss", "\udcff", "%FF", "é" * 200, "é" * 199 + "e", "x" * 249]
)


@settings(max_examples=200)
@given(st.lists(stems, min_size=1, max_size=12), st.integers(60, 255), st.integers(0, 12))
def test_names_differ_fit_and_stay(given_stems: list[str], limit: int, first: int) -> None:
    """Whatever a file system takes for equal, whatever its limit; a later run keeps what the earlier gave."""
    names = PictureNames({}, limit)
    given_names = {f"{place}": names.of(f"{place}", stem) for place, stem in enumerate(given_stems)}
    assert len({caseless(name) for name in given_names.values()}) == len(given_stems)
    for name in given_names.values():
        assert len(name.encode()) <= limit  # text: no bytes that are none
        assert name.endswith(".png")
        assert "/" not in name
    assert {key: names.of(key, "other") for key in given_names} == given_names
    # Some had failed and own nothing; the others keep their names, in any order.
    owned = {key: name for key, name in given_names.items() if int(key) >= first}
    later = PictureNames(owned, limit)
    again = {key: later.of(key, given_stems[int(key)]) for key in given_names}
    assert {key: again[key] for key in owned} == owned
    assert len({caseless(name) for name in again.values()}) == len(given_stems)


def test_names_as_people_expect_them() -> None:
    names = PictureNames({}, is_free=lambda name: name != "dog.png")
    stems = ["x", "x", "X", "x_2", "dog", "a.b"]
    assert [names.of(str(place), stem) for place, stem in enumerate(stems)] == [
        *("x.png", "x_2.png", "X_3.png", "x_2_2.png", "dog_2.png", "a.b.png")
    ]


def test_equal_names_by_the_thousand_take_no_time() -> None:
    names = PictureNames({})
    assert len({names.of(str(place), "take") for place in range(20_000)}) == 20_000
    tries = 0

    def is_free(name: str) -> bool:
        nonlocal tries
        tries += 1
        return True

    later = PictureNames({str(place): names.of(str(place), "take") for place in range(20_000)}, is_free=is_free)
    for place in range(20_000, 30_000):
        later.of(str(place), "take")
    assert tries == 10_000


def sound(folder: Path, name: str = "a.wav", content: bytes = b"sound") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def row_of(results: ResultsFile, path: Path, asked: RowSettings = ASKED, error: str | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"audio": str(path), "image": None, "audio_file": results.mark(path), "error": error}
    row |= {"caption_settings": asked.caption, "image_settings": asked.image}
    if asked.image and error is None:
        picture = results.folder / results.picture_name(path)
        picture.write_bytes(b"tEXtSoftware\0a2i, picture of " + os.fsencode(path))
        row |= {"image": str(picture), "image_bytes": picture.stat().st_size}
    return row


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_is_there(tmp_path: Path) -> None:
    path, out = sound(tmp_path / "in"), tmp_path / "out"
    with ResultsFile(out) as results:
        assert not results.has(path, ASKED)
        results.add(row_of(results, path))
        assert results.has(path, ASKED)
    with ResultsFile(out) as results:
        assert results.has(path, ASKED)
        assert results.has(tmp_path / "out" / ".." / "in" / "a.wav", ASKED)
        assert results.has(path, RowSettings("caption", None))
        assert not results.has(path, RowSettings("other", None))
        assert not results.has(path, RowSettings("caption", "other"))
        os.utime(path, (5, 5))
        assert results.has(path, ASKED)
        path.write_bytes(b"SOUND")
        assert not results.has(path, ASKED)
        path.write_bytes(b"sound")
        (out / "a.png").write_bytes(b"half")
        assert not results.has(path, ASKED)
    # Moved together they are still each other's.
    (tmp_path / "new").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    with ResultsFile(tmp_path / "new" / "out") as results:
        assert results.has(tmp_path / "new" / "in" / "a.wav", RowSettings("caption", None))


def test_a_row_is_replaced_where_it_stands(tmp_path: Path) -> None:
    first, second = sound(tmp_path / "in"), sound(tmp_path / "in", "b.wav")
    with ResultsFile(tmp_path / "out") as results:
        for path in (first, second):
            results.add(row_of(results, path))
        results.add(row_of(results, first, RowSettings("new", None)))
        assert len(rows(tmp_path / "out")) == 3
    assert [(row["audio"], row["caption_settings"]) for row in rows(tmp_path / "out")] == [
        (str(first), "new"),
        (str(second), "caption"),
    ]


def test_an_error_does_not_replace_what_was_done(tmp_path: Path) -> None:
    path = sound(tmp_path / "in")
    with ResultsFile(tmp_path / "out") as results:
        results.add(row_of(results, path, error="first"))
        results.add(row_of(results, path, error="second"))
        results.add(row_of(results, path))
        results.add(row_of(results, path, error="third"))
        results.add(row_of(results, path, RowSettings("caption", None), error="fourth"))
        assert results.has(path, ASKED)
    assert [row["error"] for row in rows(tmp_path / "out")] == [None]
    # Of other settings, or of a sound that changed, what was done is no answer any more.
    for asked in (RowSettings("other", "image"), RowSettings("caption", "other"), RowSettings("other", None)):
        with ResultsFile(tmp_path / "out") as results:
            results.add(row_of(results, path))
            results.add(row_of(results, path, asked, error="fifth"))
        assert [row["error"] for row in rows(tmp_path / "out")] == ["fifth"]
    with ResultsFile(tmp_path / "out") as results:
        results.add(row_of(results, path))
        path.write_bytes(b"another sound")
        results.add(row_of(results, path, error="sixth"))
    assert [row["error"] for row in rows(tmp_path / "out")] == ["sixth"]


@pytest.mark.parametrize("left", [1, 30, 200])
def test_a_last_line_that_was_cut_off_is_mended(tmp_path: Path, left: int) -> None:
    first, second = sound(tmp_path / "in"), sound(tmp_path / "in", "b.wav")
    with ResultsFile(tmp_path / "out") as results:
        for path in (first, second):
            results.add(row_of(results, path))
    file = tmp_path / "out" / "results.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(whole[0] + whole[1][:left])
    with ResultsFile(tmp_path / "out") as results:
        assert "cut off" in results.notes[0]
        assert results.has(first, ASKED)
        assert not results.has(second, ASKED)
        assert file.read_bytes() == whole[0]
        results.add(row_of(results, second))
    assert file.read_bytes() == b"".join(whole)
    file.write_bytes(whole[0] + whole[1].rstrip())  # whole but for its end
    with ResultsFile(tmp_path / "out") as results:
        assert results.has(second, ASKED)
    assert file.read_bytes() == b"".join(whole)


def test_an_empty_file_is_no_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.jsonl").touch()
    with ResultsFile(out) as results:
        assert not results.notes
        results.add(row_of(results, sound(tmp_path)))
    assert len(rows(out)) == 1


def test_lines_of_others_stay(tmp_path: Path) -> None:
    path, file = sound(tmp_path / "in"), tmp_path / "out" / "results.jsonl"
    file.parent.mkdir()
    old = json.dumps({"audio": str(path), "image": "out/a.png", "caption": "Old.", "error": None})
    file.write_text(f'{{"foo": 1}}\nno JSON\n\n{old}\n[1]')
    with ResultsFile(tmp_path / "out") as results:
        assert "3 of its lines are no results" in results.notes[0]
        assert not results.has(path, RowSettings("caption", None))
        results.add(row_of(results, path))
    lines = file.read_text().splitlines()
    assert [*lines[:2], lines[3]] == ['{"foo": 1}', "no JSON", "[1]"]
    assert json.loads(lines[2])["image"] == str(tmp_path / "out" / "a.png")


def test_names_that_are_no_text_are_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"\xff.wav", b"%FF.wav", b"two\nlines.wav", "ü.wav".encode(), "u\u0308.wav".encode()]
    paths = [Path(os.fsdecode(os.fsencode(folder) + b"/" + name)) for name in names]
    for path in paths:
        path.write_bytes(b"sound")
    with ResultsFile(tmp_path / "out") as results:
        for path in paths:
            results.add(row_of(results, path) | {"audio": "…"})
    text = (tmp_path / "out" / "results.jsonl").read_bytes().decode("utf-8", "strict")
    for line in text.splitlines():
        json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "strict")
    with ResultsFile(tmp_path / "out") as results:
        assert all(results.has(path, ASKED) for path in paths)
    assert len({row["image"] for row in rows(tmp_path / "out")}) == len(paths)


def test_what_comes_from_a_pipe_is_another_sound_each_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for _ in range(3):
        with ResultsFile(tmp_path / "out") as results:
            assert not results.has(pipe, ASKED)
            results.add(row_of(results, pipe))
    assert [Path(row["image"]).name for row in rows(tmp_path / "out")] == ["pipe.png", "pipe_2.png", "pipe_3.png"]


def test_a_file_given_as_standard_input_is_another_each_time(tmp_path: Path) -> None:
    with sound(tmp_path / "in").open() as given, ResultsFile(tmp_path / "out") as results:
        path = Path(f"/dev/fd/{given.fileno()}")
        assert results.key(path) is None
        results.add(row_of(results, path))
        assert not results.has(path, ASKED)


def test_what_a_kill_left_half_written_is_taken_away(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (".0123456789abcdef.part", ".results.jsonl.part", "mine.part", ".mine.part"):
        (out / name).touch()
    with ResultsFile(out):
        pass
    assert {path.name for path in out.iterdir()} == {"mine.part", ".mine.part"}


def test_a_grid_that_is_gone_is_asked_for_again(tmp_path: Path) -> None:
    file = sound(tmp_path)
    with ResultsFile(tmp_path / "out") as results:
        row = row_of(results, file)
        grid = results.folder / results.picture_name(file, GRID)
        grid.write_bytes(b"grid")
        results.add(row | {"grid": str(grid)})
        assert results.has(file, ASKED)
        grid.unlink()
        assert not results.has(file, ASKED)


@pytest.mark.parametrize("first", ["dog.wav", "dog.wav.grid"])
def test_no_sound_has_the_name_of_anothers_grid(tmp_path: Path, first: str) -> None:
    """Whatever sounds are called."""
    files = [sound(tmp_path, name) for name in ("dog.wav", "dog.wav.grid", "dog.grid.wav")]
    with ResultsFile(tmp_path / "out") as results:
        files.sort(key=lambda file: file.name != first)
        names = [results.picture_name(file, more) for file in files for more in ("", GRID)]
    assert len(set(names)) == 6, names


def test_no_storyboard_has_a_name_of_the_results_own(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out") as results:
        for stem in ("results.jsonl", "Results.JSONL", ".results.lock", ".0123456789abcdef.part"):
            name = results.folder_name(sound(tmp_path, f"{stem}.wav"))
            assert name.startswith(stem)
            assert name != stem


def test_another_waits(tmp_path: Path) -> None:
    path, waiting, done = sound(tmp_path / "in"), threading.Event(), threading.Event()

    def second() -> None:
        with ResultsFile(tmp_path / "out", waiting.set) as results:
            assert results.has(path, ASKED)
            done.set()

    with ResultsFile(tmp_path / "out") as results:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        results.add(row_of(results, path))
        assert not done.is_set()
    thread.join(10)
    assert done.is_set()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"results.jsonl", "a.png"}


def test_a_folder_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with (
            pytest.raises(OSError, match=r"can't be written to \(.*\); expected a folder that can: out=FOLDER"),
            ResultsFile(folder),
        ):
            pass
    with pytest.raises(KeyError), ResultsFile(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()


def test_a_model_is_known_by_what_is_in_its_folder(tmp_path: Path) -> None:
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "captioner.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    a, b, c = (settings_of({"captioner": str(tmp_path / name)}, None) for name in "abc")
    assert a == b != c
    # What is no folder's name is no folder, however it reads.
    assert settings_of({"prompt": "What is heard? " * 100, "revision": "", "name": "a\0"}, None).image is None
    assert settings_of({"seed": 1}, {"steps": 2}).image != settings_of({"seed": 1}, {"steps": 3}).image
