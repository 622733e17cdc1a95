import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_captioner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge, make_bridge
from a2i.captioner.label_head import LabelHead, pooled
from a2i.captioner.text import CaptionTokenizer
from a2i.training.module import CaptionModule


@torch.no_grad()
def test_the_head_reads_mean_and_maximum_of_the_real_states() -> None:
    torch.manual_seed(0)
    head, states = LabelHead(8, 2), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = [torch.cat((clip.mean(dim=0), clip.amax(dim=0))) for clip in (states[0], states[1, :3])]
    assert torch.allclose(head(states, mask), head.linear(torch.stack(expected)).log_softmax(dim=1), atol=1e-6)
    loud = states.clone()
    loud[1, 3:] = 1e4
    assert torch.equal(head(loud, mask), head(states, mask))


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 15), st.integers(0, 5), st.integers(0, 2**16)
)
def test_a_window_takes_the_greatest_of_states_after_one_another(
    lengths: list[int], window: int, padding: int, seed: int
) -> None:
    """As a loop over the windows of each clip alone; where its states stand between padded ones makes no difference."""
    torch.manual_seed(seed)
    total = max(lengths) + padding
    states, mask = torch.full((len(lengths), total, 3), 50.0), torch.zeros(len(lengths), total, dtype=torch.bool)
    expected = []
    for row, length in enumerate(lengths):
        first = int(torch.randint(total - length + 1, ()))
        own = torch.randn(length, 3)
        states[row, first : first + length], mask[row, first : first + length] = own, True
        size = min(window, length)
        greatest = [own[start : start + size].amax(dim=0) for start in range(length - size + 1)]
        expected.append(torch.cat((torch.stack(greatest).mean(dim=0), own.amax(dim=0))))
    assert torch.allclose(pooled(states, mask, window), torch.stack(expected), atol=1e-6)
    assert torch.allclose(pooled(states, mask, 1), pooled(states, mask), atol=1e-6), (
        "windows of one state are the states"
    )


def test_the_head_reads_the_whole_band_beside_each_band() -> None:
    states, mask = torch.randn(2, 7, 6), torch.ones(2, 7, dtype=torch.bool)
    assert torch.equal(LabelHead(6, 2).read(states, mask), pooled(states, mask))
    head = LabelHead(6, 2, window=3, bands=2)
    assert head.sizes == [12, 6]
    read = head.read(states, mask)
    assert torch.equal(read[:, :12], pooled(states, mask))
    whole_band = (states[:, :, :3] + states[:, :, 3:]) / 2
    assert torch.allclose(read[:, 12:], pooled(whole_band, mask, 3))


NAMES = ["bell", "dog", "rain", "siren", "waves", "wind"]


def told(*probabilities: float, several: bool = False, **settings: Any) -> tuple[list[float], float]:
    """What is told, and how likely it is, where the head finds these probabilities; the last one is for nothing."""
    keywords = KeywordBridge(4, 6, NAMES[: len(probabilities) - 1], **settings)
    with torch.no_grad():
        keywords.label_head.linear.weight.zero_()
        keywords.label_head.linear.bias.copy_(torch.tensor(probabilities).log())
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


@torch.no_grad()
def test_of_two_one_may_follow_the_other() -> None:
    """Bell, then rain; dog is what both together sound like."""
    states = torch.tensor([[*[[9.0, 0]] * 3, *[[0, 9.0]] * 3, [0, 0]]])
    mask = torch.tensor([[True] * 6 + [False]])
    for halves, expected in ((True, [0.5, 0, 0.5, 0]), (False, [0, 0.5, 0.5, 0])):
        keywords = KeywordBridge(2, 6, ["bell", "dog", "rain"], halves=halves)
        weight = torch.zeros(4, 4)
        weight[0, 0], weight[2, 1] = 1.0, 1.0  # the means tell bell and rain,
        weight[1, 2:] = 0.35  # the maxima of both a dog
        keywords.label_head.linear.weight.copy_(weight)
        keywords.label_head.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.5, -9.0]))
        keywords.several[-1].bias.fill_(10.0)
        shares, evidence = keywords.estimate(states, mask)
        assert shares[0].tolist() == expected
        assert 0.5 < evidence.exp().item() <= 1
        keywords.several[-1].bias.fill_(-10.0)
        assert keywords.estimate(states, mask)[0][0].tolist() == [0, 1, 0, 0]  # one is looked for in the whole
    assert KeywordBridge(3, 6, ["dog"], halves=True).settings["halves"] is True
    assert "halves" not in KeywordBridge(3, 6, ["dog"]).settings


