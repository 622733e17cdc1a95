"""What came of a sweep: a table in the terminal, `sweep.csv` and `sweep.html` in its folder."""

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i import trials
from a2i.whole import write_text

if TYPE_CHECKING:
    from optuna import Study

CSV_FILE, PAGE_FILE = "sweep.csv", "sweep.html"
WIDTH = 160  # of the table, in letters, where no terminal shows it


@dataclass(frozen=True)
class Row:
    """A trial, for reading.

    Attributes:
        number: of the trial, and of its folder.
        outcome: finished, pruned (stopped early by the sweep), failed, stopped (by a person or the machine), or waiting.
        value: the monitored value: at its best of a finished trial, at the last validation of one that was pruned.
        params: what the trial had, by setting.
        validations: how many it came to.
        seconds: from its begin to its end; None for one that never ended.
        folder: of its run.
        reason: in one line; empty for one that finished.
        again: the number of the trial that was trained in its place; None for none.
    """

    number: int
    outcome: str
    value: float | None
    params: dict[str, Any]
    validations: int
    seconds: float | None
    folder: Path | None
    reason: str = ""
    again: int | None = field(default=None)


def rows_of(study: "Study") -> list[Row]:
    """All trials of a study, in their order."""
    every = study.get_trials(deepcopy=False)
    again = trials.replaced(every)
    return [
        Row(
            trial.number,
            trial.user_attrs.get("outcome") or trial.state.name.lower(),
            trial.value,
            trial.params or trial.system_attrs.get("fixed_params", {}),
            len(trial.intermediate_values),
            None if trial.duration is None else trial.duration.total_seconds(),
            trials.folder_of(trial),
            trial.user_attrs.get("reason", ""),
            again.get(trial.number),
        )
        for trial in every
    ]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The end of each setting's name that no other has: `lr` for `training.optimizer.lr`."""
    parts = {key: key.split(".") for key in keys}

    def short(key: str) -> str:
        for count in range(1, len(parts[key])):
            end = parts[key][-count:]
            if sum(each[-count:] == end for each in parts.values()) == 1:
                return ".".join(end)
        return key

    return {key: short(key) for key in keys}


def figure(value: Any) -> str:
    """A value for reading: four digits of a number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def progress(study: "Study", total: int) -> str:
    """One line, between trials."""
    rows = [row for row in rows_of(study) if row.again is None]
    done = sum(row.outcome in ("finished", "pruned", "failed") for row in rows)
    best = trials.best_of(study)
    found = "" if best is None else f"; best so far {figure(best.value)} (trial {best.number})"
    return f"sweep: {done} of {total} trials done{found}"


def evaluation(row: Row, words: Sequence[str]) -> str:
    """The command that scores a trial's captioner on the validation split.

    Args:
        row: of the trial.
        words: that name its data.
    """
    assert row.folder is not None
    places = [f"captioner={row.folder / 'captioner'}", *words, "split=val", f"out={row.folder / 'evaluation'}"]
    return shlex.join(["python", "-m", "a2i.evaluate", *places])


def summarise(study: "Study", folder: Path, keys: Sequence[str], words: Sequence[str] | None) -> list[Row]:
    """Write the summary of a sweep into its folder, and print it.

    Args:
        study: of the sweep.
        folder: of the sweep.
        keys: the settings that were varied.
        words: that name the best trial's data to `a2i.evaluate`; None where no trial is best.

    Returns:
        the trials that none was trained in place of.
    """
    from a2i.sweep.page import write_page

    rows, monitor = rows_of(study), study.user_attrs["of"]["monitor"]
    best = trials.best_of(study)
    command = None if best is None or words is None else evaluation(rows[best.number], words)
    _write_table(folder / CSV_FILE, rows, keys, monitor)
    _print_table(rows, keys, monitor, None if best is None else best.number)
    lines = [f"{len(rows)} trials: {counted(rows)}"]
    if again := [f"{row.number} as {row.again}" for row in rows if row.again is not None]:
        lines.append(f"trained again: {', '.join(again)}")
    if best is not None:
        lines.append(f"best: trial {best.number}, {monitor} {figure(best.value)}; to evaluate it: {command}")
    write_page(folder / PAGE_FILE, study, rows, keys, None if best is None else best.number, command)
    print("\n".join([*lines, f"summary: {folder / PAGE_FILE}"]))
    return [row for row in rows if row.again is None]


def counted(rows: Sequence[Row]) -> str:
    """How many of each outcome, in words."""
    outcomes = [row.outcome for row in rows]
    return ", ".join(f"{outcomes.count(each)} {each}" for each in sorted(set(outcomes), key=outcomes.index))


def _write_table(path: Path, rows: Sequence[Row], keys: Sequence[str], monitor: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["trial", "outcome", monitor, *keys, "validations", "seconds", "folder", "reason", "trained_again_as"]
    )
    for row in rows:
        seconds = None if row.seconds is None else round(row.seconds, 1)
        params = [row.params.get(key) for key in keys]
        writer.writerow(
            [row.number, row.outcome, row.value, *params, row.validations, seconds, row.folder, row.reason, row.again]
        )
    write_text(path, text.getvalue())


def _print_table(rows: Sequence[Row], keys: Sequence[str], monitor: str, best: int | None) -> None:
    from rich.console import Console
    from rich.table import Table

    names = short_names(keys)
    table = Table(title="sweep", title_justify="left", highlight=False)
    for name in ("trial", monitor, *(names[key] for key in keys), "validations", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for row in rows:
        if row.again is not None:
            continue
        cells = [str(row.number), "–" if row.value is None else figure(row.value)]
        cells += [figure(row.params.get(key, "–")) for key in keys]
        cells += [str(row.validations), "–" if row.seconds is None else f"{row.seconds:.0f}"]
        said = f"{row.outcome}: {row.reason}" if row.reason else row.outcome
        table.add_row(*cells, "best" if row.number == best else said, style="bold" if row.number == best else None)
    console = Console(markup=False)
    (console if console.is_terminal else Console(width=WIDTH, markup=False)).print(table)
