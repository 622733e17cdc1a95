"""What training can know at once it says at once, with names."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import SENTENCES, make_captioner, tone
from programs import run
from test_configs import compose

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.data.cache import waveforms
from a2i.features import FeatureSettings
from a2i.train import train
from a2i.training import checks

SMALL = [
    *("experiment=mini", "data=folder", "trainer=cpu", "logger=csv", "bertscore=null", "trainer.max_epochs=1"),
    *("model.encoder.channels=[4,8]", "model.tokenizer.vocab_size=300", "loader.batch_size=2", "loader.num_workers=0"),
    *("model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}", "trainer.enable_model_summary=false"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve short sounds with captions, four of them to validate on."""
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for index in range(12):
        soundfile.write(root / f"{index}.wav", tone(200 + 50 * index, 0.2), 16_000)
        rows.append([f"{index}.wav", SENTENCES[index % 5], "val" if index >= 8 else "train"])
    write(root, rows)
    return root


def write(root: Path, rows: list[list[str]]) -> None:
    with (root / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "caption", "split"], *rows])


def recaptioned(root: Path, captions: dict[str, str]) -> None:
    with (root / "captions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    write(root, [[name, captions.get(name, caption), split] for name, caption, split in rows])


def refused(root: Path, run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line with which training ends before anything is learnt."""
    config = compose("train", *SMALL, f"data.root={root}", *more)
    run.mkdir()
    with pytest.raises(SystemExit) as ended:
        train(config, run)
    assert ended.value.code == 2
    assert not (run / "checkpoints").exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_all_that_is_wrong_is_told_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recaptioned(folder, {"1.wav": "?!", "9.wav": "...", "10.wav": "-"})
    (folder / "2.wav").write_text("no sound")
    (folder / "8.wav").write_bytes(b"")
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("PATH", "")
    more = ["training.metrics=[bleu_4,meteor]", "monitor=val/meteor", f"loader.cache={tmp_path / 'cache'}"]
    more += ["bertscore={model:nowhere}", "training.schedule=cosin", "training.decoding.num_candidates=9"]
    line = refused(folder, tmp_path / "run", capsys, *more)
    assert line.startswith("error: 8 things to mend before training: (1)")
    for told in (
        "training clips with a caption without a word, 1: '1.wav'",
        "validation clips without a reference that has a word, 2: '9.wav'; '10.wav'",
        "sound files that can't be used, 2: ",
        f"{folder / '2.wav'}: can't be read as sound",
        f"{folder / '8.wav'}: is empty (0 bytes)",
        "got monitor=val/meteor, which can't be computed here",
        "BERTScore got the model 'nowhere', which cannot be read",
        "expected one of linear, cosine",
        "where nothing can be written",
        "got num_candidates=9 with num_beams=1",
    ):
        assert told in line


def test_at_most_twenty_are_named(folder: Path, tmp_path: Path) -> None:
    problems = checks.Problems()
    checks.check_sounds(problems, [Clip(f"{n}", tmp_path / f"{n}.wav", ("A.",)) for n in range(23)] * 2, None, 16_000)
    (said,) = problems.found
    assert said.startswith("sound files that can't be used, 23: ")
    assert said.count("no such file") == checks.LISTED == 20
    assert " and 3 more; " in said


def test_a_clip_that_begins_behind_its_sound_is_found(folder: Path) -> None:
    problems = checks.Problems()
    clips = [Clip("late", folder / "0.wav", ("A.",), 5.0, 6.0), Clip("good", folder / "0.wav", ("A.",), 0.1, 0.15)]
    checks.check_sounds(problems, clips, None, 16_000)
    assert len(problems.found) == 1
    assert "holds no samples between 5.0 s" in problems.found[0]


def test_what_a_cache_has_is_not_opened_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [Clip(f"{n}.wav", folder / f"{n}.wav", ("A.",)) for n in range(4)]
    for clip in clips:
        os.utime(clip.path, (0, 0))  # what was just written could change within the clock's grain
    monkeypatch.setattr("a2i.data.file_hash.RACY", -1.0)
    cache = waveforms(tmp_path / "cache", 16_000)
    for clip in clips[:3]:
        cache(clip)
    opened: list[Path] = []
    monkeypatch.setattr("a2i.audio.load", lambda path, *_: opened.append(path))
    checks.check_sounds(checks.Problems(), clips, tmp_path / "cache", 16_000)
    assert opened == [folder / "3.wav"]


def test_a_caption_that_is_never_learnt_may_be_without_a_word() -> None:
    train_, val = [Clip("a", Path("a"), ("A dog.", "?"))], [Clip("b", Path("b"), ("...", "A dog."))]
    for choice, found in (("first", 0), ("all", 1), ("random", 1)):
        problems = checks.Problems()
        checks.check_captions(problems, train_, val, choice)  # type: ignore[arg-type]
        assert len(problems.found) == found
    problems = checks.Problems()
    checks.check_captions(problems, train_[:0], [Clip("c", Path("c"), ("A dog.", " "))], "all")
    assert "blank reference, 1: 'c'" in problems.found[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.encoder.num_mel_bins=32"], "got 64 mel bins; this encoder expects 32"),
        (["model.decoder.config.n_positions=4"], "this decoder has 4 positions"),
        (["training.decoding.top_p=3"], "top_p=3"),
        (["trainer.precision=bf16-true"], "got trainer.precision=bf16-true; expected one of 32-true, bf16-mixed"),
    ],
)
def test_parts_that_do_not_fit_are_told_before_the_first_step(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert message in refused(folder, tmp_path / "run", capsys, *more)


def test_trying_out_leaves_no_trace(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer).train()
    captioner.encoder.eval()
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    torch.manual_seed(5)
    checks.try_out(captioner, SENTENCES, True, {"do_sample": True, "num_beams": 1})
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in captioner.state_dict().items())
    assert captioner.decoder.training
    assert not captioner.encoder.training
    captioner.log_mel = type(captioner.log_mel)(FeatureSettings(num_mel_bins=32))
    with pytest.raises(ValueError, match="got 32 mel bins"):
        checks.try_out(captioner, SENTENCES, False, {})


def test_what_is_not_monitored_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    problems = checks.Problems()
    checks.check_metrics(problems, ["bleu_4", "meteor"], "val/loss", 4, said.append)
    assert not problems.found
    (line,) = said
    assert line.startswith("val/meteor can't be computed here and is left out: ")


def test_a_sound_that_breaks_off_later_ends_training_in_one_line(folder: Path, tmp_path: Path) -> None:
    """Its beginning is a sound; what makes it none is found by the process that reads it."""
    sound = tone(440, 0.5)
    sound[6_000] = np.nan
    soundfile.write(folder / "3.wav", sound, 16_000, subtype="FLOAT")
    more = ["loader.num_workers=1", "loader.augment.mix=0", f"data.root={folder}", f"hydra.run.dir={tmp_path / 'run'}"]
    done = run("train", *SMALL, *more)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"error: '3.wav': {folder / '3.wav'}: some samples are not numbers" in line
    assert f"python -m a2i.train resume={tmp_path / 'run'}" in line


@pytest.mark.parametrize(
    ("precision", "device", "has", "told"),
    [
        ("bf16-mixed", "cpu", {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ("bf16-mixed", "cpu", {"avx2": True, "avx512_bf16": False, "amx_bf16": True}, False),
        ("bf16-mixed", "cuda", {"avx512_bf16": False}, False),
        ("32-true", "cpu", {"avx512_bf16": False}, False),
        (32, "cpu", {"avx512_bf16": False}, False),
        (None, "cpu", {}, False),
    ],
)
def test_a_precision_that_is_slow_here_is_told(
    monkeypatch: pytest.MonkeyPatch, precision: str | int | None, device: str, has: dict[str, bool], told: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    line = checks.slow_precision(precision, torch.device(device))
    assert (line is not None) is told
    assert not told or "32-true" in str(line)
