"""Captions of the two ways side by side, and what the cleaning step makes of them: tables and a plot from the run folders.

    python experiments/first_words/compare.py SWEEP

SWEEP is the folder of a sweep over model.tokenizer.bos and seed. Prints Markdown and writes first_words.png beside this file.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from a2i.captioner.cleaning import Lexicon, words
from a2i.metrics.bertscore import BERTScore

WAYS = ("as published", "as published, cleaned", "cured", "cured, cleaned")
SCORES = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
COLUMNS = ("valid", "begun", "fragments", *SCORES)
TITLES = ("first_word_valid", "begins with a capital", "begins with a fragment", "BERTScore P", "R", "F1")
Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    captions: dict[str, Rows] = {}
    for run in sorted(path.parent for path in arguments.sweep.glob("*/captioner")):
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        way = "cured" if config["model"]["tokenizer"]["bos"] else "as published"
        known = Lexicon.load(run / "captioner" / "lexicon.json")
        rows = read_last(run)
        for name, some in ((way, rows), (f"{way}, cleaned", cleaned(rows, known))):
            found[name].append(figures(some, known))
            captions[f"{name} {config['seed']}"] = some
    show(found)
    side_by_side(captions)
    plot(found)


def read_last(run: Path) -> Rows:
    """Caption, references and BERTScore of each clip of a run's last validation."""
    table = sorted((run / "captions").glob("epoch_*.csv"))[-1]
    with table.open(encoding="utf-8", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["file_name"])


def references(row: dict[str, str]) -> list[str]:
    return [row[f"caption_{n}"] for n in range(1, 6)]


def cleaned(rows: Rows, known: Lexicon) -> Rows:
    """The rows with cleaned captions; those that changed are scored anew."""
    after = [{**row, "caption_predicted": known.clean(row["caption_predicted"])} for row in rows]
    changed = [
        new for new, old in zip(after, rows, strict=True) if new["caption_predicted"] != old["caption_predicted"]
    ]
    if changed:
        scores = BERTScore(device="cpu").score(
            [row["caption_predicted"] for row in changed], list(map(references, changed))
        )
        for column, values in zip(SCORES, (scores.precision, scores.recall, scores.f1), strict=True):
            for row, value in zip(changed, values.tolist(), strict=True):
                row[column] = str(value)
    return after


def figures(rows: Rows, known: Lexicon) -> dict[str, float]:
    """Shares and means over the clips; `valid` as a2i.evaluate counts it, by the words of all references."""
    lexicon = {word for row in rows for reference in references(row) for word in words(reference)}
    first = [(words(row["caption_predicted"]) or [""])[0] for row in rows]
    values = {
        "valid": statistics.mean(word in lexicon for word in first),
        "begun": statistics.mean(row["caption_predicted"][:1].isupper() for row in rows),
        "fragments": statistics.mean(word in known.fragments for word in first),
    }
    return values | {column: statistics.mean(float(row[column]) for row in rows) for column in SCORES}


def show(found: dict[str, list[dict[str, float]]]) -> None:
    """Mean and standard deviation over the seeds."""
    print(f"| | runs | {' | '.join(TITLES)} |\n|{'---|' * (len(TITLES) + 2)}")
    for way in WAYS:
        cells = [told([one[column] for one in found[way]]) for column in COLUMNS]
        print(f"| {way} | {len(found[way])} | {' | '.join(cells)} |")


def told(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def side_by_side(captions: dict[str, Rows]) -> None:
    """The first clip of each kind, as the second seed's models caption it."""
    columns = [captions[f"{way} 1"] for way in WAYS[:3]]
    print("\n| a reference | as published | cleaned | cured |\n|---|---|---|---|")
    seen: set[str] = set()
    for rows in zip(*columns, strict=True):
        kind = Path(rows[0]["file_name"]).stem.split("_", 1)[1]
        if kind not in seen:
            seen.add(kind)
            print(f"| {rows[0]['caption_1']} | {' | '.join(row['caption_predicted'] for row in rows)} |")


def plot(found: dict[str, list[dict[str, float]]]) -> None:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = ("begun", "fragments", "valid", "bertscore_f1")
    for axes, column in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        for row, way in enumerate(WAYS):
            values = [one[column] for one in found[way]]
            colour = "tab:red" if way.startswith("as") else "tab:blue"
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.6)
            axes.plot(statistics.mean(values), row, "|", color=colour, markersize=22)
        axes.set_yticks(range(len(WAYS)), WAYS)
        axes.set_ylim(len(WAYS) - 0.5, -0.5)
        axes.set_title("BERTScore F1" if column == "bertscore_f1" else TITLES[COLUMNS.index(column)], fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(Path(__file__).with_name("first_words.png"), dpi=110)


if __name__ == "__main__":
    main()
