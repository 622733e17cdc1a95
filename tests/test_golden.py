"""What the programs gave before: captions, confidences, scores and trained weights, recorded in `golden/`.

A change that is meant to keep behaviour keeps these. One that is meant to change it records them anew, and its message says
why: `python tests/test_golden.py`.
"""

import csv
import json
import math
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from a2i.paths import MINI_CAPTIONER
from a2i.training.module import CaptionModule

GOLDEN = Path(__file__).parent / "golden"
RECORD, FOLDERS = GOLDEN / "golden.json", GOLDEN / "captioners"
METRICS = ("bertscore", "bleu_1", "bleu_4", "rouge_l", "cider_d")
COLUMNS = ("bertscore_f1", *METRICS[1:])
ENVIRONMENT = {**os.environ, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
TRAINING = [
    "experiment=mini",
    "data=folder",
    "model.encoder.channels=[4,8]",
    "model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}",
    "model.tokenizer.vocab_size=300",
    "model.keywords=false",
    "training.label_loss=0",
    "training.labels_first=0",
    "training.optimizer.lr=1e-3",
    "trainer=cpu",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_model_summary=false",
    "loader.batch_size=3",
    "loader.num_workers=0",
    "bertscore=null",
    "logger=csv",
]


def run(module: str, *arguments: str) -> None:
    done = programs.run(module, *arguments, environment=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr


def to_train(row: str) -> str:
    """A row of the table of made sounds, of which every tenth is for validation and testing."""
    return re.sub(",(val|test),", ",train,", row, count=1)


def make_sounds(folder: Path) -> None:
    """Twelve made sounds, ten of them to train on, and a recording of two and a half minutes whose parts hold others."""
    run("data.foley", str(folder), "--count", "12", "--seed", "3")
    table = folder / "captions.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join([*lines[:3], *map(to_train, lines[3:])]), encoding="utf-8")
    sounds = [soundfile.read(path)[0] for path in sorted(folder.glob("*.wav"))]
    long = np.concatenate([np.resize(sound, 16_000 * 38) for sound in sounds[::3]])
    (folder / "long").mkdir()
    soundfile.write(folder / "long" / "long.wav", long, 16_000)


def captioned(folder: Path, out: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    run("infer", f"audio={folder}", f"out={out}", *arguments)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = ("candidates", "log_probabilities", "confidence", "parts")
    return {Path(row["audio"]).name: {key: row[key] for key in kept if key in row} for row in rows}


def captions(work: Path) -> dict[str, Any]:
    """By the embedded captioner, searched and drawn by chance, and by one of each kind of encoder and decoder."""
    drawn = ["decoding.do_sample=true", "decoding.num_beams=1", "decoding.temperature=0.7", "seed=5", "image=none"]
    found = {
        "searched": captioned(work / "sounds", work / "searched", "image=none", "batch_size=3"),
        "drawn": captioned(work / "sounds", work / "drawn", *drawn),
    }
    few = work / "few"
    few.mkdir()
    for path in sorted((work / "sounds").glob("*.wav"))[:3]:
        shutil.copy(path, few)
    for folder in sorted(FOLDERS.iterdir()):
        found[folder.name] = captioned(few, work / folder.name, f"captioner={folder}", "image=none")
    return found


def scores(work: Path) -> dict[str, Any]:
    """Of the embedded captioner on the made sounds."""
    out = work / "evaluation"
    run(
        "evaluate", f"captioner={MINI_CAPTIONER}", "data=folder", f"data.root={work / 'sounds'}", "split=train",
        f"out={out}", f"metrics=[{','.join(METRICS)}]", "bootstrap_samples=200",
    )  # fmt: skip
    found = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    kept = ("value", "precision", "recall", "f1", "interval")
    with (out / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "corpus": {name: {key: found[name][key] for key in kept if key in found[name]} for name in METRICS},
        "counts": found["captions"],
        "clips": {
            row["file_name"]: [row["caption_predicted"], *(float(row[name]) for name in (*COLUMNS, "confidence"))]
            for row in rows
        },
    }


def tensors(work: Path) -> dict[str, NDArray[np.float32]]:
    """The weights of a small captioner that is trained, stopped and resumed."""
    folder = work / "run"
    run("train", *TRAINING, f"data.root={work / 'sounds'}", f"hydra.run.dir={folder}", "trainer.max_epochs=2")
    run("train", f"resume={folder}", "trainer.max_epochs=4")
    return load_file(folder / "captioner" / "model.safetensors")


def weights(tensors: dict[str, NDArray[np.float32]]) -> dict[str, list[float]]:
    """Of each tensor the mean, the norm and the first numbers."""
    return {
        name: [float(tensor.mean()), float(np.linalg.norm(tensor)), *map(float, tensor.flatten()[:3])]
        for name, tensor in sorted(tensors.items())
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    make_sounds(folder / "sounds")
    return folder


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def assert_close(found: Any, expected: Any, tolerance: float, where: str = "") -> None:
    """Numbers to within a tolerance, all else exactly; nothing that was there is missing, and what is new is not asked."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{where}/{key} is gone"
            assert_close(found[key], value, tolerance, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_close(found[index], value, tolerance, f"{where}/{index}")
    elif isinstance(expected, float) or (isinstance(expected, int) and not isinstance(expected, bool)):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), where
    else:
        assert found == expected, where


def assert_weights_close(
    found: dict[str, NDArray[np.float32]], expected: dict[str, list[float]], tolerance: float
) -> None:
    """Each tensor to within a share of its own size: its norm, and its mean and numbers beside their root mean square."""
    assert set(expected) <= set(found)
    numbers = weights(found)
    for name, (mean, norm, *first) in expected.items():
        size = norm / math.sqrt(found[name].size)
        got_mean, got_norm, *got_first = numbers[name]
        assert got_norm == pytest.approx(norm, rel=tolerance), name
        assert [got_mean, *got_first] == pytest.approx([mean, *first], rel=0, abs=tolerance * size), name


@pytest.mark.long
def test_captions_are_as_they_were(work: Path, golden: dict[str, Any]) -> None:
    assert_close(captions(work), golden["captions"], 2e-3)


@pytest.mark.long
def test_scores_are_as_they_were(work: Path, golden: dict[str, Any]) -> None:
    assert_close(scores(work), golden["scores"], 2e-3)


@pytest.mark.long
def test_resumed_weights_are_as_they_were(work: Path, golden: dict[str, Any]) -> None:
    assert_weights_close(tensors(work), golden["weights"], 2e-3)


def test_small_weights_that_changed_are_noticed() -> None:
    small = np.array([1e-4, -2e-4, 3e-4], np.float32)
    recorded = weights({"bias": small})
    assert_weights_close({"bias": small * np.float32(1.0001)}, recorded, 2e-3)
    for other in (-small, small * np.float32(1.01), small + np.float32(2e-6)):
        with pytest.raises(AssertionError, match="bias"):
            assert_weights_close({"bias": other}, recorded, 2e-3)


@pytest.mark.long
def test_a_run_of_an_earlier_version_goes_on_from_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with keywords, whose weights had other names then; its settings name classes that have moved since."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "run", "run")
    saved = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    found: dict[str, torch.Tensor] = {}
    steps: list[int] = []

    def now(name: str) -> str:
        for old, new in (("bridge", "bridge.inner"), ("keywords.head", "bridge.label_head"), ("keywords", "bridge")):
            if name.startswith(f"captioner.{old}."):
                return name.replace(old, new, 1)
        return name

    def begun(module: CaptionModule) -> None:
        found.update({name: tensor.clone() for name, tensor in module.state_dict().items()})
        steps.append(module.trainer.global_step)
        module.train()

    monkeypatch.setattr(CaptionModule, "on_train_start", begun)
    run("train", "resume=run", "trainer.max_epochs=3")
    assert steps == [saved["global_step"]] == [2]
    expected = {now(name): tensor for name, tensor in saved["state_dict"].items()}
    assert set(found) == set(expected)
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    after = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert after["global_step"] == 3
    assert Path("run/captioner/model.safetensors").is_file()


def record() -> None:
    """Write `golden.json` anew."""
    torch.set_num_threads(1)  # as tests have it: the sums of several come out in another order
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_sounds(work / "sounds")
        found = {"captions": captions(work), "scores": scores(work), "weights": weights(tensors(work))}
    RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
