"""The reproduction's experiments: each a difference of a few lines, and each runs from folders in the Hub's own format."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from conftest import SENTENCES, TINY_AST, TINY_GPT2, tone
from programs import run
from test_configs import compose

from a2i.captioner import Captioner
from a2i.captioner.text import CaptionTokenizer

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("ast_gpt2_as_published", "ast_gpt2", "ast_gpt2_best")
QUICK = [
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.num_sanity_val_steps=0",
    "trainer.enable_model_summary=false",
    "trainer.log_every_n_steps=1",
    "loader.batch_size=4",
    "loader.num_workers=0",
    "training.decoding.max_tokens=6",
    "logger=csv",
    "bertscore=null",
]


def flat(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name: values}
    return {key: value for part, more in values.items() for key, value in flat(more, f"{name}.{part}").items()}


def difference(experiment: str) -> dict[str, Any]:
    """What an experiment has that `ast_gpt2` has not, its name aside."""
    base, other = (flat(compose("train", f"experiment={name}")) for name in ("ast_gpt2", experiment))
    return {
        key[1:]: other[key] for key in other if other[key] != base.get(key, "nothing") and key.split(".")[-1] != "name"
    }


def test_as_published_is_two_settings_away() -> None:
    assert difference("ast_gpt2_as_published") == {
        "model.tokenizer.bos": False,
        "model.encoder.long_audio": "truncate",
    }


def test_the_best_is_a_few_settings_away() -> None:
    changed = difference("ast_gpt2_best")
    augment = {key: changed.pop(key) for key in sorted(changed) if ".augment" in key}
    assert augment["loader.augment._target_"].endswith("WaveformAugment")
    assert augment["training.augment._target_"].endswith("SpecAugment")
    assert changed == {
        "model.decoding.num_beams": 4,
        "model.decoding.no_repeat_ngram_size": 3,
        "trainer.precision": "bf16-mixed",
        "trainer.gradient_clip_val": 1.0,
        "loader.captions": "all",
        "training.optimizer._target_": "torch.optim.AdamW",
        "training.optimizer.weight_decay": 0.01,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.new_layers_rate": 2e-4,
        "training.label_smoothing": 0.1,
    }


def test_the_published_cleaning_is_one_setting_everywhere() -> None:
    for entry in ("infer", "evaluate"):
        assert compose(entry)["decoding"]["cleaning"] is None
        assert compose(entry, "text.cleaning=published")["decoding"]["cleaning"] == "published"
    config = compose("train", "experiment=ast_gpt2_as_published", "text.cleaning=published")
    assert config["model"]["decoding"]["cleaning"] == config["training"]["decoding"]["cleaning"] == "published"


def sweep(folder: Path, hub: Path, *data: str) -> None:
    """All three, one after another in one process."""
    parts = {"encoder": "ast", "decoder": "gpt2", "tokenizer": "gpt2"}
    models = [f"model.{part}.pretrained={hub / name}" for part, name in parts.items()]
    several = f"experiment={','.join(EXPERIMENTS)}"
    done = run("train", "-m", several, *data, *models, *QUICK, f"hydra.sweep.dir={folder}")
    assert done.returncode == 0, done.stderr[-3000:]


def check(folder: Path) -> None:
    for index, name in enumerate(EXPERIMENTS):
        run = folder / str(index)
        assert yaml.safe_load((run / "config.yaml").read_text())["name"] == name
        captioner = Captioner.load(run / "captioner")
        assert captioner.tokenizer.bos is (name != "ast_gpt2_as_published")
        assert captioner.encoder.long_audio == ("truncate" if name == "ast_gpt2_as_published" else "window")
        values = json.loads((run / "values.json").read_text())
        assert 0 <= values["val/first_word_valid"] <= 1
        assert captioner.caption([tone(440, 12.0)], max_tokens=4, cleaning="published")[0]


@pytest.mark.long
def test_all_three_run_on_made_recordings(tmp_path: Path) -> None:
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    tokenizer = CaptionTokenizer.train(SENTENCES, 320)
    gpt2 = GPT2Config(**{**TINY_GPT2, "n_positions": 80}, vocab_size=len(tokenizer))
    ASTForAudioClassification(ASTConfig(**TINY_AST, num_labels=527)).save_pretrained(tmp_path / "hub" / "ast")
    GPT2LMHeadModel(gpt2).save_pretrained(tmp_path / "hub" / "gpt2")
    tokenizer.save(tmp_path / "hub" / "gpt2")
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *(f"caption_{n}" for n in range(1, 6)), "split"])
        for index in range(12):
            soundfile.write(tmp_path / f"{index}.wav", tone(300 + 50 * index, 0.5 + index), 16_000)
            writer.writerow([f"{index}.wav", *SENTENCES, "val" if index >= 8 else "train"])
    sweep(tmp_path / "runs", tmp_path / "hub", "data=folder", f"data.root={tmp_path}")
    check(tmp_path / "runs")


def test_all_three_run_on_real_recordings(tmp_path: Path, real_data: Path) -> None:
    script = ROOT / "experiments" / "full_size" / "random_checkpoints.py"
    hub = tmp_path / "hub"
    command = [sys.executable, str(script), str(hub), str(real_data / "gpt2"), "--tiny"]
    subprocess.run(command, check=True, capture_output=True)
    sweep(tmp_path / "runs", hub, "data=esc10")
    check(tmp_path / "runs")


def test_a_bridge_may_bring_settings_of_its_own() -> None:
    config = compose("train", "model.bridge={kind:resampler,queries:8}")
    assert config["model"]["bridge"] == {"kind": "resampler", "queries": 8}
    assert compose("train", "model.bridge=resampler")["model"]["bridge"] == "resampler"
