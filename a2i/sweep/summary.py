"""What came of a sweep: a table in the terminal, `sweep.csv` and `sweep.html` in its folder."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a2i import trials
from a2i.sweep.rows import Row, counted, figure, rows_of, short_names
from a2i.whole import write_text

if TYPE_CHECKING:
    from optuna import Study

CSV_FILE, PAGE_FILE = "sweep.csv", "sweep.html"
WIDTH = 160  # of the table, in letters, where no terminal shows it


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
