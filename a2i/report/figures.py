"""Figures, bars and histograms of a report: numbers in, text and percentages out. Drawing is the templates' part."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 24
MAX_TICKS = 6


def number(value: float | None, sign: bool = False) -> str:
    """A figure for reading: three decimals for what is around 1, fewer for larger ones; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        text = f"{abs(value):,}"
    else:
        size = abs(value)
        decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
        text = f"{size:,.{decimals}f}"
    before = "−" if value < 0 else "+" if sign and value > 0 else ""
    return before + text


def end(value: float) -> str:
    """An end of a scale for reading, as short as can be."""
    return f"{value:g}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value for reading."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def words(value: Any) -> str:
    """A setting or a piece of provenance for reading; mappings and sequences as lists."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(part)}" for key, part in value.items())
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(words(part) for part in value))
    if isinstance(value, list | tuple):
        return ", ".join(words(part) for part in value)
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def finite(value: float | None) -> float | None:
    """The value as an int or float; None for what is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def round_up(value: float) -> float:
    """The next of … 0.1, 0.2, 0.5, 1, 2, 5, 10 … for a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    # A hair of tolerance: 0.2 / 0.1 is a little more than 2.
    return next(power * step for step in (1, 2, 5, 10) if value <= power * step * (1 + 1e-9))


@dataclass(frozen=True)
class Bar:
    """A value with its interval on a scale; all but the scale's ends in percent of its length.

    Attributes:
        scale: its ends, in the value's unit.
        zero: where 0 lies, from which the bar starts.
        at: where the value lies.
        low: of the interval; None without one.
        high: of the interval; None without one.
    """

    scale: tuple[float, float]
    zero: float
    at: float
    low: float | None
    high: float | None


def bars(
    values: Sequence[tuple[float | None, float | None, float | None]], symmetric: bool = False
) -> list[Bar | None]:
    """Bars of (value, low, high) on one scale.

    The scale is 0 to 1 where all fits, else it goes to the next round number; below 0 where something is.

    Args:
        values: with None for what is missing; a bar of a missing value is None.
        symmetric: 0 in the middle and the ends as near as round numbers allow, for differences.
    """
    known = [part for parts in values for part in parts if part is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    if symmetric:
        high = round_up(max(-low, high) or 1.0)
        low = -high
    else:
        high = 1.0 if high <= 1 else round_up(high)
        low = -round_up(-low) if low < 0 else 0.0

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    return [
        None if value is None else Bar((low, high), place(0.0) or 0.0, place(value) or 0.0, place(least), place(most))
        for value, least, most in values
    ]


@dataclass(frozen=True)
class Histogram:
    """How a score is spread over the clips.

    Attributes:
        name: of the metric.
        count: of values.
        mean: of them.
        median: of them.
        edges: of the bins, one more than there are bins.
        counts: in the bins.
        mean_at: where the mean lies between the outer edges, percent.
    """

    name: str
    count: int
    mean: float
    median: float
    edges: list[float]
    counts: list[int]
    mean_at: float


def histogram(name: str, values: Sequence[float]) -> Histogram | None:
    """Histogram of finite values; None if there are none. Whole numbers get a bin each where these are few."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    bins: int | np.ndarray = BINS
    if np.array_equal(array, array.round()) and np.ptp(array) <= 2 * BINS:
        bins = np.arange(array.min() - 0.5, array.max() + 1)
    counts, edges = np.histogram(array, bins)
    mean = float(array.mean())
    at = 100 * (mean - edges[0]) / (edges[-1] - edges[0])
    median = float(np.median(array))
    return Histogram(name, len(values), mean, median, edges.tolist(), counts.tolist(), round(float(at), 2))


def time_ticks(seconds: float) -> list[tuple[float, str]]:
    """Ticks of a time axis from 0 to `seconds`: place in percent, and text such as `5 s`."""
    step = round_up(seconds / MAX_TICKS)
    places = [step * index for index in range(int(seconds / step + 1e-9) + 1)]
    return [(round(100 * place / seconds, 2), f"{place:g} s" if place else "0") for place in places]
