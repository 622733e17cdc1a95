"""What came of a sweep, for reading: figures, table, page."""

import base64
import csv
import re
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import EVIL, Page

optuna = pytest.importorskip("optuna", reason="needs the extra sweep")

from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import FrozenTrial, TrialState  # noqa: E402

from a2i.sweep.figures import LEAST, importances, positions  # noqa: E402
from a2i.sweep.rows import rows_of, short_names  # noqa: E402
from a2i.sweep.summary import evaluation, summarise  # noqa: E402

KEYS = ["training.optimizer.lr", "training.warmup", "model"]
BEGUN = datetime(2026, 1, 1)
STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


def make_study(outcomes: list[str], folder: Path, evil: str = "") -> Any:
    """A study in which the value is that of the learning rate, nearly."""
    study = optuna.create_study(direction="minimize")
    study.set_user_attr(
        "of", {"monitor": "val/loss", "sampler": "tpe", "seed": 0, "fixed": ["experiment=mini", f"name={evil}"]}
    )
    study.set_user_attr("pruning", None)
    lr, warmup = FloatDistribution(1e-4, 1e-2, log=True), FloatDistribution(0.0, 0.2)
    model = CategoricalDistribution(["mini", evil or "gru"])
    for number, outcome in enumerate(outcomes):
        rate = 1e-4 * (100 ** (number / len(outcomes)))
        chosen = {KEYS[0]: rate, KEYS[1]: 0.2 * ((number * 7) % 10) / 10, KEYS[2]: model.choices[number % 2]}
        state = STATES.get(outcome, TrialState.FAIL)
        value = None if state == TrialState.FAIL else 100 * rate + (number % 3) / 100
        attributes = {
            "outcome": outcome,
            "reason": "" if outcome == "finished" else f"why {evil}",
            "monitor": "val/loss",
        }
        if number and outcomes[number - 1] == "stopped":
            attributes["again_of"] = number - 1
        steps = {} if value is None else {1: value + 1, 2: value}
        study.add_trial(
            FrozenTrial(
                number, state, value, BEGUN, BEGUN + timedelta(seconds=61 * (number + 1)), chosen,
                dict(zip(KEYS, (lr, warmup, model), strict=True)),
                {**attributes, "folder": str(folder / str(number))}, {}, steps, number,
            )
        )  # fmt: skip
    return study


def test_the_table_has_every_trial_and_names_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(["finished", "stopped", "finished", "pruned", "failed"], tmp_path)
    shown = summarise(study, tmp_path, KEYS, ["data=foley"])
    assert [row.number for row in shown] == [0, 2, 3, 4]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["finished", "stopped", "finished", "pruned", "failed"]
    assert [row["trained_again_as"] for row in rows] == ["", "2", "", "", ""]
    assert [float(row["training.optimizer.lr"]) for row in rows] == [trial.params[KEYS[0]] for trial in study.trials]
    assert [row["seconds"] for row in rows] == ["61.0", "122.0", "183.0", "244.0", "305.0"]
    printed = capsys.readouterr().out
    assert "5 trials: 2 finished, 1 stopped, 1 pruned, 1 failed" in printed
    assert f"best: trial 0, val/loss 0.01; to evaluate it: {evaluation(shown[0], ['data=foley'])}" in printed
    assert "trained again: 1 as 2" in printed


def test_trials_by_different_values_have_no_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(["finished", "finished"], tmp_path)
    trials = study.get_trials()
    other = optuna.create_study()
    for name, value in study.user_attrs.items():
        other.set_user_attr(name, value)
    trials[1].user_attrs["monitor"] = "val/bleu_4"
    other.add_trials(trials)
    summarise(other, tmp_path, KEYS, None)
    assert "best" not in capsys.readouterr().out


def test_short_names_tell_settings_apart() -> None:
    assert short_names(["a.b.lr", "a.c.lr", "seed"]) == {"a.b.lr": "b.lr", "a.c.lr": "c.lr", "seed": "seed"}
    assert short_names(["x.lr", "lr"]) == {"x.lr": "x.lr", "lr": "lr"}


@settings(max_examples=50)
@given(st.lists(st.none() | st.floats(1e-6, 1e6) | st.integers(-9, 9) | st.sampled_from(["mini", "gru"]), max_size=8))
def test_every_value_lies_on_its_axis_in_its_order(values: list[Any]) -> None:
    at, ticks = positions(values)
    assert len(at) == len(values)
    assert all(
        (place == -0.05) if value is None else (0 <= place <= 1) for place, value in zip(at, values, strict=True)
    )
    present = [value for value in values if value is not None]
    if present and not any(isinstance(value, str) for value in present):
        placed = sorted(zip([value for value in values if value is not None], [p for p in at if p >= 0], strict=True))
        assert [place for _, place in placed] == sorted(place for _, place in placed)
    assert all(0 <= place <= 1 for place, _ in ticks)


def test_importance_is_told_of_enough_trials_only(tmp_path: Path) -> None:
    few = importances(make_study(["finished"] * (LEAST - 1) + ["failed"], tmp_path))
    assert few == f"Not computed: {LEAST - 1} trials finished, and fewer than {LEAST} say too little."


@pytest.mark.long
def test_importance_finds_what_the_value_depends_on(tmp_path: Path) -> None:
    found = importances(make_study(["finished"] * 16, tmp_path))
    assert not isinstance(found, str)
    assert found[0].key == "training.optimizer.lr"
    assert found[0].share > 0.5
    assert all(0 <= each.low <= each.high <= 1 for each in found)
    assert sum(each.share for each in found) <= 1 + 1e-6


def test_the_page_holds_all_trials_and_runs_nothing_of_theirs(tmp_path: Path) -> None:
    study = make_study(["finished", "pruned", "stopped", "finished", "failed"], tmp_path, EVIL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summarise(study, tmp_path, KEYS, ["data=foley"])
    page = Page(tmp_path / "sweep.html")
    (table,) = page.tables
    assert table[0] == ["trial", "val/loss", "lr", "warmup", "model", "validations", "seconds", "outcome"]
    assert [row[0] for row in table[1:]] == ["0", "1", "3", "4"]
    assert table[2][-1].startswith("pruned why <script>")
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert images
    assert all(image["alt"] for image in images)
    text = (tmp_path / "sweep.html").read_text()
    svg = base64.b64decode(re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)[0]).decode()
    assert "<script" not in svg
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert len(rows_of(study)) == 5


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(tmp_path: Path, opened: Any, scheme: str) -> None:
    study = make_study(["finished"] * 8 + ["pruned", "stopped", "failed"] + ["finished"] * 5, tmp_path, EVIL)
    summarise(study, tmp_path, KEYS, ["data=foley"])
    page = opened(tmp_path / "sweep.html", color_scheme=scheme)
    numbers = "() => [...document.querySelectorAll('#table tbody th')].map((cell) => +cell.textContent)"
    assert page.evaluate(numbers) == [number for number in range(16) if number != 9]
    page.get_by_role("button", name="val/loss").click()
    values = "() => [...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[1].dataset.value)"
    shown = page.evaluate(values)
    assert [float(value) for value in shown if value] == sorted(float(value) for value in shown if value)
    assert shown[-1] == ""  # what failed has none
    page.get_by_role("button", name="val/loss").click()
    assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "descending"
    for image in page.locator("img").all():
        assert image.evaluate("(image) => image.naturalWidth") > 300
    assert page.locator("img").count() == 2
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
