"""Evaluations that are stopped, and clips that fail: what is done stays, and nothing else stops for it."""

import csv
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import SENTENCES
from test_configs import compose

from a2i import AudioToImage
from a2i.captioner import Captioner
from a2i.evaluate import predict
from a2i.evaluate.__main__ import evaluate
from a2i.evaluate.distributed import Ranks
from a2i.evaluate.kept import made_by
from a2i.evaluate.settings import CaptioningSettings, check
from a2i.metrics.provenance import settings_hash
from a2i.results import ResultsFile, RowSettings
from a2i.rows import infer

NAMES = ["high.wav", "low.wav", "middle.wav"]
Run = Callable[..., int]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of a captioner had."""
    seen: list[int] = []
    caption = Captioner.caption

    def counted(self: Captioner, waveforms: Any, **changes: Any) -> Any:
        seen.append(len(waveforms))
        return caption(self, waveforms, **changes)

    monkeypatch.setattr(Captioner, "caption", counted)
    return seen


@pytest.fixture
def run(captioner_folder: Path, sounds: Path, tmp_path: Path) -> Run:
    """Evaluates the captioner on the three sounds; gives the number of clips that failed."""
    write(sounds / "captions.csv", [[name, "test", SENTENCES[i]] for i, name in enumerate(NAMES)])
    given = [f"captioner={captioner_folder}", "data=folder", f"data.root={sounds}", "batch_size=1", "device=cpu"]
    given += ["metrics=[rouge_l]", "caption_metrics.java=no-such-java", "bootstrap_samples=0", "report.clips=0"]

    def evaluated(*more: str) -> int:
        settings = compose("evaluate", *given, f"out={tmp_path / 'out'}", *more)
        return evaluate(check(settings), "folder", Ranks())

    return evaluated


def write(path: Path, rows: list[list[str]], header: str = "file_name,split,caption_1") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- What was done stays


def test_the_same_command_goes_on(
    run: Run, calls: list[int], sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    counted = Captioner.caption

    def interrupted(self: Captioner, waveforms: Any, **changes: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return counted(self, waveforms, **changes)

    with monkeypatch.context() as patched:
        patched.setattr(Captioner, "caption", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    kept = tmp_path / "out" / "captions.jsonl"
    rows = [strict(line) for line in kept.read_text().splitlines()]
    assert len([row for row in rows if "candidates" in row]) == 2
    with kept.open("a") as file:  # as a process leaves it that is killed while it writes
        file.write('{"settings": "' + rows[0]["settings"] + '", "file_name": "lo')
    calls.clear()
    assert run() == 0
    assert calls == [1]
    assert "2 of 3 clips were captioned before" in capsys.readouterr().out
    first = (tmp_path / "out" / "captions.csv").read_bytes()
    calls.clear()
    # Where nothing is left to do, the captioner is not even loaded.
    with monkeypatch.context() as patched:
        patched.setattr("a2i.models.load_captioner", lambda *_: pytest.fail("loaded"))
        assert run() == 0
    assert (tmp_path / "out" / "captions.csv").read_bytes() == first
    shutil.copy(sounds / "low.wav", sounds / "high.wav")
    assert run() == 0
    assert calls == [1]


def test_other_settings_begin_anew_and_lose_nothing(run: Run, calls: list[int], capsys: Any) -> None:
    run()
    assert "other settings" not in capsys.readouterr().out
    run("decoding.max_tokens=3")
    assert len(calls) == 6
    assert "captions.jsonl are of other settings (decoding); all clips are captioned anew" in capsys.readouterr().out
    run()
    run("decoding.max_tokens=3")
    assert len(calls) == 6


def test_another_captioner_begins_anew(
    run: Run, calls: list[int], captioner_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    other = Path(shutil.copytree(captioner_folder, tmp_path / "other"))
    run()
    (other / "README.md").write_text("another card")
    run(f"captioner={other}")
    assert len(calls) == 3
    (other / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes()[:-4] + b"\0\0\0\0")
    run(f"captioner={other}")
    assert len(calls) == 6
    assert "are of other settings (captioner)" in capsys.readouterr().out


def test_a_crash_after_the_captioning_costs_none(run: Run, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the scorer")

    with monkeypatch.context() as patched:
        patched.setattr("a2i.metrics.scoring.compute", broken)
        with pytest.raises(RuntimeError, match="the scorer"):
            run()
    assert len(calls) == 3
    assert run() == 0
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("decoding", "key"), [({"max_tokens": 3}, "1132a47b7a32"), ({"do_sample": True}, "a3a985405f2e")]
)
def test_settings_have_the_hash_that_they_always_had(decoding: dict[str, Any], key: str) -> None:
    """Or the captions that an earlier version kept would be made anew."""
    settings = CaptioningSettings({"_target_": "c.D", "root": "x"}, "test", 8, decoding, None, 5)
    made = made_by({"_target_": "a.B"}, settings)
    assert made.pop("versions")
    assert settings_hash(made) == key


# --- A clip that fails


def test_a_clip_that_fails_is_a_row(run: Run, sounds: Path, tmp_path: Path, capsys: Any) -> None:
    run()
    well = cells(tmp_path / "out" / "captions.csv")
    assert "error" not in well[0]
    assert strict((tmp_path / "out" / "scores.json").read_text())["clips"] == {"scored": 3, "failed": 0}
    capsys.readouterr()
    (sounds / "low.wav").write_bytes(b"no sound at all")
    assert run() == 1
    rows = cells(tmp_path / "out" / "captions.csv")
    assert [row["file_name"] for row in rows] == NAMES
    assert "low.wav: can't be read as sound" in rows[1]["error"]
    assert rows[1]["caption_1"] == SENTENCES[1]
    assert rows[1]["caption_predicted"] == rows[1]["rouge_l"] == rows[1]["words"] == ""
    assert [{**row, "error": ""} for row in (rows[0], rows[2])] == [{**row, "error": ""} for row in (well[0], well[2])]
    scores = strict((tmp_path / "out" / "scores.json").read_text())
    assert scores["clips"] == {"scored": 2, "failed": 1}
    assert scores["captions"]["count"] == 2
    assert scores["rouge_l"]["value"] == pytest.approx(sum(float(row["rouge_l"]) for row in rows[::2]) / 2, abs=1e-6)
    assert "1 of 3 clips, which are in no score: low.wav" in (tmp_path / "out" / "report.html").read_text()
    assert len(cells(tmp_path / "out" / "submission.csv")) == 3
    printed = capsys.readouterr()
    assert ", 2 of 3 clips (value" in printed.out
    assert "WARNING: 1 clip failed and is not in these scores:\n  low.wav: " in printed.err


def test_a_batch_that_fails_is_tried_clip_by_clip(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where memory is short; by then nothing holds the failed batch."""

    class Activations:
        pass

    caption, alive = Captioner.caption, []

    def short_of_memory(self: Captioner, waveforms: Any, **changes: Any) -> Any:
        assert not [one for one in alive if one() is not None]
        activations = Activations()
        alive.append(weakref.ref(activations))
        if len(waveforms) > 1:
            raise RuntimeError("out of memory")
        return caption(self, waveforms, **changes)

    monkeypatch.setattr(Captioner, "caption", short_of_memory)
    assert run("batch_size=3") == 0
    assert len(alive) == 4
    assert len(cells(tmp_path / "out" / "captions.csv")) == 3


