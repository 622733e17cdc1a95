from pathlib import Path

import pytest
import torch

from a2i.data import Clip
from a2i.training.labels import LabelLoss, label_names, label_shares


def clip(*labels: str) -> Clip:
    return Clip("a", Path("a"), ("A.",), labels=frozenset(labels))


def test_shares_of_labels() -> None:
    names = label_names([clip("rain", "dog"), clip(), clip("bell"), Clip("a", Path("a"), ("A.",))])
    assert names == ["bell", "dog", "rain"]
    assert label_shares(frozenset({"rain", "dog"}), names) == [0, 0.5, 0.5, 0]
    assert label_shares(frozenset(), names) == [0, 0, 0, 1]
    assert label_shares(frozenset({"cat"}), names) == [0, 0, 0, 1]
    assert label_shares(None, names) == [0, 0, 0, 0]


@torch.no_grad()
def test_against_torch_and_without_what_is_not_known() -> None:
    torch.manual_seed(0)
    loss = LabelLoss(8, 3)
    states, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    shares = torch.tensor([label_shares(frozenset({name}), ["a", "b", "c"]) for name in "cab"])
    logits = loss.head(torch.cat((states.mean(dim=1), states.amax(dim=1)), dim=1))
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0, 1]), label_smoothing=smoothing)
        assert float(loss(states, mask, shares, smoothing)) == pytest.approx(float(expected), rel=1e-5)
    shares[1] = 0
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([2, 1]), label_smoothing=0.1)
    assert float(loss(states, mask, shares, 0.1)) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss(states, mask, shares * 0, 0.1)) == 0


@torch.no_grad()
def test_padding_is_not_heard() -> None:
    states, mask = torch.randn(1, 5, 8), torch.tensor([[True, True, True, False, False]])
    loud = states.clone()
    loud[:, 3:] = 1e4
    loss, shares = LabelLoss(8, 2), torch.tensor([[1.0, 0, 0]])
    assert torch.equal(loss(states, mask, shares), loss(loud, mask, shares))
