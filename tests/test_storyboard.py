import errno
import json
import os
import stat
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import make_captioner, tone
from PIL import Image

from a2i import AudioToImage
from a2i.captioner.text import CaptionTokenizer
from a2i.command_line import composed
from a2i.diffusion import Painter
from a2i.infer import _settings_of, caption_and_draw, check
from a2i.results import ResultsFile, RowSettings
from a2i.storyboard.boundaries import Ear
from a2i.storyboard.folder import make_folder, row_of
from a2i.storyboard.make import CAPTIONING, DRAWING, HEARING, SILENCE, make_storyboard
from a2i.storyboard.rows import storyboards
from a2i.storyboard.settings import SceneSettings
from a2i.storyboard.told import Told
from a2i.storyboard.video import NotCopiedError

RATE = 16_000
EVERY = {"captions.srt", "captions.vtt", "scenes.json", "storyboard.html"}


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def a2i(tokenizer: CaptionTokenizer, painter_folder: Path) -> AudioToImage:
    return AudioToImage(make_captioner(tokenizer), Painter(str(painter_folder), steps=1), "tiny")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of a tone, 4 s of silence, 5 s of noise."""
    path = tmp_path_factory.mktemp("recordings") / "walk.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    soundfile.write(path, np.concatenate([tone(700, 4), np.zeros(4 * RATE), noise]), RATE)
    return path


def program(sounds: Any, out: Path, captioner: Path, *, status: int = 0, **settings: Any) -> list[dict[str, Any]]:
    """The rows after a run of the whole program."""
    asked = {"captioner": str(captioner), "image": "none", "device": "cpu", "storyboard": True, **settings}
    given = {"audio": sounds, "out": str(out), **asked}
    if status:
        with pytest.raises(SystemExit, match=str(status)):
            caption_and_draw(composed("infer", given))
    else:
        caption_and_draw(composed("infer", given))
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_scenes_captions_and_pictures(a2i: AudioToImage, ear: Ear, walk: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float, float]] = []
    made, video = make_folder(
        a2i, walk, tmp_path / "walk", seed=5, ear=ear, tell=lambda *what: told.append(what), num_candidates=2
    )
    assert [scene.start for scene in made.scenes] == [0, pytest.approx(4, abs=0.5), pytest.approx(8, abs=0.5)]
    assert all(before.end == after.start for before, after in pairwise(made.scenes))
    assert video is None
    assert made.seconds == pytest.approx(13)
    assert (made.scenes[1].caption, made.scenes[1].confidence) == (SILENCE, 1.0)
    assert (made.seed, made.captioner, made.source) == (5, "tiny", walk)
    for number, scene in enumerate(made.scenes, 1):
        assert scene.candidates[0] == scene.caption
        assert scene.image == tmp_path / "walk" / f"{number:02}.png"
        with Image.open(scene.image) as image:
            assert (image.text["caption"], image.text["seed"]) == (scene.caption, "5")  # type: ignore[attr-defined]
    assert {path.name for path in (tmp_path / "walk").iterdir()} >= EVERY
    held = json.loads((tmp_path / "walk" / "scenes.json").read_text())
    assert [scene["image"] for scene in held["scenes"]] == ["01.png", "02.png", "03.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["walk"]
    for what, whole in ((HEARING, 13), (CAPTIONING, 13), (DRAWING, 3)):
        shares = [(done, of) for each, done, of in told if each == what]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx((whole, whole))


def test_batches_change_nothing(a2i: AudioToImage, ear: Ear, walk: Path) -> None:
    alone, together = (make_storyboard(a2i, walk, ear=ear, batch_size=size) for size in (1, 8))
    assert [(scene.start, scene.caption) for scene in together.scenes] == [
        (scene.start, scene.caption) for scene in alone.scenes
    ]
    assert all(scene.image is None for scene in alone.scenes)


def test_what_sounds_the_same_is_one_scene_however_long(a2i: AudioToImage, ear: Ear, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hum.wav", tone(300, 21), RATE)
    (scene,) = make_storyboard(a2i, tmp_path / "hum.wav", ear=ear, settings=SceneSettings(longest=5)).scenes
    assert scene.start == 0
    assert scene.end == pytest.approx(21)


def test_less_than_a_second(a2i: AudioToImage, ear: Ear, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", tone(300, 0.01), RATE)
    (scene,) = make_storyboard(a2i, tmp_path / "click.wav", ear=ear).scenes
    assert scene.start == 0
    assert scene.end == pytest.approx(0.01, abs=1e-3)


def test_a_video_that_cannot_be_copied_takes_no_more_than_the_copy(
    a2i: AudioToImage, ear: Ear, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise NotCopiedError("walk.mp4: can't be copied")

    monkeypatch.setattr("a2i.storyboard.folder.write_captioned", fail)
    made, video = make_folder(a2i, walk, tmp_path / "walk", "track", ear=ear)
    assert (made.warning, video) == ("walk.mp4: can't be copied", None)
    row = row_of(made, tmp_path / "walk")
    assert row["warning"] == made.warning
    assert Path(row["sheet"]).name == "contact_sheet.png"
    assert "walk.mp4: can&#39;t be copied" in (tmp_path / "walk" / "storyboard.html").read_text()


@pytest.mark.parametrize("stage", [HEARING, CAPTIONING, DRAWING])
def test_a_cancelled_one_leaves_what_was_there(
    a2i: AudioToImage, ear: Ear, walk: Path, tmp_path: Path, stage: str
) -> None:
    def tell(what: str, done: float, of: float) -> None:
        if what == stage:
            raise KeyboardInterrupt

    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "scenes.json").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        make_folder(a2i, walk, tmp_path / "walk", ear=ear, tell=tell)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["walk", "walk/scenes.json"]
    assert (tmp_path / "walk" / "scenes.json").read_text() == "before"


def test_files_of_others_stay(a2i: AudioToImage, ear: Ear, walk: Path, tmp_path: Path) -> None:
    """In an earlier storyboard's folder; and a folder that is none is not touched."""
    board, other = tmp_path / "walk", tmp_path / "other"
    for folder in (board / "mine", other):
        folder.mkdir(parents=True)
        (folder / "01.png").write_text("not to be touched")
    for name in ("scenes.json", "07.png", "walk.captioned.mp4", "notes.txt"):
        (board / name).write_text("before")
    make_folder(a2i, walk, board, ear=ear)
    assert (board / "mine" / "01.png").read_text() == "not to be touched"
    assert {path.name for path in board.iterdir()} == {
        *EVERY, "mine", "notes.txt", "01.png", "02.png", "03.png", "contact_sheet.png"
    }  # fmt: skip
    with pytest.raises(FileExistsError, match="holds no storyboard but other files; expected a new folder"):
        make_folder(a2i, walk, other, ear=ear)
    assert [path.name for path in other.iterdir()] == ["01.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "walk"]


def test_a_pipe_is_refused_at_once(a2i: AudioToImage, ear: Ear, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(ValueError, match="which can be read once; expected a file"):
        make_storyboard(a2i, tmp_path / "pipe", ear=ear)


@pytest.mark.long
def test_the_program_goes_on_past_bad_files_and_from_where_it_was(
    walk: Path, captioner_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = tmp_path / "sounds"
    (sounds / "other").mkdir(parents=True)
    for path in (sounds / "walk.wav", sounds / "other" / "walk.wav"):
        path.write_bytes(walk.read_bytes())
    (sounds / "bad.wav").write_text("no sound")
    (tmp_path / "out" / "walk").mkdir(parents=True)
    (tmp_path / "out" / "walk" / "mine.txt").write_text("not to be touched")
    rows = program(str(sounds), tmp_path / "out", captioner_folder, status=1)
    assert [row["error"] is None for row in rows] == [False, True, True]
    assert "can't be read as sound" in rows[0]["error"]
    assert (tmp_path / "out" / "walk" / "mine.txt").read_text() == "not to be touched"
    for row, name in zip(rows[1:], ("walk_2", "walk_3"), strict=True):
        assert Path(row["page"]) == tmp_path / "out" / name / "storyboard.html"
        assert {path.name for path in (tmp_path / "out" / name).iterdir()} == EVERY
        assert [set(scene) for scene in row["scenes"]] == [{"start", "end", "caption", "confidence", "image"}] * len(
            row["scenes"]
        )
        assert row["caption"] in [scene["caption"] for scene in row["scenes"]]
        assert row["image"] is None
        assert {Path(file).name for file in (row["page"], *row["subtitles"])} == EVERY - {"scenes.json"}
        assert (row["sheet"], row["sound"]) == (None, None)
    (sounds / "bad.wav").unlink()
    before = (tmp_path / "out" / "results.jsonl").read_text()
    program(str(sounds), tmp_path / "out", captioner_folder)
    assert "2 of 2 done, 2 of them already before" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.jsonl").read_text() == before
    # What was deleted, and what other settings ask for, is made again, under the same name.
    (tmp_path / "out" / "walk_2" / "captions.srt").unlink()
    program(str(sounds), tmp_path / "out", captioner_folder)
    assert "2 of 2 done, 1 of them already before" in capsys.readouterr().out
    again = program(str(sounds), tmp_path / "out", captioner_folder, scenes={"shortest": 3})
    assert "2 of 2 done; " in capsys.readouterr().out
    assert sorted(row["page"] for row in again if row["error"] is None) == sorted(row["page"] for row in rows[1:])


@pytest.mark.parametrize(
    ("error", "is_of_reading"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (PermissionError(errno.EACCES, "Permission denied", "a.wav"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EIO, "Input/output error", "out/a/01.png"), False),
    ],
    ids=["damaged", "locked", "full", "damaged where it is written"],
)
def test_a_sound_that_cannot_be_read_stops_no_other(
    a2i: AudioToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, is_of_reading: bool
) -> None:
    def fail(*given: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr("a2i.storyboard.rows.make_folder", fail)
    with ResultsFile(tmp_path / "out") as results:
        sounds = [Path("a.wav"), Path("a.wav")]
        rows = storyboards(a2i, sounds, results, RowSettings("", None), Told(), {"seed": 0})
        if is_of_reading:
            assert [str(error.strerror) in row["error"] for row in rows] == [True, True]
        else:
            with pytest.raises(OSError, match=r"can't write the storyboard of a\.wav"):
                list(rows)


def test_what_a_kill_left_is_cleared(walk: Path, captioner_folder: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".0123456789abcdef.part"
    left.mkdir(parents=True)
    (left / "01.png").write_text("half")
    program(str(walk), tmp_path / "out", captioner_folder)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.jsonl", "walk"]


def test_settings_are_checked_before_anything_is_loaded(walk: Path, captioner_folder: Path, tmp_path: Path) -> None:
    for wrong, said in (({"shortest": 0}, "shortest=0"), ({"longest": 1}, "longest=1"), ({"other": 1}, "scenes.other")):
        with pytest.raises(ValueError, match=said):
            program(str(walk), tmp_path / "out", captioner_folder, scenes=wrong)
    for more in ({"captions": "other"}, {"captions": "burn", "storyboard": False}):
        with pytest.raises(ValueError, match="got captions="):
            program(str(walk), tmp_path / "out", captioner_folder, **more)
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_scenes_decide_rows_of_storyboards_alone(tmp_path: Path) -> None:
    def asked(**settings: Any) -> Any:
        return _settings_of(check(composed("infer", {"audio": "x.wav", "out": str(tmp_path / "out"), **settings})))

    assert asked(scenes={"shortest": 3}) == asked()
    board = asked(storyboard=True)
    assert board.caption != asked().caption
    assert board.image != asked().image
    assert asked(storyboard=True, scenes={"shortest": 3}).caption != board.caption
    assert asked(storyboard=True, captions="track").caption != board.caption
