"""Captions with their references and scores as a CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_captions(path: Path, rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> None:
    """Write `file_name`, `caption_predicted`, `caption_1` … `caption_n`, then the metrics; a row a clip.

    Args:
        path: of the CSV.
        rows: each with `file_name`, `caption_predicted`, `references` and a value for each metric; at least one row.
        metrics: names of the values.
    """
    count = max(len(row["references"]) for row in rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption_predicted", *(f"caption_{i + 1}" for i in range(count)), *metrics])
        for row in rows:
            references = [*row["references"], *[""] * (count - len(row["references"]))]
            values = [f"{row[metric]:.6f}" for metric in metrics]
            writer.writerow([row["file_name"], row["caption_predicted"], *references, *values])
