"""`report.html`: one page, opened from disk, on which captions can be heard, looked at and compared.

All that a page shows lies in it: it asks no network for anything, and its content security policy would not let it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from a2i.metrics.registry import label
from a2i.report import figures
from a2i.report.clips import ClipRow, best_and_worst, metric_names, show
from a2i.report.page import HERE, fill
from a2i.report.scores import DifferenceRow, ScoreRow, SystemScores, compared_lines, with_bars
from a2i.whole import write_text

__all__ = ["ClipRow", "DifferenceRow", "ScoreRow", "SystemScores", "write_comparison", "write_report"]


def write_report(
    path: str | Path,
    title: str,
    scores: Sequence[ScoreRow],
    rows: Sequence[ClipRow],
    provenance: Mapping[str, Any],
    columns: Sequence[str] | None = None,
    lower_is_better: Collection[str] = (),
    media_clips: int | None = 200,
    embed_audio: bool = True,
) -> Path:
    """Write the page of one system's captions. The same values give the same bytes.

    Args:
        path: of the page.
        title: plain text, as all text that is given.
        scores: over all clips, in the order in which they are shown.
        rows: of the clips, at least one.
        provenance: system, data, split, versions, date …: values by name, in the order in which they are shown.
        columns: metrics of the clips that are shown at first, the others being there to choose; by these, in turn, the best
            and the worst clips have media. None for the first four that the rows have.
        lower_is_better: metrics whose best value is the least.
        media_clips: clips with sound, spectrogram and picture, as many of the best as of the worst; the others say where
            their files are. None for all of them, 0 for none.
        embed_audio: False for spectrograms and pictures, but no sound: for recordings that may not be passed on.

    Raises:
        ValueError: there are no rows, or they have no metric of a name in `columns`.
    """
    values = [row.values for row in rows]
    names, columns = _columns(metric_names(rows), columns, len(rows))
    media = best_and_worst([[each.get(name) for each in values] for name in columns or [""]], media_clips)
    return _write(
        path,
        "report.html.j2",
        title=title,
        scores=with_bars(scores),
        clips=show([[row] for row in rows], values, names, set(media), embed_audio),
        histograms=_histograms(names, values),
        names=names,
        columns=columns,
        lower_is_better=lower_is_better,
        provenance=provenance,
    )


def write_comparison(
    path: str | Path,
    title: str,
    first: SystemScores,
    second: SystemScores,
    differences: Sequence[DifferenceRow],
    rows: Sequence[tuple[ClipRow, ClipRow]],
    columns: Sequence[str] | None = None,
    lower_is_better: Collection[str] = (),
    media_clips: int | None = 200,
    embed_audio: bool = True,
) -> Path:
    """Write the page on which two systems' captions of the same clips stand side by side.

    Args:
        path: of the page.
        title: plain text, as all text that is given.
        first: the system that is compared with.
        second: the system whose gain or loss is shown.
        differences: second less first, over all clips.
        rows: what the first and the second system made of each clip; references and sound are taken from the first.
        columns: as in `write_report`.
        lower_is_better: as in `write_report`.
        media_clips: as in `write_report`: those where the second gains most, and those where it loses most.
        embed_audio: as in `write_report`.

    Raises:
        ValueError: there are no rows, they have no metric of a name in `columns`, or the two of a row are not of one clip.
    """
    for one, other in rows:
        if one.file_name != other.file_name:
            raise ValueError(f"got {one.file_name} beside {other.file_name}; expected two rows of the same clip")
    theirs = metric_names([one for one, _ in rows]), metric_names([other for _, other in rows])
    names, columns = _columns([name for name in theirs[0] if name in theirs[1]], columns, len(rows))
    values = [{name: _less(other.values.get(name), one.values.get(name)) for name in names} for one, other in rows]
    media = best_and_worst([[each.get(name) for each in values] for name in columns or [""]], media_clips)
    return _write(
        path,
        "comparison.html.j2",
        title=title,
        first=first,
        second=second,
        differences=compared_lines(first, second, differences),
        clips=show(rows, values, names, set(media), embed_audio),
        histograms=_histograms(names, values),
        names=names,
        columns=columns,
        lower_is_better=lower_is_better,
    )


def _columns(names: list[str], columns: Sequence[str] | None, rows: int) -> tuple[list[str], list[str]]:
    """All metrics, those shown at first in front; and these."""
    if not rows:
        raise ValueError("got no rows; expected one a clip")
    columns = names[:4] if columns is None else list(columns)
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise ValueError(f"got columns {', '.join(unknown)}; expected some of the clips' metrics: {', '.join(names)}")
    return [*columns, *(name for name in names if name not in columns)], columns


def _histograms(names: Sequence[str], values: Sequence[Mapping[str, float | None]]) -> list[figures.Histogram]:
    known = ((name, [each.get(name) for each in values]) for name in names)
    drawn = (figures.histogram(name, [value for value in column if value is not None]) for name, column in known)
    return [histogram for histogram in drawn if histogram is not None]


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _write(path: str | Path, template: str, **values: Any) -> Path:
    """Fill in a template; the page is there whole or not at all."""
    filters: dict[str, Callable[..., Any]] = {
        "end": figures.end,
        "label": label,
        "number": figures.number,
        "p_value": figures.p_value,
        "words": figures.words,
    }
    write_text(Path(path), fill([HERE], template, ["page.css"], "page.js", filters, **values))
    return Path(path)
