"""All that is scored of a system's captions, with how sure it is; and one system against another on the same clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from a2i.metrics.counts import Counts
from a2i.metrics.inputs import Inputs
from a2i.metrics.intervals import Interval, bootstrap, bootstrap_of, paired, swap_test
from a2i.metrics.parts import Parts, Score, Tally
from a2i.metrics.provenance import settings_hash
from a2i.metrics.registry import Metric, choices, columns, compute, registered

LEVEL = 0.95  # of all intervals
ROUNDING = 1e-12  # differences of scores that differ by less are alike: 0.3 - 0.2 and 0.2 - 0.1 are not to the last bit


@dataclass(frozen=True)
class Scored:
    """A system's captions, scored: scores by the names of values, the counts among them."""

    scores: dict[str, Score]
    counts: Counts

    def columns(self) -> dict[str, tuple[float, ...] | None]:
        """N values of single clips, by column: those that every table has, None where not computed; then others."""
        known = {name: score.clips for name, score in self.scores.items()}
        return {
            value.column or value.name: known.get(value.name)
            for value in columns()
            if value.place is not None or value.name in known
        }

    def listed(self) -> dict[str, tuple[float, ...]]:
        """N values of single clips that a page lists, by the names of values, in the order of the columns."""
        known = {name: score.clips for name, score in self.scores.items()}
        return {
            value.name: clips for value in columns() if value.listed and (clips := known.get(value.name)) is not None
        }

    def as_plain(self) -> dict[str, dict[str, Any]]:
        """An object per metric, as for JSON: its values, 95 % intervals, and the settings and versions that made them."""
        plain: dict[str, dict[str, Any]] = {}
        for metric in registered():
            found = {value.name: self.scores[value.name] for value in metric.values if value.name in self.scores}
            if metric.name == "captions" or not found:
                continue
            if metric.grouped:
                plain[metric.name] = _grouped(metric, found)
                continue
            for name, score in found.items():
                own = {"value": score.value, "interval": _ends(score.interval), **score.details}
                plain[name] = _with_settings({"missing": score.missing} if score.missing else own, score.settings)
        if said := self.verdict:
            plain["blame"] |= said
        counts = {name: value for name, value in asdict(self.counts).items() if name != "clips"}
        of_counts = {
            value.name: self.scores[value.name]
            for metric in registered()
            if metric.name == "captions"
            for value in metric.values
            if value.name in self.scores
        }
        plain["captions"] = counts | {"interval": _intervals(of_counts, "")}
        return plain

    @property
    def verdict(self) -> dict[str, str] | None:
        """Who failed, captioner or painter, and why one says so; None without blame or its intervals."""
        found = [self.scores.get(name) for name in ("blame_captioner", "blame_conveyed")]
        ends = [score.interval for score in found if score is not None and score.interval is not None]
        if len(ends) < 2:
            return None
        from a2i.metrics.pictures import verdict

        said = verdict(*((interval.low, interval.high) for interval in ends))
        return {"who": said.who, "why": said.why}


def _grouped(metric: Metric, scores: Mapping[str, Score]) -> dict[str, Any]:
    first, prefix = next(iter(scores.values())), f"{metric.name}_"
    if first.missing:
        return {"missing": first.missing}
    values = {name.removeprefix(prefix): score.value for name, score in scores.items()}
    return _with_settings(values | {"interval": _intervals(scores, prefix)}, first.settings)


def _intervals(scores: Mapping[str, Score], prefix: str) -> dict[str, list[float] | None]:
    return {name.removeprefix(prefix): _ends(score.interval) for name, score in scores.items() if score.clips}