def test_where_every_clip_fails_there_are_no_scores(run: Run, sounds: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (sounds / name).write_bytes(b"no sound")
    with pytest.raises(
        ValueError, match=r"none of the 3 clips could be captioned; the first, high\.wav: .*can't be read"
    ):
        run()
    assert not (tmp_path / "out" / "scores.json").exists()


def test_a_comparison_is_over_the_clips_of_both(run: Run, sounds: Path, tmp_path: Path, capsys: Any) -> None:
    rows = [["high.wav", SENTENCES[0], ""], ["low.wav", SENTENCES[1], ""], ["middle.wav", "", "out of memory"]]
    write(tmp_path / "theirs.csv", rows, "file_name,caption_predicted,error")
    (sounds / "low.wav").write_bytes(b"no sound at all")
    assert run(f"against={tmp_path / 'theirs.csv'}") == 2
    assert strict((tmp_path / "out" / "scores.json").read_text())["clips"] == {"scored": 2, "failed": 1}
    compared = strict((tmp_path / "out" / "comparison.json").read_text())
    assert compared["about"]["clips"] == 1
    assert compared["rouge_l"]["first"] == pytest.approx(1)
    assert "on the same 1 clips" in capsys.readouterr().out


# --- What can be known before the first clip


@pytest.mark.parametrize(
    ("names", "sentence", "message"),
    [
        (["high.wav", "low.wav"], "A dog.", r"theirs\.csv: got 2 clips, without 'middle\.wav'; expected the same 3"),
        ([*NAMES, "more.wav"], "A dog.", r"with 'more\.wav', which are not evaluated"),
        (
            NAMES,
            "...",
            r"split=test: 3 clips have no reference with a word in it: 'high\.wav', 'low\.wav', 'middle\.wav'",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_captioning(
    run: Run, calls: list[int], sounds: Path, tmp_path: Path, names: list[str], sentence: str, message: str
) -> None:
    write(sounds / "captions.csv", [[name, "test", sentence] for name in NAMES])
    write(tmp_path / "theirs.csv", [[name, "A bell."] for name in names], "file_name,caption_predicted")
    with pytest.raises(ValueError, match=message):
        run(f"against={tmp_path / 'theirs.csv'}")
    assert not calls
    assert not (tmp_path / "out").exists()


def test_names_of_windows_are_the_same_clips(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "theirs.csv", [[f".\\{name}", "A bell."] for name in NAMES], "File_Name,caption_predicted")
    assert run(f"against={tmp_path / 'theirs.csv'}") == 0


def test_a_report_carries_no_sound_from_elsewhere(sounds: Path, tmp_path: Path, captioner_folder: Path) -> None:
    shutil.copy(sounds / "low.wav", tmp_path / "secret.wav")
    rows = [["low.wav", "A hum.", "A hum."], ["../secret.wav", "A hum.", "A hum."]]
    table = write(tmp_path / "theirs.csv", rows, "file_name,caption_predicted,caption_1")
    settings = compose(
        "evaluate", f"captions={table}", f"audio={sounds}", "metrics=[rouge_l]", f"out={tmp_path / 'out'}"
    )
    with pytest.raises(ValueError, match=r"theirs\.csv, row 3: the file name '\.\./secret\.wav' leads out of"):
        evaluate(check(settings), "folder", Ranks())


# --- The same recording, the same caption


def test_a_recording_has_the_same_caption_everywhere(captioner_folder: Path, tmp_path: Path) -> None:
    """A long one, which is captioned in parts, and some of it: by infer, by evaluate and from Python."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    rng = np.random.default_rng(0)
    waveform = np.concatenate([level * rng.standard_normal(16_000 * 50) for level in (0.01, 0.1, 0.3)]).clip(-1, 1)
    soundfile.write(sounds / "long.wav", waveform, 16_000)
    soundfile.write(sounds / "some.wav", soundfile.read(sounds / "long.wav")[0][32_000:80_000], 16_000)
    rows = [["long.wav", "test", "A hum.", "", ""], ["long.wav", "test", "A hum.", "2", "5"]]
    write(sounds / "captions.csv", rows, "file_name,split,caption_1,start,end")
    a2i = AudioToImage.load(captioner_folder, None, "cpu")
    python = [a2i(sounds / name) for name in ("long.wav", "some.wav")]
    assert len(python[0].parts) == 3
    with ResultsFile(tmp_path / "inferred") as kept:
        paths = [sounds / "long.wav", sounds / "some.wav"]
        inferred = list(infer(a2i, paths, kept, RowSettings("a", None), 0, {}, batch_size=2))
    data = compose("evaluate", f"captioner={captioner_folder}", "data=folder", f"data.root={sounds}")["data"]
    evaluated = predict(captioner_folder, data, device="cpu", batch_size=2)
    assert [clip.file_name for clip in evaluated] == ["long.wav", "long.wav#t=2,5"]
    for result, row, clip in zip(python, inferred, evaluated, strict=True):
        assert row["candidates"] == list(result.candidates) == list(clip.candidates)
        assert row["confidence"] == pytest.approx(result.confidence, abs=1e-4) == clip.confidence