@pytest.mark.parametrize("window", [None, 2, 9])
@pytest.mark.parametrize("halves", [False, True])
@torch.no_grad()
def test_padding_changes_nothing(halves: bool, window: int | None) -> None:
    torch.manual_seed(0)
    keywords = KeywordBridge(4, 6, NAMES, halves=halves, window=window, bands=2).eval()
    assert keywords.settings.get("window") == window
    keywords.several[-1].bias.fill_(10.0)
    states = torch.randn(1, 5, 4)
    alone = keywords.estimate(states, torch.ones(1, 5, dtype=torch.bool))
    longer = torch.cat((states, torch.full((1, 3, 4), 50.0)), dim=1)
    padded = keywords.estimate(longer, torch.arange(8)[None] < 5)
    assert all(torch.allclose(one, other) for one, other in zip(alone, padded, strict=True))
    # A sound of one state has two halves, too.
    shares, evidence = keywords.estimate(states[:, :1], torch.ones(1, 1, dtype=torch.bool))
    assert shares.sum().item() == pytest.approx(1.0)
    assert evidence.isfinite().all()


def test_where_none_is_likely_that_is_told() -> None:
    spread = (0.2, 0.16, 0.15, 0.14, 0.13, 0.12, 0.10)
    assert told(*spread)[0] == [1, 0, 0, 0, 0, 0, 0]
    assert told(*spread, unlikely="rain") == ([0, 0, 1, 0, 0, 0, 0], pytest.approx(0.15))
    assert told(*spread, several=True, unlikely="rain")[0] == [0.5, 0.5, 0, 0, 0, 0, 0]  # together they are likely
    assert told(0.3, 0.25, 0.2, 0.25, unlikely="rain")[0] == [1, 0, 0, 0]


def test_names_are_there_once() -> None:
    for names in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="each once"):
            KeywordBridge(4, 6, names)
    for wrong in ({"alone": ["cat"]}, {"unlikely": "cat"}):
        with pytest.raises(ValueError, match="none of the keywords"):
            KeywordBridge(4, 6, ["dog"], **wrong)
    with pytest.raises(ValueError, match="window"):
        KeywordBridge(4, 6, ["dog"], window=0)
    with pytest.raises(ValueError, match="states of 4 in bands=3; expected bands of equal sizes"):
        KeywordBridge(4, 6, ["dog"], window=2, bands=3)
    for bands in (0, 1.5):
        with pytest.raises(ValueError, match=f"bands={bands}; expected"):
            KeywordBridge(4, 6, ["dog"], window=2, bands=bands)  # type: ignore[arg-type]


def test_a_setting_of_a_later_version_is_told_in_one_short_line() -> None:
    names = [f"kind {number}" for number in range(500)]
    with pytest.raises(ValueError, match=r"bridge keywords: .*'later'") as told:
        make_bridge(4, 6, {"kind": "keywords", "names": names, "later": 1})
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    "wrong", [{"min_probability": 2.0}, {"min_probability_of_two": -0.1}, {"hidden": 0}, {"ranks": 0}]
)
def test_numbers_that_do_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected at least 1 of both, and probabilities"):
        KeywordBridge(4, 6, ["dog"], **wrong)


def test_the_minimum_probabilities_are_settings() -> None:
    assert told(0.5, 0.01, 0.45, 0.04, min_probability=0.6, unlikely="dog")[0] == [0, 1, 0, 0]
    assert told(0.5, 0.01, 0.45, 0.04, several=True, min_probability_of_two=1.0)[0] == [1, 0, 0, 0]


@pytest.mark.parametrize("inner", ["auto", {"kind": "resampler", "queries": 3}])
@torch.no_grad()
def test_the_decoder_attends_to_one_more_state(inner: Any) -> None:
    torch.manual_seed(0)
    bridge = KeywordBridge(8, 12, ["bell", "dog"], inner=inner)
    states, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    bridged, expected = bridge(states, mask), bridge.inner(states, mask)
    assert torch.equal(bridged.states[:, :-1], expected.states)
    assert torch.equal(bridged.mask, torch.cat((expected.mask, torch.ones(2, 1, dtype=torch.bool)), dim=1))
    shares, evidence = bridge.estimate(states, mask)
    assert torch.equal(bridged.states[:, -1], bridge.embedding(shares))
    assert torch.equal(bridged.evidence, evidence)
    assert expected.evidence is None
    # True labels are told where they are known.
    learnt = bridge(states, mask, torch.tensor([[0, 1.0, 0], [0, 0, 0]]))
    assert torch.equal(learnt.states[0, -1], bridge.embedding.weight[:, 1])
    assert torch.equal(learnt.states[1], bridged.states[1])
    assert learnt.evidence is None


