"""The curves of a run as a picture, from the metrics that its CSV logger wrote."""

import csv
from collections import defaultdict
from pathlib import Path

from a2i.metrics.registry import values
from a2i.whole import whole


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every metric in a run folder, over all its CSV files: each resume begins another."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    files = (folder / "metrics").glob("version_*/metrics.csv")
    for file in sorted(files, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if "/" in name and value:
                        curves[name][int(row["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def plot_curves(folder: Path) -> Path | None:
    """Write `curves.png` into a run folder: losses and the metrics that have a panel, over steps; None without any."""
    curves = read_metrics(folder)
    of_metrics: dict[str, list[str]] = {}
    for value in values().values():
        if value.panel is not None:
            of_metrics.setdefault(value.panel, []).append(f"val/{value.name}")
    panels = [
        ("cross-entropy of labels (nats a clip)", ["train/label_loss"]),
        ("cross-entropy (nats per token)", ["train/loss", "val/loss"]),
        *of_metrics.items(),
    ]
    panels = [(title, [name for name in names if name in curves]) for title, names in panels]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(panels), 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            steps, points = zip(*curves[name], strict=True)
            axes.plot(steps, points, label=name, marker="." if len(steps) < 30 else None)
        axes.set(xlabel="optimiser steps", title=title)
        axes.legend()
        axes.grid(alpha=0.3)
    path = folder / "curves.png"
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    return path
