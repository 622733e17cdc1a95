"""`sweep.html`: one page, opened from disk, with all trials of a sweep, what they come to, and which settings matter."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i.report import figures as figures_of_reports
from a2i.report.page import HERE as REPORT
from a2i.report.page import fill
from a2i.sweep.figures import importance_plot, importances, parallel_plot
from a2i.sweep.rows import Row, counted, figure, short_names
from a2i.whole import write_text

if TYPE_CHECKING:
    from optuna import Study

HERE = Path(__file__).parent


def write_page(
    path: Path, study: "Study", rows: Sequence[Row], keys: Sequence[str], best: int | None, command: str | None
) -> None:
    """Write the page; it is there whole or not at all.

    Args:
        path: of the page.
        study: of the sweep.
        rows: of all trials.
        keys: the settings that were varied.
        best: the number of the best trial; None for none.
        command: that evaluates it; None for none.
    """
    settings: dict[str, Any] = study.user_attrs["of"]
    monitor = settings["monitor"]
    shown = [row for row in rows if row.again is None]
    drawn = [row for row in shown if row.value is not None and row.outcome in ("finished", "pruned")]
    varied = [key for key in keys if any(row.params.get(key) is not None for row in drawn)]
    drawn_from = study.get_trials(deepcopy=False)[rows[0].number].distributions if rows else {}
    logarithmic = {key: each.log for key, each in drawn_from.items() if hasattr(each, "log")}
    found = importances(study)
    finished = sum(row.outcome == "finished" and row.value is not None for row in rows)
    facts = {
        "folder": str(path.parent),
        "sampler": {"grid": "all combinations", "random": "at random", "tpe": "TPE"}[settings["sampler"]],
        "trials": counted(rows),
        "monitored": f"{monitor}, {'greatest' if study.direction.name == 'MAXIMIZE' else 'least'} is best",
        "together": _time(sum(row.seconds or 0.0 for row in rows)),
    }
    text = fill(
        [HERE, REPORT],
        "sweep.html.j2",
        ["page.css", "sweep.css"],
        "sweep.js",
        {"figure": figure, "number": figures_of_reports.number},
        title=f"Sweep {path.parent.name}",
        facts=facts,
        monitor=monitor,
        rows=shown,
        again=[row for row in rows if row.again is not None],
        keys=list(keys),
        names=short_names(keys),
        fixed=settings["fixed"],
        best=None if best is None else next(row for row in rows if row.number == best),
        command=command,
        parallel=_data(parallel_plot(drawn, varied, monitor, logarithmic)) if len(drawn) > 1 and varied else None,
        drawn=len(drawn),
        importances=[] if isinstance(found, str) else found,
        no_importance=found if isinstance(found, str) else "",
        importance=None if isinstance(found, str) else _data(importance_plot(found)),
        finished=finished,
    )
    write_text(path, text)


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