def test_a_caption_estimates_its_keywords_once(tokenizer: CaptionTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "dog"])
    estimate, calls = captioner.bridge.estimate, []
    monkeypatch.setattr(captioner.bridge, "estimate", lambda *given: calls.append(given) or estimate(*given))
    (candidates,) = captioner.caption(SOUND)
    assert len(calls) == 1
    evidence = estimate(*calls[0])[1].item()
    assert [one.evidence for one in candidates] == [pytest.approx(evidence)] * len(candidates)
    assert candidates[0].log_probability != candidates[0].evidence


SOUND = [np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)]


def test_keywords_are_saved(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "dog"])
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert isinstance(loaded.bridge, KeywordBridge)
    assert loaded.bridge.settings == {
        **{"kind": "keywords", "inner": "projection", "names": ["bell", "dog"], "alone": [], "unlikely": None},
        **{"min_probability": 0.25, "min_probability_of_two": 0.98, "hidden": 64, "ranks": 4},
    }
    assert loaded.caption(SOUND) == captioner.caption(SOUND)


def old_names(weights: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """As they were when the keywords stood beside the bridge."""
    inner, bridge, head = f"{prefix}bridge.inner.", f"{prefix}bridge.", f"{prefix}keywords.label_head."
    names = {name: name.replace(inner, "INNER").replace(bridge, f"{prefix}keywords.") for name in weights}
    return {
        names[name].replace("INNER", bridge).replace(head, f"{prefix}keywords.head."): weights[name] for name in weights
    }


def test_a_folder_of_before_loads(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """With the keywords beside the bridge, in settings and weights, and without minimum probabilities."""
    captioner = make_captioner(tokenizer, keywords=["bell", "dog"])
    folder = captioner.save(tmp_path / "captioner")
    settings = json.loads((folder / "captioner.json").read_text())
    bridge = settings["bridge"]
    settings |= {"bridge": bridge["inner"], "keywords": {key: bridge[key] for key in ("names", "alone", "unlikely")}}
    (folder / "captioner.json").write_text(json.dumps(settings))
    weights = old_names(load_file(folder / "model.safetensors"))
    assert {"keywords.head.linear.weight", "keywords.several.0.bias", "bridge.projection.weight"} <= weights.keys()
    save_file(weights, folder / "model.safetensors")
    loaded = Captioner.load(folder)
    assert loaded.bridge.settings == captioner.bridge.settings
    assert loaded.caption(SOUND) == captioner.caption(SOUND)


def test_a_checkpoint_of_before_is_read(tokenizer: CaptionTokenizer) -> None:
    """Every weight, and the optimiser's state still stands in the same order."""
    made = {"labels": 2, "label_loss": 0.5}
    first, second = (
        CaptionModule(make_captioner(tokenizer, seed=seed, keywords=["bell", "dog"]), torch.optim.Adam, **made)
        for seed in (0, 1)
    )
    weights = first.state_dict()
    second.load_state_dict(old_names(weights, "captioner."))
    assert all(torch.equal(value, weights[name]) for name, value in second.state_dict().items())
    assert [group["name"] for group in first.parameter_groups()] == [
        *("encoder_undecayed", "encoder", "new", "new_undecayed", "labels", "labels_undecayed"),
        *("decoder", "decoder_undecayed"),
    ]
    new = next(group["params"] for group in first.parameter_groups() if group["name"] == "new")
    assert new[0] is first.captioner.bridge.inner.projection.weight
    assert new[1] is first.captioner.bridge.embedding.weight


ANIMALS = {"categories": {"dog": ["bell", "rain"]}, "unlikely": "wind"}


def test_where_none_is_likely_a_category_may_be() -> None:
    # dog is the category of bell and rain here; together they have 0.58.
    spread = (0.2, 0.18, 0.2, 0.12, 0.1, 0.1, 0.1)
    assert told(*spread, **ANIMALS) == ([0, 1, 0, 0, 0, 0, 0], pytest.approx(0.58))
    assert told(*spread, **ANIMALS, min_probability_of_category=0.6) == ([0, 0, 0, 0, 0, 1, 0], pytest.approx(0.1))
    assert told(0.6, *spread[1:], **ANIMALS)[0][0] == 1  # one that is likely is told itself


def test_categories_are_among_the_names_and_are_saved() -> None:
    with pytest.raises(ValueError, match="none of the keywords"):
        KeywordBridge(4, 6, ["dog"], categories={"animal": ["dog"]})
    made = KeywordBridge(4, 6, ["animal", "dog"], categories={"animal": ["dog"]})
    assert json.loads(json.dumps(made.settings))["categories"] == {"animal": ["dog"]}
    assert "categories" not in KeywordBridge(4, 6, ["animal", "dog"]).settings


@torch.no_grad()
def test_without_states_the_decoder_attends_to_the_keywords_alone() -> None:
    bridge = KeywordBridge(4, 6, ["dog", "rain"], inner="none")
    states, mask, _ = bridge(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    assert states.shape == (2, 1, 6)
    assert mask.all()
