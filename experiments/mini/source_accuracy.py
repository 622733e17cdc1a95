"""How often captioners name the right source and no other: on ESC-10, on new made sounds, on what has no name.

    A2I_REAL_DATA=FOLDER python experiments/mini/source_accuracy.py 1=RUN1/captioner 2=RUN2/captioner … --out FOLDER
    A2I_REAL_DATA=FOLDER python experiments/mini/source_accuracy.py a2i/assets/captioner --out FOLDER

`FOLD=` says on which fold of ESC-10 a captioner has not been trained: the folds together are a cross-validation. Without
it, only made sounds, sounds without a name and the Clotho recordings are heard. Writes `heard.csv` (a row for each sound),
`scores.json` and, of ESC-10, `confusion.png`.
"""

import argparse
import csv
import json
import os
import tempfile
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.progress import track

from a2i import audio
from a2i.captioner import Captioner
from a2i.data import Clip
from a2i.data.esc10 import Esc10
from a2i.data.esc10_captions import LABELS, SENTENCES, kinds_named
from a2i.data.foley import Foley
from a2i.data.foley.captions import sources_named
from a2i.data.unnamed import Unnamed, unnamed_kinds

SECONDS = 7.0  # of the longest made sound, as in training


@dataclass(frozen=True)
class Heard:
    """A sound, what it is, and what a captioner says."""

    set: str
    name: str
    truth: str
    caption: str
    named: str
    right: bool
    evidence: float
    confidence: float


def named(caption: str) -> frozenset[str]:
    """The sources that a caption names; where it names none, which of silence, noise and unknown it says."""
    sources = {LABELS[kind] for kind in kinds_named(caption)} | sources_named(caption)
    return frozenset(sources or unnamed_kinds(caption))


# "The engine of a helicopter" names no second source.
PART_OF = {LABELS[kind]: frozenset().union(*map(sources_named, sentences)) for kind, sentences in SENTENCES.items()}


def listen(captioner: Captioner, set_: str, clips: list[Clip], truths: dict[str, frozenset[str]]) -> list[Heard]:
    """The captioner's best caption of each clip."""
    rows = []
    for clip in track(clips, description=set_):
        best = captioner.caption([audio.load(clip.path, captioner.sampling_rate)])[0][0]
        truth, said = truths[clip.name], named(best.caption)
        excused = frozenset().union(*(PART_OF.get(label, frozenset()) for label in truth))
        right = bool(truth) and truth <= said and said <= truth | excused
        names = "+".join(sorted(truth)), "+".join(sorted(said))
        rows.append(Heard(set_, clip.name, names[0], best.caption, names[1], right, best.evidence, best.confidence))
    return rows


def on_made_sounds(captioner: Captioner, seed: int, count: int) -> list[Heard]:
    """New sounds of one source and of two, and new ones without a name."""
    with tempfile.TemporaryDirectory() as folder:
        made = Foley(Path(folder) / "made", n_train=1, n_val=1, n_test=count, seed=seed, max_seconds=SECONDS)
        unnamed = Unnamed(Path(folder) / "unnamed", n_train=1, n_val=1, n_test=count, seed=seed, max_seconds=SECONDS)
        rows = []
        for source in (made, unnamed):
            source.prepare()
        by_number: dict[int, list[Clip]] = defaultdict(list)
        heard = {name: frozenset(sources) for name, sources in made.sources_in("test").items()}
        for clip in made.clips("test"):
            by_number[len(heard[clip.name])].append(clip)
        for number, clips in sorted(by_number.items()):
            rows += listen(captioner, f"made, {number} source{'s' * (number > 1)}", clips, heard)
        kinds = unnamed.kinds("test")
        for kind in sorted(set(kinds.values())):
            clips = [clip for clip in unnamed.clips("test") if kinds[clip.name] == kind]
            rows += listen(captioner, kind, clips, {clip.name: frozenset({kind}) for clip in clips})
    return rows


def on_clotho(captioner: Captioner, folder: Path) -> list[Heard]:
    """Recordings of what the small captioner has never learnt: no truth, only what it says."""
    clips = [Clip(path.name, path, ()) for path in sorted(folder.glob("*.wav"))]
    return listen(captioner, "Clotho", clips, {clip.name: frozenset() for clip in clips})


def plot_confusion(rows: list[Heard], path: Path) -> None:
    """How often each kind of ESC-10 is called what."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(LABELS.values())
    said = Counter((row.truth, row.truth if row.right else row.named) for row in rows)
    others = sorted({name for _, name in said} - set(kinds))
    columns = kinds + others
    counts = [[said[kind, name] for name in columns] for kind in kinds]
    figure, axes = plt.subplots(figsize=(2 + 0.45 * len(columns), 5.2), layout="constrained")
    axes.imshow(counts, cmap="Blues")
    for row, values in enumerate(counts):
        for column, value in enumerate(values):
            if value:
                colour = "white" if value > 16 else "black"
                axes.text(column, row, str(value), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), [name or "nothing" for name in columns], rotation=60, ha="right")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("named in the caption")
    axes.set_ylabel("heard")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioners", nargs="+", help="FOLD=FOLDER, or FOLDER alone")
    parser.add_argument("--seed", type=int, default=1000, help="of made sounds that none was trained on")
    parser.add_argument("--count", type=int, default=120, help="made sounds, and as many without a name")
    parser.add_argument("--out", type=Path, required=True, help="folder for heard.csv, scores.json and confusion.png")
    arguments = parser.parse_args()
    real = Path(os.environ["A2I_REAL_DATA"]) if os.environ.get("A2I_REAL_DATA") else None
    rows: list[Heard] = []
    for item in arguments.captioners:
        fold, _, folder = item.rpartition("=")
        captioner = Captioner.load(folder)
        if fold:
            if real is None:
                parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/")
            source = Esc10(real / "esc10", val_fold=int(fold))
            truths = {name: frozenset({LABELS[kind]}) for name, kind in source.kinds("val").items()}
            rows += listen(captioner, f"ESC-10, fold {fold}", source.clips("val"), truths)
        rows += on_made_sounds(captioner, arguments.seed, arguments.count)
        if real is not None:
            rows += on_clotho(captioner, real / "clotho" / "evaluation")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "heard.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Heard)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    scores = {}
    for set_ in sorted({row.set for row in rows} - {"Clotho"}):
        own = [row for row in rows if row.set == set_]
        right = sum(row.right for row in own)
        scores[set_] = {"right": right, "of": len(own), "share": round(right / len(own), 4)}
        print(f"{set_}: {right} of {len(own)} = {right / len(own):.3f}")
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    recordings = [row for row in rows if row.set.startswith("ESC-10")]
    if recordings:
        plot_confusion(recordings, arguments.out / "confusion.png")
    for row in rows:
        if row.set == "Clotho":
            print(f"{row.name}: {row.caption} ({row.confidence:.2f})")


if __name__ == "__main__":
    main()
