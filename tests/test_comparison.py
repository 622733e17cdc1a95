"""The comparison's own reckoning: order of sources, what counts as a cost, the table, the papers' counts."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_captioner

ROOT = Path(__file__).parents[1] / "experiments" / "comparison"
sys.path.insert(0, str(ROOT))

import parameters  # noqa: E402
from cost import count_flops, measure  # noqa: E402
from order import says_in_order  # noqa: E402
from show import over_runs, share, write  # noqa: E402

from a2i.captioner.text import CaptionTokenizer  # noqa: E402
from a2i.data.foley.captions import describe  # noqa: E402
from a2i.data.foley.recipe import FoleySettings, scene_of  # noqa: E402


def test_order_of_all_that_the_project_itself_writes() -> None:
    """Sentences about sequences are told in order, with the sources swapped they are not; those about others never."""
    settings = FoleySettings(n_train=200, alone=0.0, mixed=0.3, sequence=0.7)
    kinds = set()
    for index in range(200):
        scene = scene_of(settings, "train", index)
        kinds.add(scene.kind)
        for caption in describe(scene, np.random.default_rng(index), 5):
            first, second = scene.sources
            assert says_in_order(caption, first, second) is (scene.kind == "sequence"), caption
            assert not says_in_order(caption, second, first), caption
    assert kinds == {"mixed", "sequence"}
    assert not says_in_order("A bell rings.", "bell", "rain")


def test_flops_are_those_of_the_matrices(tokenizer: CaptionTokenizer) -> None:
    """Of a captioner whose only large part is its output layer: two for each of its weights and each token."""
    captioner = make_captioner(tokenizer)
    own = count_flops(captioner)
    output = captioner.decoder.model.lm_head  # type: ignore[union-attr]
    wider = torch.nn.Linear(output.in_features, output.out_features + 1000, bias=False)
    captioner.decoder.model.lm_head = wider  # type: ignore[union-attr]
    assert count_flops(captioner) - own == 2 * 12 * output.in_features * 1000


def test_measuring_leaves_a_captioner_as_it_was(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer)
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    cost = measure(captioner)
    assert all(torch.equal(value, before[name]) for name, value in captioner.state_dict().items())
    assert cost.parameters == sum(weight.numel() for weight in captioner.parameters())
    assert cost.step_seconds > 0
    assert not captioner.training


def result(system: str, seed: int, fold: int, right: int) -> dict[str, object]:
    counts = {name: [right, 80] for name in ("ESC-10", "one source", "two at once", "one after the other", "in order")}
    scores = {data: {"bertscore_f1": 0.5, "cider_d": 1.0, "distinct": 0.5} for data in ("ESC-10", "made")}
    cost = {"parameters": 2_000_000, "flops": 3e9, "epoch_seconds": 12.0}
    captions = {"clip.ogg": f"{system} says", "other.wav": "rain"}
    truths = {"clip.ogg": "dog", "other.wav": "rain"}
    own = {"system": system, "seed": seed, "fold": fold, "counts": counts, "scores": scores, "cost": cost}
    return {**own, "captions": captions, "truths": truths}


def test_table_plot_and_captions(tmp_path: Path) -> None:
    """The spread is over runs."""
    results = [result("act", seed, 4, 40 + 8 * seed) for seed in (0, 1)] + [result("gru", 0, 4, 20)]
    assert over_runs(results[:2], share("ESC-10")) == (pytest.approx(0.55), pytest.approx(0.0707, abs=1e-4))
    write(results, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2].startswith("| act | 2 | 55.0 ± 7.1 |")
    assert lines[3].startswith("| gru | 1 | 25.0 |")
    assert "- gru: gru says" in (tmp_path / "captions.md").read_text()
    assert {file.name for file in tmp_path.iterdir()} == {"table.md", "captions.md", "results.json", "plot.png"}


def test_the_record_has_the_counts_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    parameters.main()
    printed = capsys.readouterr().out
    assert printed.count("| +0 |") == 3
    assert printed.strip() in (ROOT / "README.md").read_text(encoding="utf-8")
