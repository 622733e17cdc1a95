"""Training from what was prepared is training from the sounds."""

import csv
import functools
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from conftest import SENTENCES, make_captioner, tone
from programs import run

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.training.augment import WaveformAugment
from a2i.training.batches import Batch, ClipDataset, InputKind, collate
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import cached_inputs, encoder_states
from a2i.training.module import CaptionModule

ADAM = functools.partial(torch.optim.AdamW, lr=1e-3)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = []
    for index, seconds in enumerate((0.5, 0.9, 12.0)):  # the last one takes two of AST's windows
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, tone(300 * (index + 1), seconds), 16_000)
        made.append(Clip(path.name, path, (SENTENCES[index],)))
    return made


@pytest.mark.long
@pytest.mark.parametrize("encoder", ["ast", "cnn"])
def test_all_that_clips_come_as_give_the_same(
    clips: list[Clip], tokenizer: CaptionTokenizer, tmp_path: Path, encoder: str
) -> None:
    captioner = make_captioner(tokenizer, encoder)
    module = CaptionModule(captioner, ADAM, freeze_encoder=True).eval()
    module.optimizers = lambda: SimpleNamespace(param_groups=[])  # type: ignore[assignment, method-assign]
    module.log = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    found = {}
    kinds: tuple[InputKind, ...] = ("waveforms", "log_mels", "states", "states")
    for kind in kinds:
        ready = cached_inputs(kind, tmp_path / "cache", captioner, clips, learns=False, augmented=False)
        options = (kind, ready[1], ready[2]) if ready else ("waveforms", None, 0.0)
        data = ClipDataset(clips, "first", 0, 16_000, **({"load": ready[1]} if ready else {}))
        batch: Batch = collate(tokenizer, (), options[0], options[2])([data[0, index] for index in range(3)])
        assert (batch.waveforms is None) == (kind != "waveforms")
        loss = module.training_step(batch, 0)
        with torch.no_grad():
            module.validation_step(batch, 0)
        found[kind] = (loss.item(), [row["caption_predicted"] for row in module.validation.rows()], batch)
        module.validation.reset()
    for kind in ("log_mels", "states"):
        assert found[kind][0] == pytest.approx(found["waveforms"][0], abs=1e-4)
        assert found[kind][1] == found["waveforms"][1]
        assert found[kind][2].to("meta").mask.device.type == "meta"


def test_other_weights_are_other_states(clips: list[Clip], tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    first = encoder_states(tmp_path, captioner)
    assert encoder_states(tmp_path, captioner).entries == first.entries
    with torch.no_grad():
        next(captioner.encoder.parameters()).view(-1)[0] += 1e-3
    assert encoder_states(tmp_path, captioner).entries != first.entries


def test_what_would_be_wrong_is_refused(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    for kind, folder, learns, augmented, said in (
        ("states", tmp_path, True, False, "expected freeze_encoder=true"),
        ("states", tmp_path, False, True, "augment=null"),
        ("log_mels", "memory", False, False, "expected loader.cache=FOLDER"),
        ("log_mels", None, False, False, "expected loader.cache=FOLDER"),
        ("sounds", tmp_path, False, False, "expected one of waveforms, log_mels, states"),
    ):
        with pytest.raises(ValueError, match=said):
            cached_inputs(kind, folder, captioner, [], learns, augmented)  # type: ignore[arg-type]
    ready = ("log_mels", lambda clip: None, 0.0)
    with pytest.raises(ValueError, match=r"set loader.augment=null"):
        CaptionDataModule(None, tokenizer, 16_000, inputs=ready, augment=WaveformAugment())  # type: ignore[arg-type]


def losses(folder: Path, *arguments: str) -> list[float]:
    done = run(
        *("train", "experiment=mini", "data=folder", f"data.root={folder}"),
        *("model.encoder.channels=[4,8]", "model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}"),
        *("model.tokenizer.vocab_size=300", "trainer=cpu", "trainer.enable_model_summary=false", "logger=csv"),
        *("trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=2", "bertscore=null"),
        *("loader.augment=null", "loader.batch_size=4", "training.augment=null", "training.label_loss=0"),
        *("training.labels_first=0", "training.freeze_encoder=true", *arguments),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (metrics,) = Path(arguments[0].partition("=")[2]).rglob("metrics.csv")
    with metrics.open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.long
def test_a_run_from_states_is_the_run_from_sounds(tmp_path: Path) -> None:
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption_1", "caption_2", "split"])
        for index in range(10):
            soundfile.write(tmp_path / f"{index}.wav", tone(300 + 100 * index, 0.3 + 0.05 * index), 16_000)
            writer.writerow([f"{index}.wav", *SENTENCES[:2], "val" if index >= 8 else "train"])
    plain = losses(tmp_path, f"hydra.run.dir={tmp_path / 'plain'}")
    assert len(plain) == 4
    states = losses(
        *(
            tmp_path,
            f"hydra.run.dir={tmp_path / 'states'}",
            f"loader.cache={tmp_path / 'cache'}",
            "loader.inputs=states",
        )
    )
    assert states == pytest.approx(plain, abs=1e-4)
