"""The scores, the clips and the plots of an evaluation as a W&B run."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i.evaluate.pages import rows_of
from a2i.evaluate.systems import System, busy

if TYPE_CHECKING:
    from a2i.metrics.scoring import Comparison, Scored


def wandb_settings(loggers: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of `logger=NAME`, what concerns W&B: its project and the run's name; None where W&B is not among the loggers.

    The choices are those of training, whose logger classes nothing here builds.
    """
    for settings in loggers.values():
        if str(settings.get("_target_", "")).endswith("WandbLogger"):
            return {name: settings[name] for name in ("project", "name", "group", "tags", "notes") if name in settings}
    return None


def log_run(
    wanted: dict[str, Any],
    out: Path,
    system: System,
    compared: Mapping[str, "Comparison"] | None,
    split: str,
    report: dict[str, Any],
) -> None:
    """Log an evaluation: `test/bertscore_f1` and so on, `test/clips`, `test/intervals`, `test/histograms/…`, `compare/…`.

    Args:
        wanted: as from `wandb_settings`.
        out: folder of the evaluation; the run's files lie below it.
        system: that was evaluated.
        compared: its differences from another, by metric; None without one.
        split: of the data: the group of the names.
        report: `clips` with sound and picture, as on the page, and whether the `sounds` may be passed on.
    """
    import wandb

    from a2i.metrics.registry import shown_first
    from a2i.report.clips import best_and_worst
    from a2i.tracking import WAITS, begin_run, clip_table, close_wandb

    scored, rows = system.scored, rows_of(system)
    shown = [name for name in shown_first() if name in rows[0].values][:4]
    media = best_and_worst([[row.values.get(name) for row in rows] for name in shown or [""]], report["clips"])
    failed = True
    try:
        with busy("logging to W&B"):
            settings = {name: values for name, values in scored.as_plain().items() if name != "captions"}
            config = {"about": dict(system.about), "metrics": settings}
            begin = partial(
                wandb.init, dir=str(out), job_type="evaluate", config=config, settings=dict(WAITS), **wanted
            )
            run = begin_run(out, begin)
            values: dict[str, Any] = {
                f"{split}/{name}": score.value for name, score in scored.scores.items() if score.value is not None
            }
            values |= {
                f"{split}/histograms/{name}": wandb.Histogram([value for value in column if value == value])
                for name, column in scored.columns().items()
                if column is not None and len(set(column)) > 1
            }
            values[f"{split}/scores"] = _scores(scored)
            if (picture := plot_intervals(scored)) is not None:
                values[f"{split}/intervals"] = wandb.Image(picture)
            values[f"{split}/clips"] = clip_table(rows, set(media), report["sounds"])
            if compared is not None:
                values |= {
                    f"compare/{name}": one.difference for name, one in compared.items() if one.difference is not None
                }
                values["compare/differences"] = _differences(compared)
            run.log(values)
        failed = False
    finally:
        close_wandb(failed)


def plot_intervals(scored: "Scored") -> Any:
    """A picture of the scores and their intervals, without those on another scale, as words a caption are; None for none."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    from a2i.metrics.registry import heading

    known = {
        name: (score.value, score.interval)
        for name, score in scored.scores.items()
        if score.value is not None and score.interval is not None and -1 <= score.value <= 2
    }
    if not known:
        return None
    drawing = Figure(figsize=(7, 1 + 0.3 * len(known)), layout="constrained", dpi=100)
    axes = drawing.subplots()
    for place, (value, interval) in enumerate(known.values()):
        axes.plot([interval.low, interval.high], [place, place], color="C0")
        axes.plot(value, place, "o", color="C0", ms=4)
    axes.set_yticks(range(len(known)), [heading(name) for name in known])
    axes.set(xlabel="score, and where 95 of 100 bootstrap samples lie", ylim=(len(known) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _scores(scored: "Scored") -> Any:
    import wandb

    table = wandb.Table(columns=["metric", "value", "low", "high", "missing"])
    for name, score in scored.scores.items():
        interval = score.interval
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        table.add_data(name, None if score.value is None else float(score.value), low, high, score.missing)
    return table


def _differences(compared: Mapping[str, "Comparison"]) -> Any:
    import wandb

    table = wandb.Table(columns=["metric", "first", "second", "difference", "low", "high", "p_value", "missing"])
    for name, one in compared.items():
        interval = one.interval
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        numbers = [None if value is None else float(value) for value in (one.first, one.second, one.difference)]
        table.add_data(name, *numbers, low, high, one.p_value, one.missing)
    return table
