"""A metric that a test registers stands wherever metrics stand."""

import csv
import functools
import json
import re
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from conftest import make_captioner

from a2i import metrics, train
from a2i.captioner.text import CaptionTokenizer
from a2i.compose import plain
from a2i.data.captioned import Captioned
from a2i.evaluate.pages import write, write_page
from a2i.evaluate.systems import Scorer, System
from a2i.metrics import registry
from a2i.metrics.stateful import CaptionScores
from a2i.paths import CONF
from a2i.training.curves import plot_curves
from a2i.training.module import CaptionModule
from a2i.training.settings import check

CLIPS = [
    Captioned("a.wav", "A dog barks.", ("A dog is barking.",)),
    Captioned("b.wav", "Heavy rain", ("It rains.", "Rain falls.")),
    Captioned("c.wav", "Wind blows", ("The wind blows.",)),
    Captioned("d.wav", "A bell", ("A bell rings.",)),
]
VERBS = {"barks", "blows", "rings"}


def verbs(inputs: metrics.Inputs) -> metrics.Score:
    found = [bool(VERBS & set(re.findall(r"\w+", caption.lower()))) for caption in inputs.captions]
    return metrics.Score.of(found, {"verbs": sorted(VERBS)})


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))


@pytest.fixture
def toy() -> None:
    value = metrics.Value("verbs", "captions with a verb", "share", panel="words", shown=0)
    metrics.register(metrics.Metric("verbs", verbs, (value,)))


def settings(name: str, *overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra.compose(name, list(overrides)))


@pytest.mark.usefixtures("toy")
def test_evaluation_scores_writes_and_shows_it(tmp_path: Path) -> None:
    asked = settings("evaluate", "captions=x.csv", "metrics=[rouge_l,verbs]", "bootstrap_samples=50")
    asked["caption_metrics"]["java"] = "no-such-java"
    system = System("theirs", CLIPS, Scorer.of(asked, "cpu").score(CLIPS), {})
    write(system, tmp_path)
    found = json.loads((tmp_path / "scores.json").read_text())["verbs"]
    assert found["value"] == 0.5
    assert found["interval"][0] < 0.5 < found["interval"][1]
    assert found["verbs"] == ["barks", "blows", "rings"]
    with (tmp_path / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["verbs"]) for row in rows] == [1, 0, 1, 0]
    assert list(rows[0])[-2:] == ["verbs", "confidence"]  # behind the columns that every table has
    write_page(tmp_path, "theirs", system, {"clips": 0, "sounds": False})
    page = (tmp_path / "report.html").read_text()
    assert "captions with a verb, share" in page
    assert "worst and best captions with a verb first" in page


@pytest.mark.usefixtures("toy")
def test_training_takes_it_logs_it_and_can_be_led_by_it(
    tokenizer: CaptionTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings("train", "experiment=mini", "training.metrics=[verbs]", "monitor=val/verbs")
    check(asked)
    assert train.monitored(asked) == ("val/verbs", "max")
    with pytest.raises(ValueError, match=r"got monitor=val/rouge_l; expected one of .*val/verbs"):
        train.monitored({**asked, "monitor": "val/rouge_l"})
    learner = CaptionModule(make_captioner(tokenizer), functools.partial(torch.optim.Adam, lr=1e-3), metrics=["verbs"])
    logged: dict[str, Any] = {}
    monkeypatch.setattr(learner, "log_dict", lambda values, **_: logged.update(values))
    names, captions = [clip.file_name for clip in CLIPS], [clip.caption for clip in CLIPS]
    more = {"loss": [1.0] * 4, "tokens": [2.0] * 4}
    learner.validation.update(captions, [clip.references for clip in CLIPS], names, **more)
    learner.on_validation_epoch_end()
    assert logged["val/verbs"] == 0.5
    (tmp_path / "metrics" / "version_0").mkdir(parents=True)
    (tmp_path / "metrics" / "version_0" / "metrics.csv").write_text("step,val/verbs\n1,0.5\n")
    assert plot_curves(tmp_path) is not None


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="got the metric rouge_l, but rouge_l is registered"):
        metrics.register(metrics.Metric("rouge_l", verbs))
    with pytest.raises(ValueError, match="bertscore_f1 is registered"):
        metrics.register(metrics.Metric("mine", verbs, (metrics.Value("bertscore_f1"),)))


def test_what_needs_pictures_is_not_for_validation(tokenizer: CaptionTokenizer) -> None:
    metrics.register(metrics.Metric("bright", verbs, needs=("picture",)))
    assert "bright" in registry.choices()
    with pytest.raises(ValueError, match=r"got the metrics \['bright'\]"):
        CaptionScores(["bright"])
    asked = settings("train", "experiment=mini", "training.metrics=[bright]")
    with pytest.raises(ValueError, match=r"got training\.metrics="):
        check(asked)


def test_one_that_cannot_be_computed_says_why() -> None:
    def missing(inputs: metrics.Inputs) -> metrics.Score:
        raise metrics.MissingError("no dictionary: put one there")

    metrics.register(metrics.Metric("words_known", missing))
    found = registry.compute("words_known", metrics.Inputs(["a"], [["b"]]))
    assert found["words_known"] == metrics.Score(None, missing="no dictionary: put one there")


def test_monitors_know_which_value_is_best() -> None:
    assert registry.monitors(["bertscore", "cider_d"]) == {
        **{f"val/bertscore_{name}": "max" for name in ("precision", "recall", "f1")},
        "val/cider_d": "max",
        "val/repetition": "min",
        "val/first_word_valid": "max",
    }
