"""Lightning's own Trainer with the real loader: what limits an epoch limits it once."""

import functools
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from conftest import SENTENCES, make_captioner, tone
from lightning.pytorch import Callback, Trainer

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.training.datamodule import CaptionDataModule
from a2i.training.module import CaptionModule

RATE = 1e-3
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*mid-epoch"),
]


class Sounds:
    """16 clips to learn from, which are 8 batches of two, and 6 to validate on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for index in range(22):
            soundfile.write(folder / f"{index}.wav", tone(200 + 50 * index, 0.1), 16_000)

    def prepare(self) -> None:
        pass

    def clips(self, split: str) -> list[Clip]:
        numbers = range(16) if split == "train" else range(16, 22)
        return [Clip(f"{n}.wav", self.folder / f"{n}.wav", (SENTENCES[n % 5],)) for n in numbers]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Sounds:
    return Sounds(tmp_path_factory.mktemp("sounds"))


class Watch(Callback):
    """What was learnt from in each epoch, with which rate each step was taken, and what was validated."""

    def __init__(self, save_after: int | None = None, path: Path | None = None) -> None:
        self.epochs: dict[int, list[list[str]]] = {}
        self.rates: list[float] = []
        self.validated: list[str] = []
        self.save_after, self.path = save_after, path

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self.epochs.setdefault(trainer.current_epoch, []).append(batch.names)

    def on_before_optimizer_step(self, trainer: Trainer, module: Any, optimizer: Any) -> None:
        self.rates.append(next(group["lr"] for group in optimizer.param_groups if group["name"] == "decoder"))

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        if sum(map(len, self.epochs.values())) == self.save_after:
            trainer.save_checkpoint(self.path)  # type: ignore[arg-type]

    def on_validation_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.validated += batch.names


def fit(
    sounds: Sounds, tokenizer: CaptionTokenizer, watch: Watch, checkpoint: Path | None = None, **settings: Any
) -> Watch:
    data = CaptionDataModule(sounds, tokenizer, 16_000, batch_size=2)
    optimizer = functools.partial(torch.optim.Adam, lr=RATE)
    captioner = make_captioner(tokenizer).train()
    module = CaptionModule(captioner, optimizer, schedule="linear", decoding={"num_beams": 1, "num_candidates": 1})
    quiet = {
        **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
        **{"accelerator": "cpu", "num_sanity_val_steps": 0, "use_distributed_sampler": False},
    }
    trainer = Trainer(**quiet, callbacks=[watch], **settings)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return watch


def falling(steps: int) -> list[float]:
    """A linear schedule's rates: the last step's is one part of the first's, and the next would be 0."""
    return [RATE * (steps - step) / steps for step in range(steps)]


@pytest.mark.parametrize(
    ("settings", "batches", "steps"),
    [
        ({"max_epochs": 2}, 8, 16),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 4, 8),
        ({"max_epochs": 2, "limit_train_batches": 0.3}, 2, 4),
        ({"max_epochs": 2, "limit_train_batches": 3}, 3, 6),
        ({"max_epochs": 2, "limit_train_batches": 1}, 1, 2),
        ({"max_epochs": 2, "limit_train_batches": 99}, 8, 16),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, 8, 6),
        ({"max_epochs": 2, "limit_train_batches": 0.7, "accumulate_grad_batches": 2}, 5, 6),
        ({"max_epochs": 3, "max_steps": 5, "limit_train_batches": 0.25}, 2, 5),
        ({"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1, "limit_train_batches": 0.5}, 4, 8),
        ({"max_epochs": 2, "overfit_batches": 2}, 2, 4),
    ],
)
def test_a_limit_acts_once(
    sounds: Sounds, tokenizer: CaptionTokenizer, settings: dict[str, Any], batches: int, steps: int
) -> None:
    """An epoch has the batches that were asked for, each epoch others, and the schedule ends with the last step."""
    watch = fit(sounds, tokenizer, Watch(), limit_val_batches=0, **settings)
    epochs = list(watch.epochs.values())
    assert [len(epoch) for epoch in epochs[:2]] == [batches, batches]
    assert epochs[0] != epochs[1]
    assert watch.rates == pytest.approx(falling(steps))


@pytest.mark.parametrize(("limit", "clips"), [(1.0, 6), (0.5, 2), (2, 4), (9, 6)])
def test_a_limit_of_validation_acts_once(sounds: Sounds, tokenizer: CaptionTokenizer, limit: float, clips: int) -> None:
    settings = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": limit}
    assert len(fit(sounds, tokenizer, Watch(), **settings).validated) == clips


@pytest.mark.parametrize("limit", [0.5, 3, 1.0])
def test_a_limited_epoch_goes_on_in_its_middle(
    sounds: Sounds, tokenizer: CaptionTokenizer, tmp_path: Path, limit: float
) -> None:
    settings = {"max_epochs": 3, "limit_train_batches": limit, "limit_val_batches": 0}
    whole = fit(sounds, tokenizer, Watch(5, tmp_path / "middle.ckpt"), **settings)
    resumed = fit(sounds, tokenizer, Watch(), tmp_path / "middle.ckpt", **settings)
    seen = [[batch for epoch in run.epochs.values() for batch in epoch] for run in (whole, resumed)]
    assert seen[1] == seen[0][5:]
    assert [len(epoch) for epoch in whole.epochs.values()] == [{0.5: 4, 3: 3, 1.0: 8}[limit]] * 3
    assert resumed.rates == pytest.approx(whole.rates[5:])
    assert whole.rates == pytest.approx(falling(len(whole.rates)))
