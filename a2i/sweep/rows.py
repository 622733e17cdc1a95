"""The trials of a sweep, for reading: what its table, its page and its plots show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i import trials

if TYPE_CHECKING:
    from optuna import Study


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


def counted(rows: Sequence[Row]) -> str:
    """How many of each outcome, in words."""
    outcomes = [row.outcome for row in rows]
    return ", ".join(f"{outcomes.count(each)} {each}" for each in sorted(set(outcomes), key=outcomes.index))
