"""Runs of a sweep, put together by what they differ in: how often the sounds are named, and BERTScore, over the seeds.

    python experiments/open_ends/compare.py SWEEP... --by loader.captions model.bridge --out PICTURE.png

Each SWEEP is a folder that holds run folders with captions of foley's validation clips. Prints a Markdown table and draws the
share of captions that name the last source of a clip (of one source alone: that one).
"""

import argparse
import csv
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from a2i.data.foley.captions import sources_named
from a2i.metrics.bertscore import BERTScore


@dataclass(frozen=True)
class Outcome:
    """One run's validation captions.

    `first` and `last` are the shares that name a clip's first and last source, `exact` that which names all and no other.
    """

    first: float
    last: float
    exact: float
    f1: float
    distinct: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+")
    parser.add_argument("--by", nargs="+", required=True, help="settings by which runs are put together")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chance", type=float, help="share that guessing would name, for the picture")
    arguments = parser.parse_args()
    bertscore = BERTScore(device="cpu")
    found: dict[str, list[Outcome]] = defaultdict(list)
    for run in sorted(path.parent for sweep in arguments.sweeps for path in sweep.glob("*/captioner")):
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        found[", ".join(told(config, key) for key in arguments.by)].append(outcome(run, bertscore))
    show(found)
    plot(found, arguments.out, arguments.chance)


def told(config: dict[str, Any], key: str) -> str:
    """`freeze_encoder true` for training.freeze_encoder."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return f"{key.rpartition('.')[2]} {str(value).lower()}"


def outcome(run: Path, bertscore: BERTScore) -> Outcome:
    table = sorted((run / "captions").glob("epoch_*.csv"))[-1]
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    captions = [row["caption_predicted"] for row in rows]
    names = [Path(row["file_name"].partition("#")[0]).stem for row in rows]  # without the part's start and end
    heard = [name.split("_", 1)[1].split("_then_") for name in names]
    named = [sources_named(caption) for caption in captions]
    pairs = list(zip(heard, named, strict=True))
    references = [[row[f"caption_{n}"] for n in range(1, 6) if row.get(f"caption_{n}")] for row in rows]
    scores = bertscore.score(captions, references)
    return Outcome(
        first=sum(sources[0] in some for sources, some in pairs) / len(rows),
        last=sum(sources[-1] in some for sources, some in pairs) / len(rows),
        exact=sum(set(sources) == some for sources, some in pairs) / len(rows),
        f1=float(scores.f1.mean()),
        distinct=len(set(captions)) / len(rows),
    )


def show(found: dict[str, list[Outcome]]) -> None:
    print("| | runs | names the first | names the last | all and no other | BERTScore F1 | distinct captions |")
    print("|---|---|---|---|---|---|---|")
    for name, outcomes in found.items():
        cells = []
        for column in ("first", "last", "exact", "f1", "distinct"):
            values = [getattr(one, column) for one in outcomes]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        print(f"| {name} | {len(outcomes)} | {' | '.join(cells)} |")


def plot(found: dict[str, list[Outcome]], out: Path, chance: float | None) -> None:
    figure = Figure(figsize=(9, 1 + 0.45 * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, outcomes in enumerate(found.values()):
        values = [one.last for one in outcomes]
        axes.barh(row, statistics.mean(values), color="tab:blue", alpha=0.4)
        axes.plot(values, [row] * len(values), "o", color="tab:blue")
    if chance is not None:
        axes.axvline(chance, color="tab:red", linestyle="--", label="by guessing")
        axes.legend()
    axes.set_yticks(range(len(found)), list(found))
    axes.set(xlim=(0, 1), xlabel="share of captions that name the last source", ylim=(len(found) - 0.5, -0.5))
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
