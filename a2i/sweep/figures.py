"""The plots of a sweep's page, and the figures in them: importance of settings, parallel coordinates."""

import io
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from a2i.sweep.rows import Row, figure, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study

LEAST = 10  # trials below which importance is not computed: the forest would fit noise
RESAMPLED = 20  # times
TREES = 32
COLOURS = "viridis"
MOST_TICKS, LETTERS = 8, 24  # of an axis


@dataclass(frozen=True)
class Importance:
    """How much of the monitored value's spread a setting explains.

    Attributes:
        key: the setting.
        share: of the variance over the space, from 0 to 1.
        low: the 5th percentile over trials that were resampled.
        high: the 95th.
    """

    key: str
    share: float
    low: float
    high: float


def importances(study: "Study") -> list[Importance] | str:
    """Optuna's fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) over the trials that finished, greatest first.

    Trials that were pruned are left out: their values are of other validations. Intervals are of trials resampled with
    replacement, as few trials say little.

    Returns:
        or why there is none, in a sentence.
    """
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(finished) < LEAST:
        return f"Not computed: {len(finished)} trials finished, and fewer than {LEAST} say too little."
    keys = [key for key in finished[0].params if len({trial.params.get(key) for trial in finished}) > 1]
    if len(keys) < 2:
        return "Not computed: fewer than two settings had several values."
    if len({trial.value for trial in finished}) == 1:
        return "Not computed: all trials have the same value."
    if find_spec("sklearn") is None:
        return "Not computed: scikit-learn is not installed: pip install 'a2i[sweep]'."

    import optuna  # here: with what grows the trees, which takes a second
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from rich.progress import track

    def of(chosen: Sequence[int], seed: int) -> dict[str, float]:
        drawn = optuna.create_study(direction=study.direction)
        drawn.add_trials([finished[index] for index in chosen])
        evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
        return get_param_importances(drawn, evaluator=evaluator, params=keys, normalize=False)

    generator, everyone = np.random.default_rng(0), range(len(finished))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resampling in which a setting has one value
        whole = of(everyone, 0)
        spread: dict[str, list[float]] = {key: [] for key in keys}
        for seed in track(range(RESAMPLED), "importance of settings", disable=not sys.stderr.isatty()):
            try:
                again = of(generator.integers(len(finished), size=len(finished)).tolist(), seed)
            except (ValueError, RuntimeError):  # all of one value
                continue
            for key in keys:
                spread[key].append(again.get(key, 0.0))
    found = [
        Importance(key, float(share), *(float(end) for end in np.quantile([share, *spread[key]], [0.05, 0.95])))
        for key, share in whole.items()
    ]
    return sorted(found, key=lambda each: -each.share)


def importance_plot(found: Sequence[Importance]) -> str:
    """Bars with intervals, as SVG."""
    from matplotlib.figure import Figure

    names = short_names([each.key for each in found])
    picture = Figure(figsize=(7, 0.9 + 0.45 * len(found)), layout="constrained")
    axes = picture.subplots()
    axes.barh([names[each.key] for each in found], [each.share for each in found], color="#7fa3dc")
    for place, each in enumerate(found):
        axes.plot([each.low, each.high], [place, place], color="#1d2127", linewidth=1.5)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of the variance; line: 5 to 95 % of resampled trials")
    return _svg(picture)


def parallel_plot(rows: Sequence[Row], keys: Sequence[str], monitor: str, logarithmic: Mapping[str, bool]) -> str:
    """Parallel coordinates as SVG: a line a trial, an axis a setting, the monitored value last, and by its colour.

    Args:
        rows: of trials that have a value.
        keys: of the settings, each with at least one value.
        monitor: name of the value.
        logarithmic: whether a setting was drawn on such a scale, where it was drawn from an interval.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = short_names(keys)
    places, ticks = [], []
    for key in keys:
        at, marks = positions([row.params.get(key) for row in rows], logarithmic.get(key))
        places.append(at)
        ticks.append(marks)
    values = [row.value or 0.0 for row in rows]
    at, marks = positions(values)
    picture = Figure(figsize=(max(7.0, 2.2 * (len(keys) + 1)), 4.4), layout="constrained")
    axes = picture.subplots()
    for index, row in enumerate(rows):
        line = [column[index] for column in [*places, at]]
        early = row.outcome != "finished"
        colour = colormaps[COLOURS](at[index])
        axes.plot(range(len(line)), line, color=colour, alpha=0.9, linestyle=":" if early else "-", linewidth=1.6)
    _draw_axes(axes, [*(names[key] for key in keys), monitor], [*ticks, marks])
    return _svg(picture)


def positions(values: Sequence[object], logarithmic: bool | None = None) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values lie on an axis from 0 to 1, and its marks: numbers by size, all else in its order.

    Args:
        values: text or numbers; None lies below the axis.
        logarithmic: the scale; None for such a one where they span more than a power of ten.
    """
    numbers = [_number(value) for value in values]
    present = [number for number in numbers if number is not None]
    kinds = sorted({str(value) for value in values if value is not None})
    if not present or len(present) < sum(value is not None for value in values):
        at = {kind: (index + 0.5) / len(kinds) for index, kind in enumerate(kinds)}
        return [at.get(str(value), -0.05) for value in values], [
            (place, kind if len(kind) <= LETTERS else f"{kind[: LETTERS - 1]}…") for kind, place in at.items()
        ]
    low, high = min(present), max(present)
    log = low > 0 and (high / low > 10 if logarithmic is None else logarithmic)

    def place(number: float) -> float:
        if low == high:
            return 0.5
        if log:
            return math.log(number / low) / math.log(high / low)
        return (number - low) / (high - low)

    different = sorted(set(present))
    middle = math.sqrt(low * high) if log else (low + high) / 2
    shown = different if len(different) <= MOST_TICKS else [low, middle, high]
    return [-0.05 if number is None else place(number) for number in numbers], [
        (place(number), figure(number)) for number in shown
    ]


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _draw_axes(axes: "Axes", names: Sequence[str], ticks: Sequence[Sequence[tuple[float, str]]]) -> None:
    for place, marks in enumerate(ticks):
        axes.axvline(place, color="#5c6470", linewidth=1)
        for at, text in marks:
            axes.annotate(
                text, (place, at), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
            )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.05, len(names) - 0.6), ylim=(-0.1, 1.06), yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def _svg(picture: "Figure") -> str:
    """A picture as SVG; the same figures give the same text."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "a2i"}):
        picture.savefig(text, format="svg", metadata={"Date": None}, facecolor="white")
    return text.getvalue()
