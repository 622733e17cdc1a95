import pytest
import torch
from conftest import make_captioner

from a2i.keywords import LEAST_SHARE, Keywords, LabelHead
from a2i.text import CaptionTokenizer


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


def told(*probabilities: float) -> tuple[list[float], float]:
    """What is told, and how likely it is, where the head finds these probabilities; the last one is for nothing."""
    keywords = Keywords(4, 6, ["bell", "dog", "rain"])
    with torch.no_grad():
        keywords.head.linear.weight.zero_()
        keywords.head.linear.bias.copy_(torch.tensor(probabilities).log())
        shares, evidence = keywords.estimate(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    return shares[0].tolist(), evidence.exp().item()


def test_all_that_are_nearly_as_likely_as_the_likeliest_are_told() -> None:
    assert told(0.9, 0.05, 0.04, 0.01) == ([1, 0, 0, 0], pytest.approx(0.9))
    assert told(0.5, 0.01, 0.45, 0.04) == ([0.5, 0, 0.5, 0], pytest.approx(0.95))
    assert told(0.5, 0.99 * LEAST_SHARE * 0.5, 0.3, 0.05)[0] == [0.5, 0, 0.5, 0]
    # To have nothing to name goes with no keyword, and a keyword not with it.
    assert told(0.4, 0.05, 0.05, 0.5) == ([0, 0, 0, 1], pytest.approx(0.5))
    assert told(0.5, 0.05, 0.05, 0.4) == ([1, 0, 0, 0], pytest.approx(0.5))


def test_names_are_there_once() -> None:
    for names in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="each once"):
            Keywords(4, 6, names)


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
