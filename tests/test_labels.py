from pathlib import Path

import pytest
import torch

from a2i.data import Clip
from a2i.training.labels import label_frequencies, label_loss, label_names, label_shares


def clip(*labels: str) -> Clip:
    return Clip("a", Path("a"), ("A.",), labels=frozenset(labels))


def test_shares_of_labels() -> None:
    names = label_names([clip("rain", "dog"), clip(), clip("bell"), Clip("a", Path("a"), ("A.",))])
    assert names == ["bell", "dog", "rain"]
    assert label_shares(frozenset({"rain", "dog"}), names) == [0, 0.5, 0.5, 0]
    assert label_shares(frozenset(), names) == [0, 0, 0, 1]
    assert label_shares(frozenset({"cat"}), names) == [0, 0, 0, 1]
    assert label_shares(None, names) == [0, 0, 0, 0]


def test_against_torch_and_without_what_is_not_known() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4)
    shares = torch.tensor([label_shares(frozenset({name}), ["a", "b", "c"]) for name in "cab"])
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0, 1]), label_smoothing=smoothing)
        assert float(label_loss(logits.log_softmax(1), shares, smoothing)) == pytest.approx(float(expected), rel=1e-5)
    shares[1] = 0
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([2, 1]), label_smoothing=0.1)
    assert float(label_loss(logits.log_softmax(1), shares, 0.1)) == pytest.approx(float(expected), rel=1e-5)
    assert float(label_loss(logits.log_softmax(1), shares * 0, 0.1)) == 0


def test_rare_labels_are_told_as_readily_as_frequent_ones() -> None:
    clips = [*[clip("rain")] * 900, *[clip("dog")] * 90, *[clip()] * 10, Clip("a", Path("a"), ("A.",))]
    names = ["dog", "rain"]
    shares = label_frequencies(clips, names)
    assert shares.sum() == pytest.approx(1)
    assert shares.tolist() == pytest.approx([90.5 / 1001.5, 900.5 / 1001.5, 10.5 / 1001.5])
    # Where the sound says nothing, the loss is least if the head's own guess is even: the offset says the rest.
    heard = torch.tensor([label_shares(one.labels, names) for one in clips])
    head = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([head], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = label_loss(head.log_softmax(0).expand(len(clips), 3), heard, offset=shares.log())
        loss.backward()
        return loss

    optimizer.step(closure)
    assert head.softmax(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
