"""The registry of metrics: one record each, from which files, pages, logs and settings take all that they say of it.

A metric is added by `register(Metric(…))`, in `a2i/metrics/builtin.py` or in any other package.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from a2i import plugins
from a2i.metrics.inputs import Inputs
from a2i.metrics.parts import INSTALL, MissingError, ReferencesError, Score

Direction = Literal["max", "min"]
# Needs that only evaluation can meet.
_ONLY_IN_EVALUATION = {"picture", "sound", "bertscore", "clip", "clap"}
# What tables, `scores.json` and logs say besides the values; of `caption_1` … each table has as many as references.
_RESERVED = {
    *("file_name", "caption_predicted", "references", "error", "confidence"),
    *("clips", "about", "comparison"),
    *("loss", "distinct_captions"),
}
_REFERENCE = re.compile(r"caption_\d+")


@dataclass(frozen=True)
class Value:
    """One value that a metric gives, and how it is shown.

    Attributes:
        name: in files and logs.
        label: for people; '' for the name with spaces.
        unit: shown after the label of a corpus value.
        direction: whether the largest or the smallest is best; None where neither is.
        panel: title of the plot of a run's curves that it is drawn in; None for none.
        shown: its rank among the columns of clips that a page shows at first; None for one that the reader can choose.
        listed: whether a page lists its values of single clips.
        column: of `captions.csv`, with its values of single clips; '' for its name, None for no column.
        place: of the column among those that every table has; None for one behind them, where it was computed.
        at_validation: whether training logs it.
    """

    name: str
    label: str = ""
    unit: str = ""
    direction: Direction | None = "max"
    panel: str | None = None
    shown: int | None = None
    listed: bool = True
    column: str | None = ""
    place: int | None = None
    at_validation: bool = True


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: by which `metrics=` asks for it.
        compute: gives a `Score`, or one for each of its values by name; raises `MissingError` where it can't be computed.
            Any other error makes the score missing too, with the error as the reason.
        values: that it gives; none for one of the metric's own name.
        needs: of `picture`, `sound`, and the models `bertscore`, `clip`, `clap`, which evaluation loads.
        always: computed whatever is asked for, and no choice of `metrics=`.
    """

    name: str
    compute: Callable[[Inputs], Score | Mapping[str, Score]]
    values: tuple[Value, ...] = ()
    needs: Collection[str] = ()
    always: bool = False

    def __post_init__(self) -> None:
        if not self.values:
            object.__setattr__(self, "values", (Value(self.name),))

    @property
    def at_validation(self) -> bool:
        """Whether `training.metrics` may ask for it: captions and references are enough."""
        return not self.always and not _ONLY_IN_EVALUATION & set(self.needs)

    @property
    def grouped(self) -> bool:
        """Whether its values share an object in `scores.json`: they are named after it."""
        return all(value.name.startswith(f"{self.name}_") for value in self.values)


_METRICS: dict[str, Metric] = plugins.watched({})


def register(metric: Metric) -> None:
    """Add a metric.

    Raises:
        ValueError: its name, or the name or column of a value, is taken, or a2i's files have another use for it.
    """
    names = [value.name for value in metric.values]
    own_columns = [value.column or value.name for value in metric.values if value.column is not None]
    twice = {name for each in (names, own_columns) for name, count in Counter(each).items() if count > 1}
    taken = {*_METRICS, *values()} & {metric.name, *names}
    taken |= {value.column or value.name for value in columns()} & set(own_columns)
    if taken | twice:
        raise ValueError(
            f"got the metric {metric.name}, but {', '.join(sorted(taken | twice))} is registered; expected new names"
        )
    asked = {metric.name, *names, *own_columns}
    if reserved := sorted(name for name in asked if name in _RESERVED or _REFERENCE.fullmatch(name)):
        raise ValueError(
            f"got the metric {metric.name}, but a2i's files have another use for {', '.join(reserved)}; expected new names"
        )
    _METRICS[metric.name] = metric


def registered() -> list[Metric]:
    """All metrics, in the order in which scores are listed."""
    return sorted(_METRICS.values(), key=lambda metric: metric.always)  # counts come last


def choices() -> list[str]:
    """The names that `metrics=` takes."""
    return [metric.name for metric in registered() if not metric.always]


def values() -> dict[str, Value]:
    """All values, by name."""
    return {value.name: value for metric in registered() for value in metric.values}


def columns() -> list[Value]:
    """The values that have a column of single clips, in the order of the columns."""
    found = [value for value in values().values() if value.column is not None]
    return sorted(found, key=lambda value: (value.place is None, value.place or 0))


def shown_first() -> list[str]:
    """The values that a page shows at first, in order."""
    ranks = {value.name: value.shown for value in values().values() if value.shown is not None}
    return sorted(ranks, key=lambda name: ranks[name])


def label(name: str) -> str:
    """A value's name as the literature writes it; an unknown one with spaces for underscores."""
    value = values().get(name)
    return value.label if value is not None and value.label else name.replace("_", " ")


def heading(name: str) -> str:
    """The label with the unit, for a value of all clips together."""
    value = values().get(name)
    return f"{label(name)}, {value.unit}" if value is not None and value.unit else label(name)


def monitors(asked: Collection[str]) -> dict[str, Direction]:
    """What validation logs of the metrics that are asked for and of those that are always computed, and which is best."""
    return {
        f"val/{value.name}": value.direction
        for metric in registered()
        if metric.always or metric.name in asked
        for value in metric.values
        if value.at_validation and value.direction is not None
    }


def compute(name: str, inputs: Inputs) -> dict[str, Score]:
    """A metric's scores, by the names of its values; those that are in `inputs.scores` are not computed again.

    Raises:
        ReferencesError: a clip has no reference that can be scored.
        MemoryError: the memory is full; of a GPU, torch's `OutOfMemoryError`.
    """
    metric = _METRICS[name]
    names = [value.name for value in metric.values]
    if not any(each in inputs.scores for each in names):
        inputs.scores |= _computed(metric, names, inputs)
    return {each: inputs.scores[each] for each in names if each in inputs.scores}


def _computed(metric: Metric, names: list[str], inputs: Inputs) -> dict[str, Score]:
    settings = {}
    try:
        given = metric.compute(inputs)
        found = (
            {names[0]: given} if isinstance(given, Score) else {each: given[each] for each in names if each in given}
        )
        for score in found.values():
            if score.clips is not None and len(score.clips) != len(inputs.captions):
                raise ValueError(f"got {len(score.clips)} values of {len(inputs.captions)} clips; expected one each")
        return found
    except MissingError as reason:
        missing, settings = str(reason), reason.settings
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        ours = str(getattr(metric.compute, "__module__", "")).startswith("a2i.")
        missing = f"{package} is not installed: {INSTALL if ours else f'the metric {metric.name} needs it'}"
    except (MemoryError, ReferencesError):
        raise
    except Exception as error:  # of one metric: the others' scores are worth having
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
            raise
        missing = " ".join(f"{type(error).__name__}: {error}".split())
    return {each: Score(None, missing=missing, settings=settings) for each in names}
