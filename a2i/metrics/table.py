"""Captions with their references and scores as a CSV."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a2i.whole import write_text


def write_table(path: Path, rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> None:
    """Write `file_name`, `caption_predicted`, `caption_1` … `caption_n`, then the metrics; a row a clip.

    Args:
        path: of the CSV.
        rows: each with `file_name`, `caption_predicted`, `references` and a value for each metric; at least one row.
        metrics: names of the values; of one that is not a number the cell is empty.

    Raises:
        OSError: it can't be written.
    """
    count = max(len(row["references"]) for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", "caption_predicted", *(f"caption_{i + 1}" for i in range(count)), *metrics])
    for row in rows:
        references = [*row["references"], *[""] * (count - len(row["references"]))]
        values = [f"{row[metric]:.6f}" if math.isfinite(row[metric]) else "" for metric in metrics]
        writer.writerow([row["file_name"], row["caption_predicted"], *references, *values])
    write_text(path, text.getvalue())