def score(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] | None = None,
    bertscore: Any = None,
    parts: Parts | None = None,
    samples: int = 10_000,
    models: Mapping[str, Any] | None = None,
    clips: Sequence[Any] = (),
) -> Scored:
    """Score captions by several metrics; counts, which need no model, are always there.

    Args:
        captions: N captions, '' where there is none.
        references: N lists of references.
        metrics: of `registry.choices()`; None for all.
        bertscore: a `BERTScore`, to be used again for other captions of the same clips, whose references it keeps; a string
            says why it can't be had.
        parts: what the caption metrics need.
        samples: of each bootstrap; 0 for no intervals.
        models: other models that metrics need, by name: `clip`, `clap`, `pool`; or why one can't be had.
        clips: N, with their sounds and pictures, for the metrics that need these.

    Raises:
        ValueError: as `Inputs`; a metric is unknown; or `bertscore` is wanted and not given.
    """
    wanted = choices() if metrics is None else list(metrics)
    if unknown := [name for name in wanted if name not in choices()]:
        raise ValueError(f"got the metrics {unknown}; expected some of {', '.join(choices())}")
    if "bertscore" in wanted and bertscore is None:
        raise ValueError("bertscore is among the metrics; expected a BERTScore, or why there is none")
    inputs = Inputs(captions, references, parts or Parts(), {**(models or {}), "bertscore": bertscore}, clips)
    scores: dict[str, Score] = {}
    for metric in registered():
        if metric.always or metric.name in wanted:
            scores |= compute(metric.name, inputs)
    return Scored({name: _with_interval(score, samples) for name, score in scores.items()}, inputs.counts)


def _with_interval(score: Score, samples: int) -> Score:
    # Clips that are all alike would give an interval without width, as if there were no doubt.
    known = [value for value in score.clips or () if not math.isnan(value)]
    if len(set(known)) < 2 or not samples:
        return score
    if score.tally is not None:
        interval = bootstrap_of(score.tally.score, len(known), samples, LEVEL)
    else:
        interval = bootstrap(known, samples, LEVEL)
    return replace(score, interval=interval)


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same clips, or why they can't be compared."""

    first: float | None
    second: float | None
    difference: float | None  # second less first
    interval: Interval | None = None  # of the difference
    p_value: float | None = None  # two-sided; see `paired`
    missing: str | None = None

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        if self.missing:
            return {"missing": self.missing}
        values = {"first": self.first, "second": self.second, "difference": self.difference}
        return {**values, "interval": _ends(self.interval), "p_value": self.p_value}


def compare(first: Scored, second: Scored, samples: int = 10_000) -> dict[str, Comparison]:
    """Compare two systems, metric by metric, on the same clips in the same order.

    BLEU and METEOR of a corpus add up counts and are no mean of their clips' values: in the test, clips swap their counts.
    The p-values are not corrected for how many metrics there are.

    Args:
        first: the system that is compared with.
        second: the system whose gain or loss is told.
        samples: of each bootstrap and permutation test; 0 for neither intervals nor p-values.
    """
    compared: dict[str, Comparison] = {}
    for name in second.scores:
        if name not in first.scores:
            continue
        one, other = first.scores[name], second.scores[name]
        if one.value is None or other.value is None:
            compared[name] = Comparison(one.value, other.value, None, missing=other.missing or one.missing)
        elif one.tally is not None and other.tally is not None:
            compared[name] = _of_tallies(one.tally, other.tally, samples)
        elif one.clips and other.clips:
            compared[name] = _of_clips(one.clips, other.clips, samples)
        else:
            compared[name] = Comparison(one.value, other.value, other.value - one.value)
    return compared


def _of_clips(one: Sequence[float], other: Sequence[float], samples: int) -> Comparison:
    both = np.array([one, other])
    old, new = both[:, ~np.isnan(both).any(axis=0)]
    if not len(old):
        return Comparison(None, None, None, missing="no clip has a value of both systems")
    means = float(np.mean(old)), float(np.mean(new))
    if len(old) < 2 or not samples:
        return Comparison(*means, means[1] - means[0])
    found = paired(new, old, samples, LEVEL)
    alike = bool(np.ptp(new - old) <= ROUNDING)  # see `_with_interval`
    return Comparison(*means, found.difference, None if alike else found.interval, found.p_value)


def _of_tallies(one: Tally, other: Tally, samples: int) -> Comparison:
    values = one.score(), other.score()
    difference = values[1] - values[0]
    if len(one.counts) < 2 or not samples:
        return Comparison(*values, difference)
    interval = bootstrap_of(lambda clips: other.score(clips) - one.score(clips), len(one.counts), samples, LEVEL)
    alike = interval.high - interval.low <= ROUNDING
    p_value = swap_test(other.counts, one.counts, one.formula, samples)
    return Comparison(*values, difference, None if alike else interval, p_value)


def _with_settings(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Values, settings, and a hash of the settings, by which scores that can be compared are found at a glance."""
    if not settings:
        return values
    return values | settings | {"settings_hash": settings_hash(settings)}


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
