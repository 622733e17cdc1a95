"""A metric that a test registers stands wherever metrics stand."""

import csv
import functools
import json
import re
from dataclasses import replace
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
from a2i.evaluate import pictures
from a2i.evaluate.pages import rows_of, write, write_page
from a2i.evaluate.settings import check as check_evaluate
from a2i.evaluate.systems import Scorer, System
from a2i.metrics import registry
from a2i.metrics.scoring import Scored, score
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
    system = System("theirs", CLIPS, Scorer.of(check_evaluate(asked), "cpu").score(CLIPS), {})
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


@pytest.mark.parametrize(
    "value",
    [
        metrics.Value("mine", column="rouge_l"),
        metrics.Value("words"),  # the column of `mean_words`
        metrics.Value("file_name"),
        metrics.Value("mine", column="caption_2"),
        metrics.Value("confidence", column=None),
        metrics.Value("about"),
        metrics.Value("loss"),
    ],
)
def test_no_metric_writes_over_what_files_hold_besides(value: metrics.Value) -> None:
    with pytest.raises(ValueError, match=r"got the metric mine_too, but .*expected new names"):
        metrics.register(metrics.Metric("mine_too", verbs, (value,)))
    assert "mine_too" not in registry.choices()


def test_a_metric_has_each_of_its_names_once() -> None:
    pair = (metrics.Value("one", column="same"), metrics.Value("other", column="same"))
    with pytest.raises(ValueError, match="same is registered"):
        metrics.register(metrics.Metric("two", verbs, pair))


def scored(*asked: str) -> Scored:
    return score([clip.caption for clip in CLIPS], [clip.references for clip in CLIPS], asked, samples=0)


def test_one_that_is_always_computed_stands_in_the_files() -> None:
    """Even where it gives fewer values than it declares."""
    pair = (metrics.Value("mine_share"), metrics.Value("mine_other"))
    metrics.register(metrics.Metric("mine", lambda inputs: {"mine_share": verbs(inputs)}, pair, always=True))
    found = scored("rouge_l").as_plain()
    assert found["mine"]["share"] == 0.5
    assert "mean_words" in found["captions"]["interval"]
    assert not any("share" in name for name in found["captions"]["interval"])


def test_a_column_of_another_name_keeps_its_label_on_the_page(tmp_path: Path) -> None:
    value = metrics.Value("verbs", "captions with a verb", direction="min", column="has_verb", shown=0)
    metrics.register(metrics.Metric("verbs", verbs, (value,)))
    system = System("theirs", CLIPS, scored("rouge_l", "verbs"), {})
    write(system, tmp_path)
    assert "has_verb" in (tmp_path / "captions.csv").read_text().splitlines()[0].split(",")
    first = rows_of(system)[0]
    assert first.scores["verbs"] == 1
    assert not {"words", "mean_words"} & set(first.scores)
    write_page(tmp_path, "theirs", system, {"clips": 0, "sounds": False})
    assert "worst and best captions with a verb first" in (tmp_path / "report.html").read_text()


def test_what_needs_a_model_and_no_picture_gets_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_load", lambda kind, settings, device: f"a {kind.kind} model")
    asked: dict[str, Any] = {"clip": {}, "clap": {}, "pool": None}
    assert pictures.load_models({"clap"}, "cpu", **asked)["clap"] == "a clap model"
    assert "clip" not in pictures.load_models({"clap"}, "cpu", **asked)
    assert pictures.load_models({"picture"}, "cpu", **asked) == {}


def test_an_error_of_one_metric_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(inputs: metrics.Inputs) -> metrics.Score:
        raise RuntimeError("no\nsuch word")

    metrics.register(metrics.Metric("broken", broken))
    metrics.register(metrics.Metric("short", lambda inputs: metrics.Score.of([1.0])))
    metrics.register(metrics.Metric("wrong", lambda inputs: 0.5))  # type: ignore[arg-type, return-value]
    monkeypatch.setitem(registry._METRICS, "rouge_l", replace(registry._METRICS["rouge_l"], compute=broken))
    write(System("theirs", CLIPS, scored("broken", "short", "wrong", "rouge_l", "bleu_1"), {}), tmp_path)
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["broken"] == found["rouge_l"] == {"missing": "RuntimeError: no such word"}
    assert found["short"] == {"missing": "ValueError: got 1 values of 4 clips; expected one each"}
    assert found["wrong"]["missing"].startswith("TypeError: ")
    assert 0 < found["bleu_1"]["value"] < 1
    assert (tmp_path / "captions.csv").is_file()


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), torch.OutOfMemoryError()])
def test_an_error_of_the_machine_ends_the_evaluation(error: BaseException) -> None:
    def broken(inputs: metrics.Inputs) -> metrics.Score:
        raise error

    metrics.register(metrics.Metric("broken", broken))
    with pytest.raises(type(error)):
        scored("broken")


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("a2i.metrics.builtin", 'theirs is not installed: pip install "a2i[eval]"'),
        ("their_metrics", "theirs is not installed: the metric lacking needs it"),
    ],
)
def test_only_for_a_metric_of_ours_our_extra_is_advised(module: str, advice: str) -> None:
    def lacking(inputs: metrics.Inputs) -> metrics.Score:
        raise ModuleNotFoundError("No module named 'theirs.part'", name="theirs.part")

    lacking.__module__ = module
    metrics.register(metrics.Metric("lacking", lacking))
    assert registry.compute("lacking", metrics.Inputs(["a"], [["b"]]))["lacking"].missing == advice


def test_what_needs_pictures_is_not_for_validation(tokenizer: CaptionTokenizer) -> None:
    metrics.register(metrics.Metric("bright", verbs, needs=("picture",)))
    assert "bright" in registry.choices()
    with pytest.raises(ValueError, match=r"got the metrics \['bright'\]"):
        CaptionScores(["bright"])
    asked = settings("train", "experiment=mini", "training.metrics=[bright]")
    with pytest.raises(ValueError, match=r"got training\.metrics=.*or \[\] for none"):
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
