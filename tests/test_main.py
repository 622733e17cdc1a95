"""`a2i`: one command for people."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import SENTENCES, tone

from a2i import __version__, evaluate
from a2i.__main__ import PROGRAMS, main
from a2i.evaluate import call
from a2i.evaluate.settings import EvaluateSettings, check

AWKWARD = "a=b, (c) ${HOME} [d] 'e'.wav"


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def status(*argv: str) -> int:
    try:
        main(argv)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_sounds_become_captions(
    captioner_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files by awkward names, a folder that is called like a program, options and key=value beside them."""
    monkeypatch.chdir(tmp_path)
    Path("train").mkdir()
    for name in (AWKWARD, "train/x.wav", "-1.wav"):
        soundfile.write(name, tone(400, 0.3), 16_000)
    chosen = ("--captioner", str(captioner_folder), "--image", "none", "--device", "cpu")
    out = "my out, {1} ${x}"
    assert status(AWKWARD, "-1.wav", "./train", "-o", out, *chosen, "--seed", "3", "decoding.num_beams=3") == 0
    found = rows(Path(out))
    assert [Path(str(row["audio"])).name for row in found] == [AWKWARD, "-1.wav", "x.wav"]
    assert {row["seed"] for row in found} == {3}
    assert {row["captioner"] for row in found} == {str(captioner_folder)}
    capsys.readouterr()
    again = ("./train", "-o", out, *chosen, "--seed", "3", "decoding.num_beams=3")
    assert status(*again) == 0
    assert "1 of them already before" in capsys.readouterr().out
    assert status(*again, "--again") == 0
    assert "already before" not in capsys.readouterr().out
    assert status("gone.wav", *chosen) == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["x.wav", "--captioner", "mni"], ", whisper_tiny, a folder, or a Hub id"),
        (["x.wav", "--image", "min"], "did you mean mini?"),
        (["x.wav", "sead=1"], "there is no setting sead here; did you mean seed?"),
        (["--image", "none"], "no sound given"),
        (["x.wav", "batch_size=0"], "got batch_size=0"),
        (["x.wav", "audio_language.dtype=float32"], "captioner.dtype="),
        (["x.wav", "--captionr", "mini"], "unrecognized arguments"),
        (["x.wav", "audio=y.wav"], "got x.wav beside audio=; expected one of the two"),
        (["x.wav", "--seed", "3", "seed=4"], "got --seed beside seed=; expected one of the two"),
        (["x.wav", "--image", "none", "++image=mini"], "got --image beside image=; expected one of the two"),
        (["x.wav", "--captioner", ""], "captioner= is empty"),
        (["x.wav", "--seed", "99999999999999999999"], "got seed=99999999999999999999; expected a whole number"),
        (["x.wav", "~captioner"], "got no captioner; expected captioner="),
        (["x.wav", "~image"], "got no image; expected image=flux2_klein|flux_schnell|mini|none|"),
        (["trian", "experiment=mini"], "got trian, which is no file here; did you mean a2i train?"),
        (["x.wav", "experiment=mini"], "got experiment=; infer has no such group"),
        ([], "a2i dog.wav"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert status(*argv) == 2
    assert said in capsys.readouterr().err


def test_a_program_is_reached_by_its_name() -> None:
    command = [sys.executable, "-m", "a2i", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m a2i.train" in done.stdout
    for program in PROGRAMS:
        assert find_spec(f"a2i.{program}") is not None


def test_help_is_light(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys\nfrom a2i.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'transformers', 'hydra'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in ("a2i dog.wav", "a2i train", "a2i evaluate", "--captioner", "./train"):
        assert said in done.stdout
    assert status("--version") == 0
    assert capsys.readouterr().out == f"a2i {__version__}\n"


def test_evaluate_is_a_call(
    captioner_folder: Path,
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With plain values, on a data set and on a table of captions; the package it is called by stays one."""
    table = "file_name,split,caption_1\n" + "".join(
        f"{name},test,{text}\n" for name, text in zip(("high.wav", "low.wav"), SENTENCES, strict=False)
    )
    (sounds / "captions.csv").write_text(table)
    chosen = {"metrics": ["rouge_l"], "bootstrap_samples": 0, "report.clips": 0, "caption_metrics.java": "no-such-java"}
    out = tmp_path / "out, (1)"
    scores = evaluate(captioner_folder, data="folder", out=out, device="cpu", **{"data.root": sounds}, **chosen)
    assert 0 <= scores["rouge_l"]["value"] <= 1
    assert json.loads((out / "scores.json").read_text()) == scores
    before = sorted(tmp_path.iterdir())
    again = evaluate(captions=out / "captions.csv", against=out / "captions.csv", **chosen)
    assert again["rouge_l"]["value"] == scores["rouge_l"]["value"]
    assert "comparison" in again
    assert sorted(tmp_path.iterdir()) == before, "no file is kept unless a folder is named"
    assert "to look at" not in capsys.readouterr().out
    asked: list[EvaluateSettings] = []

    def kept(values: dict[str, Any]) -> EvaluateSettings:
        asked.append(check(values))
        return asked[-1]

    monkeypatch.setattr(call, "check", kept)
    evaluate(captions=out / "captions.csv", image=None, device=None, **{**chosen, "report.clips": None})
    assert (asked[0].report["clips"], asked[0].device) == (None, None), "None is null, and not the default"
    assert not asked[0].image
    with pytest.raises(ValueError, match="did you mean metrics"):
        evaluate(captions=out / "captions.csv", metrcs=["rouge_l"])
    assert evaluate.write is not None  # type: ignore[attr-defined]
