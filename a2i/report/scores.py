"""The scores of a report over all clips: what a caller gives, and the lines of the tables that are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from a2i.report.figures import Bar, bars, finite


class ScoreRow(NamedTuple):
    """A metric's value over all clips; plain tuples in this order serve as well.

    Attributes:
        name: of the metric.
        value: None where it could not be computed.
        low: lower end of its interval; None without one.
        high: upper end of its interval; None without one.
        missing: why there is no value; None where there is one.
        settings: that made it: model, layer, versions and the like.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    missing: str | None = None
    settings: Mapping[str, Any] | None = None


class DifferenceRow(NamedTuple):
    """How much a metric's value of the second system is above that of the first; plain tuples serve as well.

    Attributes:
        name: of the metric.
        value: second less first; None where it could not be computed.
        low: lower end of its interval; None without one.
        high: upper end of its interval; None without one.
        p_value: of the hypothesis that the systems are equal; None without one.
        missing: why there is no value; None where there is one.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    missing: str | None = None


@dataclass(frozen=True)
class SystemScores:
    """One of two systems that are compared.

    Attributes:
        name: short, for the heads of columns.
        scores: over all clips.
        provenance: what it is, by name.
    """

    name: str
    scores: Sequence[ScoreRow]
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Line(NamedTuple):
    """A metric in the comparison's table: both scores on one scale, and their difference around 0."""

    name: str
    scores: list[ScoreRow]
    bars: list[Bar | None]
    difference: DifferenceRow
    bar: Bar | None

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and low * high > 0


def with_bars(scores: Sequence[ScoreRow]) -> list[tuple[ScoreRow, Bar | None]]:
    """Scores with their bars; counts without an interval have no scale on which a bar would say anything."""
    checked = [_checked(score) for score in scores]
    return [
        (score, _bar(score) if score.value is not None and (score.low is not None or 0 <= score.value <= 1) else None)
        for score in checked
    ]


def compared_lines(first: SystemScores, second: SystemScores, differences: Sequence[DifferenceRow]) -> list[Line]:
    """A line for each metric that either system or the differences have."""
    scores = [{score.name: score for score in map(_checked, system.scores)} for system in (first, second)]
    by_name = {difference.name: difference for difference in map(_checked_difference, differences)}
    lines = []
    for name in dict.fromkeys([*scores[0], *scores[1], *by_name]):
        pair = [each.get(name, ScoreRow(name, None)) for each in scores]
        difference = by_name.get(name, DifferenceRow(name, None))
        both = bars([(score.value, score.low, score.high) for score in pair])
        around = bars([(difference.value, difference.low, difference.high)], symmetric=True)[0]
        lines.append(Line(name, pair, both, difference, around))
    return lines


def _bar(score: ScoreRow) -> Bar | None:
    return bars([(score.value, score.low, score.high)])[0]


def _checked(score: ScoreRow) -> ScoreRow:
    """The score as such, even if a plain tuple was given, without what is no finite number."""
    score = ScoreRow(*score)
    return score._replace(value=finite(score.value), low=finite(score.low), high=finite(score.high))


def _checked_difference(difference: DifferenceRow) -> DifferenceRow:
    name, value, low, high, p_value, missing = DifferenceRow(*difference)
    return DifferenceRow(name, finite(value), finite(low), finite(high), finite(p_value), missing)
