from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_captioner

from a2i.captioner import Captioner
from a2i.captioner.keywords import LEAST, Keywords, LabelHead
from a2i.captioner.text import CaptionTokenizer


@torch.no_grad()
def test_the_head_reads_mean_and_maximum_of_the_real_states() -> None:
    torch.manual_seed(0)
    head, states = LabelHead(8, 2), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    pooled = [torch.cat((clip.mean(dim=0), clip.amax(dim=0))) for clip in (states[0], states[1, :3])]
    assert torch.allclose(head(states, mask), head.linear(torch.stack(pooled)).log_softmax(dim=1), atol=1e-6)
    loud = states.clone()
    loud[1, 3:] = 1e4
    assert torch.equal(head(loud, mask), head(states, mask))


NAMES = ["bell", "dog", "rain", "siren", "waves", "wind"]


def told(*probabilities: float, several: bool = False, **settings: Any) -> tuple[list[float], float]:
    """What is told, and how likely it is, where the head finds these probabilities; the last one is for nothing."""
    keywords = Keywords(4, 6, NAMES[: len(probabilities) - 1], **settings)
    with torch.no_grad():
        keywords.head.linear.weight.zero_()
        keywords.head.linear.bias.copy_(torch.tensor(probabilities).log())
        if several:
            keywords.several[-1].bias.fill_(10.0)
        shares, evidence = keywords.estimate(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    return shares[0].tolist(), evidence.exp().item()


def test_one_keyword_is_told_or_two() -> None:
    assert told(0.9, 0.05, 0.04, 0.01) == ([1, 0, 0, 0], pytest.approx(0.9))
    assert told(0.5, 0.01, 0.45, 0.04) == ([1, 0, 0, 0], pytest.approx(0.5))
    assert told(0.5, 0.01, 0.45, 0.04, several=True) == ([0.5, 0, 0.5, 0], pytest.approx(0.95))
    # To have nothing to name goes with no keyword, and a keyword not with it.
    assert told(0.1, 0.05, 0.05, 0.8, several=True) == ([0, 0, 0, 1], pytest.approx(0.8))
    assert told(0.5, 0.05, 0.05, 0.4, several=True) == ([1, 0, 0, 0], pytest.approx(0.5))
    # Nor do those that are told alone.
    assert told(0.5, 0.05, 0.4, 0.05, several=True, alone=["rain"])[0] == [1, 0, 0, 0]
    assert told(0.5, 0.05, 0.4, 0.05, several=True, alone=["bell"])[0] == [1, 0, 0, 0]
    assert told(0.5, 0.05, 0.4, 0.05, several=True, alone=["dog"])[0] == [0.5, 0, 0.5, 0]


def test_where_none_is_likely_that_is_told() -> None:
    spread = (0.2, 0.16, 0.15, 0.14, 0.13, 0.12, 0.10)
    assert told(*spread)[0] == [1, 0, 0, 0, 0, 0, 0]
    assert told(*spread, unlikely="rain") == ([0, 0, 1, 0, 0, 0, 0], pytest.approx(0.15))
    assert told(*spread, several=True, unlikely="rain")[0] == [0.5, 0.5, 0, 0, 0, 0, 0]  # together they are likely
    assert told(LEAST + 0.05, 0.25, 0.2, 0.25, unlikely="rain")[0] == [1, 0, 0, 0]


def test_names_are_there_once() -> None:
    for names in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="each once"):
            Keywords(4, 6, names)
    for wrong in ({"alone": ["cat"]}, {"unlikely": "cat"}):
        with pytest.raises(ValueError, match="none of the keywords"):
            Keywords(4, 6, ["dog"], **wrong)


@torch.no_grad()
def test_the_decoder_attends_to_one_more_state(tokenizer: CaptionTokenizer) -> None:
    plain = make_captioner(tokenizer)
    captioner = make_captioner(tokenizer, keywords=["bell", "dog"])
    states, mask = torch.randn(2, 5, plain.encoder.width), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])  # type: ignore[arg-type]
    attended, attended_mask = captioner.attended(states, mask)
    assert torch.equal(attended[:, :5], captioner.bridge(states, mask)[0])
    assert torch.equal(attended_mask, torch.cat((mask, torch.ones(2, 1, dtype=torch.bool)), dim=1))
    assert captioner.keywords is not None
    assert torch.equal(attended[:, 5:], captioner.keywords(captioner.keywords.estimate(states, mask)[0]))
    # True labels are told where they are known.
    labels = torch.tensor([[0, 1.0, 0], [0, 0, 0]])
    learnt, _ = captioner.attended(states, mask, labels)
    assert torch.equal(learnt[0, 5], captioner.keywords.embedding.weight[:, 1])
    assert torch.equal(learnt[1], attended[1])
    assert plain.attended(states, mask)[0].shape[1] == 5


def test_keywords_are_saved(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "dog"])
    assert captioner.keywords is not None
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert loaded.keywords is not None
    assert loaded.keywords.settings == {"names": ["bell", "dog"], "alone": [], "unlikely": None}
    sound = [np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)]
    assert loaded.caption(sound) == captioner.caption(sound)
