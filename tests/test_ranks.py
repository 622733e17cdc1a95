"""Several ranks learn as one: the figures of `experiments/scale/ranks.py`, with real processes; and what needs none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from a2i.training import ranks

PROGRAM = Path(__file__).resolve().parents[1] / "experiments" / "scale" / "ranks.py"


def test_a_process_alone_asks_nobody() -> None:
    assert (ranks.ranks(), ranks.rank()) == (1, 0)
    assert ranks.on_any(3) == 3
    assert ranks.of_each("here") == ["here"]
    log_mel, mask = torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    assert ranks.as_long(log_mel, mask, 0.5)[0] is log_mel


def test_shared_norms_keep_names_weights_and_values() -> None:
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3))
    )
    shared = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3))
    )
    shared.load_state_dict(own.state_dict())
    parameters = list(shared.parameters())
    assert len(ranks.share_norms(shared)) == 2
    assert ranks.share_norms(shared) == []
    assert all(now is before for now, before in zip(shared.parameters(), parameters, strict=True))
    values = torch.randn(4, 1, 8, 6)
    for training in (True, False):
        assert torch.equal(own.train(training)(values), shared.train(training)(values))
    assert own.state_dict().keys() == shared.state_dict().keys()
    assert all(torch.equal(value, shared.state_dict()[name]) for name, value in own.state_dict().items())


def figures(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    table = folder / "figures.json"
    command = [sys.executable, str(PROGRAM), "--json", str(table), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(table.read_text())
    return found


def check(row: dict[str, Any]) -> None:
    assert row["same"], row
    assert max(row["weight"], row["loss"], row["validation"]) < 1e-5, row
    assert row["gradient"] < 1e-4, row  # those of a CNN with labels miss 1e-5: experiments/scale/ranks.md


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_machines_take_the_steps_of_one_process(tmp_path: Path) -> None:
    """Shares and captions uneven, a stand-in in each epoch, labels and tags that some lack; first labels alone."""
    found = figures(tmp_path, "--ranks", "2", "--nodes", "2", "--cases", "captions", "labels", "labels_first")
    assert [row["steps"] for row in found] == [10] * 3
    for row in found[:2]:
        check(row)
    assert found[2]["same"], "the same clips and the same weights learn; how far apart is in experiments/scale/ranks.md"


@pytest.mark.slow
def test_divided_weights_learn_from_labels_first(tmp_path: Path) -> None:
    """With trainer=fsdp: first the encoder and its head, then all else, while the encoder stays as it is."""
    (row,) = figures(tmp_path, "--ranks", "2", "--sharded", "--cases", "labels_first")
    assert row["same"], "the same clips and the same weights learn"
    assert row["steps"] == 10
    assert row["weight"] < 1e-2, "how far apart whole weights are, too: experiments/scale/ranks.md"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_stopped_run_goes_on_with_any_number_of_ranks(tmp_path: Path) -> None:
    """In mid-epoch and at its end; with as many ranks as before its dropout is the same, too."""
    found = figures(tmp_path, "--resume", "--changes", "2-2", "2-1", "--cases", "captions", "dropout")
    assert [(row["case"], row["ranks"]) for row in found] == [
        ("captions, in mid-epoch", "2 to 2"),
        ("dropout, in mid-epoch", "2 to 2"),
        ("captions, in mid-epoch", "2 to 1"),
        ("captions, at its end", "2 to 2"),
        ("dropout, at its end", "2 to 2"),
        ("captions, at its end", "2 to 1"),
    ]
    for row in found:
        check(row)
        if row["case"].startswith("dropout"):
            assert row["gradient"] == row["weight"] == row["loss"] == 0
