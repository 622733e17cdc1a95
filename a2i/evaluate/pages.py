"""What `python -m a2i.evaluate` writes and prints."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from a2i.data.captioned import Captioned, write_scored, write_submission
from a2i.evaluate.systems import System, busy
from a2i.whole import write_text

if TYPE_CHECKING:
    from a2i.metrics.intervals import Interval
    from a2i.metrics.scoring import Comparison, Scored
    from a2i.report import ClipRow, ScoreRow

T = TypeVar("T")
SHOWN_ERRORS = 10  # of clips that failed; all are in captions.csv


def show(scored: "Scored", name: str, failed: Sequence[Captioned] = ()) -> None:
    """Print the scores: a line each, with its interval or why it is missing; and the clips that failed."""
    from rich.console import Console

    count = scored.counts.count
    of_all = f"{count} of {count + len(failed)} clips" if failed else f"{count} clips"
    print(f"{name}, {of_all} (value, and where 95 of 100 bootstrap samples lie):")
    reasons = _reasons(scored)
    for metric, score in scored.scores.items():
        low, high = _ends(score.interval)
        sure = "" if low is None or high is None else f"  {low:.4f} to {high:.4f}"
        if score.missing:
            print(f"  {metric:<24} missing: {reasons[metric]}")
        else:
            print(f"  {metric:<24}{_number(score.value)}{sure}")
    if said := scored.verdict:
        print(f"who failed: {said['who']}. {said['why']}")
    if failed:
        what = "1 clip failed and is" if len(failed) == 1 else f"{len(failed)} clips failed and are"
        print(f"WARNING: {what} not in these scores:", file=sys.stderr)
        for clip in failed[:SHOWN_ERRORS]:
            print(f"  {clip.file_name}: {clip.error}", file=sys.stderr)
        if len(failed) > SHOWN_ERRORS:
            print(f"  and {len(failed) - SHOWN_ERRORS} more, in the column 'error' of captions.csv", file=sys.stderr)
    if scored.counts.says_the_same:
        warning = f"WARNING: {says_the_same(scored)}"
        Console(stderr=True).print(warning, style="bold white on red", markup=False, highlight=False, soft_wrap=True)


def write(system: System, out: Path) -> None:
    """Write `scores.json`, `captions.csv` and `submission.csv`, each whole or not at all.

    Raises:
        OSError: one can't be written.
    """
    listed = system.listed or system.clips
    confident = [clip.confidence for clip in system.clips if clip.confidence is not None]
    columns = {**system.scored.columns(), "confidence": confident if len(confident) == len(system.clips) else None}
    write_scored(out / "captions.csv", listed, columns)
    write_submission(out / "submission.csv", listed)
    clips = {"scored": len(system.clips), "failed": len(system.failed)}
    scores = {**system.scored.as_plain(), "clips": clips, "about": system.about}
    write_text(out / "scores.json", _json(scores))


def write_page(out: Path, title: str, system: System, report: dict[str, Any]) -> None:
    """Write `report.html`."""
    from a2i.report import write_report

    rows = rows_of(system)
    settings = _page(report, rows)
    rows, order = _best_and_worst(rows, [row.values for row in rows], settings["columns"])
    about = system.about | order
    if failed := system.failed:
        names = ", ".join(clip.file_name for clip in failed[:SHOWN_ERRORS])
        names += f" and {len(failed) - SHOWN_ERRORS} more" if len(failed) > SHOWN_ERRORS else ""
        told = f"{len(failed)} of {len(system.listed)} clips, which are in no score: {names}; captions.csv says why"
        about = {"failed": told, **about}
    if system.scored.counts.says_the_same:
        about = {"warning": says_the_same(system.scored), **about}
    if said := system.scored.verdict:
        about = {**about, "who failed": f"{said['who']}. {said['why']}"}
    scores = [_score_row(name, system.scored) for name in system.scored.scores]
    write_report(out / "report.html", title, scores, rows, about, **settings)


def write_comparison(
    out: Path, first: System, second: System, samples: int, report: dict[str, Any]
) -> dict[str, "Comparison"]:
    """Compare a second system with a first on the same clips: write `comparison.json` and `comparison.html`."""
    from a2i import report as pages
    from a2i.metrics.registry import heading
    from a2i.metrics.scoring import compare

    with busy("comparing"):
        compared = compare(first.scored, second.scored, samples)
    about = {
        "clips": len(first.clips),
        **{"first": first.about, "second": second.about, "difference": "second less first"},
        "p_value": "two-sided paired permutation test over clips; not corrected for the number of metrics",
    }
    values = {name: one.as_plain() for name, one in compared.items()}
    write_text(out / "comparison.json", _json({**values, "about": about}))
    shown = []
    for index, system in enumerate((first, second)):
        scores = [
            # A reason in each of a table's columns would leave no room for the numbers; the reports have it.
            _score_row(name, system.scored)._replace(missing=None)
            if name in system.scored.scores
            else pages.ScoreRow(heading(name), (one.first, one.second)[index])
            for name, one in compared.items()
        ]
        shown.append(pages.SystemScores(system.name, scores, system.about))
    differences = []
    for name, one in compared.items():
        why = "the reason is in comparison.json" if one.missing else None
        differences.append(pages.DifferenceRow(heading(name), one.difference, *_ends(one.interval), one.p_value, why))
    rows = list(zip(rows_of(first), rows_of(second), strict=True))
    title = f"{second.name} against {first.name}"
    settings = _page(report, [one for one, _ in rows])
    gains = [
        {name: _less(other.values.get(name), one.values.get(name)) for name in settings["columns"]}
        for one, other in rows
    ]
    rows, _ = _best_and_worst(rows, gains, settings["columns"])
    pages.write_comparison(out / "comparison.html", title, shown[0], shown[1], differences, rows, **settings)
    print(f"\n{second.name} less {first.name}, on the same {len(rows)} clips:")
    for name, one in compared.items():
        if one.difference is not None:
            low, high = _ends(one.interval)
            sure = "" if low is None or high is None else f"  {low:+.4f} to {high:+.4f}"
            p_value = "" if one.p_value is None else f"  p {one.p_value:.4f}"
            print(f"  {name:<24}{one.difference:+9.4f}{sure}{p_value}")
    return compared


def _best_and_worst(
    rows: list[T], values: list[dict[str, float | None]], columns: list[str]
) -> tuple[list[T], dict[str, str]]:
    """The rows with the worst and the best by the first column in turn, and a remark on that."""
    from a2i.metrics.registry import label
    from a2i.report.clips import best_and_worst

    if not columns:
        return rows, {}
    order = best_and_worst([[each.get(columns[0]) for each in values]], None)
    return [rows[index] for index in order], {"clips below": f"worst and best {label(columns[0])} first, in turn"}


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def rows_of(system: System) -> list["ClipRow"]:
    """The clips of a system as a page or a table shows them."""
    from a2i.report import ClipRow

    columns = system.scored.listed()
    rows = []
    for index, clip in enumerate(system.clips):
        scores = {name: values[index] for name, values in columns.items()}
        media = {"audio": clip.audio, "start": clip.start, "end": clip.end, "image": clip.image}
        media["human_image"] = clip.human_image
        rows.append(
            ClipRow(
                clip.file_name,
                clip.caption,
                clip.candidates,
                clip.references,
                scores,
                **media,  # type: ignore[arg-type]
                confidence=clip.confidence,
            )
        )
    return rows


def _page(report: dict[str, Any], rows: list["ClipRow"]) -> dict[str, Any]:
    """Settings of a page."""
    from a2i.metrics.registry import heading, shown_first, values

    known = rows[0].scores
    columns = ([name for name in shown_first() if name in known] or list(known))[:4]
    lower = [value.name for value in values().values() if value.direction == "min"]
    more = {"media_clips": report["clips"], "embed_audio": report["sounds"]}
    return {"columns": columns, "lower_is_better": (*lower, *map(heading, lower)), **more}


def _score_row(name: str, scored: "Scored") -> "ScoreRow":
    from a2i.metrics.registry import heading, label
    from a2i.report import ScoreRow

    score = scored.scores[name]
    reason = _reasons(scored, label).get(name)
    return ScoreRow(heading(name), score.value, *_ends(score.interval), reason, score.settings)


def _reasons(scored: "Scored", named: Callable[[str], str] = str) -> dict[str, str]:
    """Why metrics are missing; each reason once, and where it comes again, with which metric it stood."""
    told: dict[str, str] = {}
    missing = {name: score.missing for name, score in scored.scores.items() if score.missing}
    return {
        name: reason if told.setdefault(reason, name) == name else f"as {named(told[reason])}"
        for name, reason in missing.items()
    }


def _number(value: float | None) -> str:
    return f"{value:9d}" if isinstance(value, int) else f"{value:9.4f}"


def _ends(interval: "Interval | None") -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with null for each number that is none: JSON has no word for them."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def says_the_same(scored: "Scored") -> str:
    counts = scored.counts
    return (
        f"this system says the same whatever it hears: {counts.distinct:.1%} of its captions are distinct, and "
        f"{counts.most_common_share:.0%} are {counts.most_common!r}"
    )
