"""Steps whose loss or gradient is not finite, on real trainers of a tiny network."""

import copy
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from a2i.training.finite import IN_A_ROW, FiniteSteps, NotFiniteError, not_finite

Plain = SimpleNamespace


def batches(*kinds: str) -> list[Any]:
    """One batch for each kind: `fine`, or `nan` in the sound, or `steep`, whose loss is finite and whose gradient is not."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index, kind in enumerate(kinds):
        sound = torch.randn(4, 3, generator=generator)
        if kind == "nan":
            sound[1, 1] = torch.nan
        made.append(Plain(names=[f"{kind}{index}.wav", f"other{index}.wav"], sound=sound, steep=kind == "steep"))
    return made


class Learner(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))

    def training_step(self, batch: Any, index: int) -> Tensor:
        heard = self.net(batch.sound)
        # The root's slope at 0 is infinite, and times the 0 of what is rooted no number.
        return heard.square().mean() + (0 * heard.sum()).abs().sqrt() if batch.steep else heard.square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def fit(data: list[Any], on_nan: str, **options: Any) -> tuple[Learner, FiniteSteps]:
    module, finite = Learner(), FiniteSteps(on_nan)  # type: ignore[arg-type]
    settings = {"accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    trainer = Trainer(**settings, enable_progress_bar=False, enable_model_summary=False, callbacks=[finite])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer.fit(module, DataLoader(copy.deepcopy(data), batch_size=None))
    return module, finite


@pytest.mark.parametrize(("kind", "said"), [("nan", "the loss is nan"), ("steep", "the gradient is nan")])
def test_training_stops_at_the_first_and_names_the_batch(kind: str, said: str) -> None:
    with pytest.raises(NotFiniteError, match=rf"step 3 \(epoch 0\): {said} for the batch of {kind}2.wav, other2.wav"):
        fit(batches("fine", "fine", kind, "fine"), "stop")


@pytest.mark.parametrize("kind", ["nan", "steep"])
def test_a_step_left_out_leaves_no_trace(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = batches("fine", "fine", kind, "fine")
    skipped, finite = fit(data, "skip")
    without, _ = fit([data[0], data[1], data[3]], "stop")
    for name, weight in without.state_dict().items():
        assert torch.equal(skipped.state_dict()[name], weight), name
    assert finite.state_dict() == {"left_out": 1}
    assert f"{kind}2.wav" in capsys.readouterr().err


def test_of_accumulated_batches_the_bad_one_is_named() -> None:
    with pytest.raises(NotFiniteError, match=r"for the batch of nan2.wav, other2.wav$"):
        fit(batches("fine", "fine", "nan", "fine"), "stop", accumulate_grad_batches=2)


def test_many_in_a_row_are_not_the_batches_fault() -> None:
    few = ["nan"] * (IN_A_ROW - 1)
    _, finite = fit(batches(*few, "fine", *few), "skip")
    assert finite.left_out == 2 * (IN_A_ROW - 1)
    with pytest.raises(NotFiniteError, match=f"{IN_A_ROW} steps in a row"):
        fit(batches("fine", *few, "nan"), "skip")


def test_a_setting_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"got training.on_nan=ignore; expected one of stop, skip"):
        FiniteSteps("ignore")  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_named() -> None:
    weights = {
        "a": torch.ones(3),
        "b": torch.tensor([1.0, torch.inf]),
        "c": torch.tensor([1]),
        "d": torch.tensor(torch.nan),
    }
    assert not_finite(weights) == ["b", "d"]


RANKS = """
import sys
sys.path.insert(0, {tests!r})
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from test_finite import Learner, batches
from a2i.training.finite import FiniteSteps
import os, warnings
from pathlib import Path
warnings.simplefilter("ignore")
rank = int(os.environ.get("LOCAL_RANK", 0))
for on_nan in ("skip", "stop"):
    data = batches("fine", "nan" if rank else "fine", "fine")
    finite = FiniteSteps(on_nan)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=[finite])
    module = Learner()
    try:
        trainer.fit(module, DataLoader(data, batch_size=None))
    except ValueError as error:
        told = f"stopped: {{error}}"
    else:
        told = f"went on {{finite.left_out}} {{module.net[0].weight.sum().item()}}"
    Path(f"{{sys.argv[1]}}/{{on_nan}}{{rank}}.txt").write_text(told)
    trainer.strategy.barrier()
"""


@pytest.mark.long
def test_all_ranks_decide_alike(tmp_path: Path) -> None:
    """One of two ranks has the bad batch."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(tests=str(Path(__file__).parent)))
    subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    skipped, stopped = (
        [(tmp_path / f"{on_nan}{rank}.txt").read_text() for rank in (0, 1)] for on_nan in ("skip", "stop")
    )
    assert skipped[0] == skipped[1]
    assert skipped[0].startswith("went on 1 ")
    assert stopped == ["stopped: step 2 (epoch 0): the loss is nan for the batch of nan1.wav, other1.wav"] * 2
