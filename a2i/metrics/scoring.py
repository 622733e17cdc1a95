"""All that is scored of a system's captions, with how sure it is; and one system against another on the same clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from a2i.metrics.captions import ALL as CAPTION_METRICS
from a2i.metrics.captions import BLEU, score_captions
from a2i.metrics.counts import Counts, count_captions, lexicon
from a2i.metrics.intervals import Interval, bootstrap, bootstrap_of, paired, swap_test
from a2i.metrics.parts import Parts, Tally
from a2i.metrics.provenance import settings_hash

if TYPE_CHECKING:
    from a2i.metrics.bertscore import BERTScore

PICTURE_METRICS = ("clip_score", "audio_image_similarity", "blame")  # need pictures: see `a2i.evaluate.pictures`
METRICS = ("bertscore", *CAPTION_METRICS, *PICTURE_METRICS)
BERTSCORE = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
# Of pictures: with the caption; that and the caption with the references; with the references.
CLIP_SCORES = ("clip_score", "ref_clip_score", "clip_score_references")
# Of pictures of predicted and of people's captions with the references: see `a2i.metrics.pictures.attribution`.
BLAME = ("blame_predicted", "blame_human", "blame_chance", "blame_captioner", "blame_conveyed")
COUNTS = ("distinct", "vocabulary", "mean_words", "empty", "repetition", "first_word_valid")
# Values of single clips, in the order in which a table has them.
PER_CLIP = (
    *(*BLEU, "rouge_l", "cider_d", "meteor", *BERTSCORE, "spice", "spider", "spider_fl", "fense"),
    *("repetition", "first_word_valid", "words"),
)
PICTURES_PER_CLIP = (*CLIP_SCORES, "audio_image_similarity", *BLAME)
LEVEL = 0.95  # of all intervals
ROUNDING = 1e-12  # differences of scores that differ by less are alike: 0.3 - 0.2 and 0.2 - 0.1 are not to the last bit


@dataclass(frozen=True)
class Figure:
    """One number over N clips, or why there is none."""

    value: float | None
    interval: Interval | None = None
    # N numbers, NaN for a clip that lacks what it takes; None for what only all captions together have.
    clips: tuple[float, ...] | None = None
    missing: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)  # more that belongs to it, as plain values
    tally: Tally | None = field(default=None, compare=False, repr=False)  # where the value is no mean of the clips


@dataclass(frozen=True)
class Scored:
    """A system's captions, scored: figures by name, BERTScore's three and the counts among them."""

    figures: dict[str, Figure]
    counts: Counts

    def columns(self) -> dict[str, tuple[float, ...] | None]:
        """N values of single clips for each of `PER_CLIP` and of what was asked of pictures; None where not computed."""
        known = {name: figure.clips for name, figure in self.figures.items()}
        names = [*PER_CLIP, *(name for name in PICTURES_PER_CLIP if name in known)]
        return {name: self.counts.clips.get(name, known.get(name)) for name in names}

    def as_plain(self) -> dict[str, dict[str, Any]]:
        """An object per metric, as for JSON: its values, 95 % intervals, and the settings and versions that made them."""
        plain: dict[str, dict[str, Any]] = {}
        if BERTSCORE[0] in self.figures:
            plain["bertscore"] = self._several(BERTSCORE, "bertscore_", self.figures[BERTSCORE[0]].settings)
        for name in (*CAPTION_METRICS, *CLIP_SCORES, "audio_image_similarity"):
            if name in self.figures:
                figure = self.figures[name]
                own = {"value": figure.value, "interval": _ends(figure.interval), **figure.details}
                plain[name] = _with_settings({"missing": figure.missing} if figure.missing else own, figure.settings)
        if BLAME[0] in self.figures:
            plain["blame"] = self._several(BLAME, "blame_", self.figures[BLAME[0]].settings)
            if said := self.verdict:
                plain["blame"] |= said
        counts = {name: value for name, value in asdict(self.counts).items() if name != "clips"}
        plain["captions"] = counts | {"interval": self._intervals(COUNTS, "")}
        return plain

    @property
    def verdict(self) -> dict[str, str] | None:
        """Who failed, captioner or painter, and why one says so; None without blame or its intervals."""
        found = [self.figures.get(name) for name in ("blame_captioner", "blame_conveyed")]
        ends = [figure.interval for figure in found if figure is not None and figure.interval is not None]
        if len(ends) < 2:
            return None
        from a2i.metrics.pictures import verdict

        said = verdict(*((interval.low, interval.high) for interval in ends))
        return {"who": said.who, "why": said.why}

    def _several(self, names: Sequence[str], prefix: str, settings: dict[str, Any]) -> dict[str, Any]:
        if reason := self.figures[names[0]].missing:
            return {"missing": reason}
        values = {name.removeprefix(prefix): self.figures[name].value for name in names}
        return _with_settings(values | {"interval": self._intervals(names, prefix)}, settings)

    def _intervals(self, names: Sequence[str], prefix: str) -> dict[str, list[float] | None]:
        found = {name: self.figures[name] for name in names if name in self.figures}
        return {name.removeprefix(prefix): _ends(figure.interval) for name, figure in found.items() if figure.clips}


def score(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] = METRICS,
    bertscore: "BERTScore | str | None" = None,
    parts: Parts | None = None,
    samples: int = 10_000,
    pictures: Mapping[str, Figure] | None = None,
) -> Scored:
    """Score captions by several metrics; counts, which need no model, are always there.

    Args:
        captions: N captions, '' where there is none.
        references: N lists of references.
        metrics: of `METRICS`.
        bertscore: to be used again for other captions of the same clips, whose references it keeps; a string says why it
            can't be had.
        parts: what the caption metrics need.
        samples: of each bootstrap; 0 for no intervals.
        pictures: figures of the captions' pictures, which get their intervals here.

    Raises:
        ValueError: as `score_captions`; or `bertscore` is wanted and not given.
    """
    figures: dict[str, Figure] = {}
    if "bertscore" in metrics:
        if bertscore is None:
            raise ValueError("bertscore is among the metrics; expected a BERTScore, or why there is none")
        figures |= _bertscore(captions, references, bertscore)
    if wanted := [name for name in metrics if name in CAPTION_METRICS]:
        for name, found in score_captions(captions, references, wanted, parts).items():
            figures[name] = Figure(found.corpus, None, found.clips, found.missing, found.settings, tally=found.tally)
    figures |= pictures or {}
    counts = count_captions(captions, lexicon(references))
    empty = tuple(float(not words) for words in counts.clips["words"])
    of_clips = {"mean_words": counts.clips["words"], "empty": empty, **counts.clips}
    for name in COUNTS:
        figures[name] = Figure(getattr(counts, name), None, of_clips.get(name))
    return Scored({name: _with_interval(figure, samples) for name, figure in figures.items()}, counts)


def _bertscore(
    captions: Sequence[str], references: Sequence[Sequence[str]], metric: "BERTScore | str"
) -> dict[str, Figure]:
    if isinstance(metric, str):
        return {name: Figure(None, missing=metric) for name in BERTSCORE}
    found = metric.score(captions, references)
    values = {name: getattr(found, name.removeprefix("bertscore_")) for name in BERTSCORE}
    return {
        name: Figure(float(of_clips.mean()), None, tuple(of_clips.tolist()), None, metric.settings)
        for name, of_clips in values.items()
    }


def _with_interval(figure: Figure, samples: int) -> Figure:
    # Clips that are all alike would give an interval without width, as if there were no doubt.
    known = [value for value in figure.clips or () if not math.isnan(value)]
    if len(set(known)) < 2 or not samples:
        return figure
    if figure.tally is not None:
        interval = bootstrap_of(figure.tally.score, len(known), samples, LEVEL)
    else:
        interval = bootstrap(known, samples, LEVEL)
    return replace(figure, interval=interval)


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
    for name in second.figures:
        if name not in first.figures:
            continue
        one, other = first.figures[name], second.figures[name]
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
