"""How often a captioner names the right source and no other, and how well it knows when it does.

    A2I_REAL_DATA=FOLDER python experiments/world/source_accuracy.py RUN/captioner --out FOLDER
    A2I_REAL_DATA=FOLDER python experiments/world/source_accuracy.py RUN/captioner --out FOLDER data.sources.esc10.val_fold=1

It hears what the data of its training held out (`data=world`, with the same changes as in the training), new made sounds of one
source and of two, silence, noise and sounds without a name, and the five Clotho recordings, which have no labels.

A caption is right where it names each source by one of its words, and no other but its kin (`a2i/data/kinds.tsv`); it describes
where it names the source's category, such as "An animal calls" of a cow, and no other; else it is wrong. Writes `heard.csv`
(a row for each sound), `scores.json`, `confusions.csv` (each kind with how many are right, and what it is taken for), and
`confusion.png`.
"""

import argparse
import csv
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import hydra
import numpy as np
import soundfile
from rich.progress import track

from a2i import audio
from a2i.captioner import Captioner
from a2i.compose import plain, prepared_data_set
from a2i.data import NAMELESS, Clip
from a2i.data.foley import Foley
from a2i.data.kinds import CATEGORIES, KINDS, named_in, names_only
from a2i.data.unnamed import Unnamed
from a2i.paths import CONF
from a2i.training.augment import WaveformAugment

SECONDS = 7.0  # of the longest made sound, as in training
PAIRED = 5.0  # seconds of each of two recordings
BATCH = 16
BINS = 10  # of the calibration error
SURE = 0.8


@dataclass(frozen=True)
class Heard:
    """A sound, what it is, and what a captioner says."""

    set: str
    name: str
    truth: str
    caption: str
    named: str
    verdict: str  # right, described or wrong; empty without a truth
    evidence: float
    confidence: float


def verdict(caption: str, truth: frozenset[str]) -> str:
    """Whether a caption is right, describes, or is wrong about the sources of a sound."""
    if not truth:
        return ""
    if names_only(caption, truth):
        return "right"
    categories = {KINDS[kind].category for kind in truth} - {"none"}
    said = named_in(caption)
    if len(truth) == 1 and categories and said and said <= categories:
        return "described"
    return "wrong"


def listen(captioner: Captioner, set_: str, clips: Sequence[Clip]) -> list[Heard]:
    """The captioner's best caption of each clip."""
    rate = captioner.sampling_rate
    rows = []
    ordered = sorted(clips, key=lambda clip: clip.seconds())
    for first in track(range(0, len(ordered), BATCH), description=set_):
        some = ordered[first : first + BATCH]
        found = captioner.caption([audio.load(clip.path, rate, clip.start, clip.end) for clip in some])
        for clip, candidates in zip(some, found, strict=True):
            best, truth = candidates[0], clip.labels or frozenset()
            said = "+".join(sorted(named_in(best.caption) - {"people"}))
            rows.append(
                Heard(
                    set_,
                    clip.name,
                    "+".join(sorted(truth)),
                    best.caption,
                    said,
                    verdict(best.caption, truth),
                    round(best.evidence, 5),
                    round(best.confidence, 4),
                )
            )
    return rows


def held_out(overrides: Sequence[str]) -> dict[str, list[Clip]]:
    """What `data=world` does not train on, by data set, those of `sounds` by their sources."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        data = prepared_data_set(plain(hydra.compose("train", ["data=world", *overrides]).data))
    sets: dict[str, list[Clip]] = defaultdict(list)
    for key, source in data.sources.items():
        if key in ("foley", "unnamed"):
            continue
        tested = source.clips("test") if getattr(source, "hold_out", None) else []
        for clip in {clip.name: clip for clip in [*source.clips("val"), *tested]}.values():
            sets[f"{key}, {Path(clip.name).name.split('-')[0]}" if key == "sounds" else key].append(clip)
    return dict(sorted(sets.items()))


def on_made_sounds(captioner: Captioner, seed: int, count: int) -> list[Heard]:
    """New sounds of one source and of two, and new ones without a name."""
    rate = captioner.sampling_rate
    settings = {"n_train": 1, "n_val": 1, "n_test": count, "seed": seed, "max_seconds": SECONDS, "sample_rate": rate}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        made, unnamed = Foley(Path(folder) / "made", **settings), Unnamed(Path(folder) / "unnamed", **settings)
        for source in (made, unnamed):
            source.prepare()
        sets: dict[str, list[Clip]] = defaultdict(list)
        for clip in made.clips("test"):
            sets[f"made, {len(clip.labels or ())} at once or in turn"].append(clip)
        for clip in unnamed.clips("test"):
            (kind,) = clip.labels or ("unknown",)
            sets[f"made, {kind}"].append(clip)
        for name, clips in sorted(sets.items()):
            rows += listen(captioner, name, clips)
    return rows


def two_at_once(clips: Sequence[Clip], folder: Path, rate: int, seed: int, count: int) -> dict[str, list[Clip]]:
    """New sounds of two recordings of different kinds, equally loud: at once, and one after the other."""
    rng, mixer = np.random.default_rng(seed), WaveformAugment(gap_db=0.0)
    sets: dict[str, list[Clip]] = {"two recordings, at once": [], "two recordings, in turn": []}
    while len(sets["two recordings, in turn"]) < count:
        one, other = (clips[index] for index in rng.integers(len(clips), size=2))
        labels = (one.labels or frozenset()) | (other.labels or frozenset())
        if len(labels) < 2 or labels & NAMELESS:
            continue
        first, second = (audio.load(clip.path, rate)[: round(PAIRED * rate)] for clip in (one, other))
        for name, sound in zip(
            sets, (mixer.together(first, second, rate, rng), np.concatenate((first, second))), strict=True
        ):
            path = folder / f"{name.split()[-1]}{len(sets[name])}.wav"
            soundfile.write(path, sound, rate)
            sets[name].append(Clip(path.name, path, (), labels=labels))
    return sets


def calibration(rows: Sequence[Heard]) -> dict[str, float]:
    """Expected calibration error over ten bins (Guo et al. 2017), and how many captions are wrong and over 80 % sure."""
    sure = np.array([row.confidence for row in rows])
    true = np.array([row.verdict != "wrong" for row in rows])
    named = np.array([row.verdict == "right" for row in rows])
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)

    def error(right: np.ndarray) -> float:
        gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
        return round(float(sum(gaps)), 4)

    return {
        "calibration_error": error(true),
        "calibration_error_where_describing_is_wrong": error(named),
        "wrong_and_sure": round(float((~true & (sure > SURE)).mean()), 4),
        "mean_confidence": round(float(sure.mean()), 4),
        "right": round(float(named.mean()), 4),
    }


def is_recording(set_: str, truth: str) -> bool:
    """Whether a sound is of one source, as it was recorded."""
    return bool(truth) and not set_.startswith(("made", "two"))


def summary(rows: Sequence[Heard]) -> dict[str, object]:
    """Of each set, how many captions are right; of all recordings, how many captions and words differ, and calibration."""
    scores: dict[str, object] = {}
    for set_ in sorted({row.set for row in rows if row.truth}):
        own = [row for row in rows if row.set == set_]
        count = Counter(row.verdict for row in own)
        scores[set_] = {**count, "of": len(own), "share": round(count["right"] / len(own), 4)}
    recorded = [row for row in rows if is_recording(row.set, row.truth)]
    if recorded:
        captions = [row.caption for row in recorded]
        scores["all recordings"] = {
            "share": round(sum(row.verdict == "right" for row in recorded) / len(recorded), 4),
            "of": len(recorded),
            **calibration(recorded),
            "distinct_captions": round(len(set(captions)) / len(captions), 4),
            "words": len({word for caption in captions for word in caption.lower().strip(".").split()}),
        }
    return scores


def write_confusions(rows: Sequence[Heard], path: Path) -> list[tuple[str, int, int, str]]:
    """A row for each kind: how many of how many are right, and what it is most often taken for."""
    table = []
    for kind in sorted({row.truth for row in rows}):
        own = [row for row in rows if row.truth == kind]
        taken = Counter(row.named or "nothing" for row in own if row.verdict != "right")
        most = ", ".join(f"{name} ({number})" for name, number in taken.most_common(3))
        table.append((kind, sum(row.verdict == "right" for row in own), len(own), most))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "right", "of", "taken for"))
        writer.writerows(table)
    return table


def plot_confusion(rows: Sequence[Heard], path: Path) -> None:
    """How often what is heard of one category is said to be of another, or of the same one but another kind."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [*CATEGORIES, "none"]
    counts = np.zeros((len(names), len(names) + 1))
    for row in rows:
        if "+" in row.truth:
            continue
        heard = names.index(KINDS[row.truth].category)
        if row.verdict == "right":
            counts[heard, len(names)] += 1
        else:
            said = {KINDS[kind].category for kind in row.named.split("+") if kind} or {"none"}
            for category in said:
                counts[heard, names.index(category)] += 1 / len(said)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(10, 8), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row_, column), share in np.ndenumerate(shares):
        if share >= 0.01:
            axes.text(
                column,
                row_,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.5 else "black",
            )
    axes.set_xticks(range(len(names) + 1), [*(f"wrong: {name}" for name in names), "right"], rotation=60, ha="right")
    axes.set_yticks(range(len(names)), [f"{name} ({int(counts[i].sum())})" for i, name in enumerate(names)])
    axes.set_xlabel("named in the caption, % of a category's sounds")
    axes.set_ylabel("heard (number of sounds)")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("overrides", nargs="*", help="changes of data=world, as in the captioner's training")
    parser.add_argument("--seed", type=int, default=1000, help="of made sounds that none was trained on")
    parser.add_argument("--count", type=int, default=120, help="made sounds, and as many without a name")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    real = Path(os.environ["A2I_REAL_DATA"])
    captioner = Captioner.load(arguments.captioner)
    rows: list[Heard] = []
    sets = held_out(arguments.overrides)
    with tempfile.TemporaryDirectory() as folder:
        single = [clip for clips in sets.values() for clip in clips]
        sets |= two_at_once(single, Path(folder), captioner.sampling_rate, arguments.seed, arguments.count)
        for name, clips in sets.items():
            rows += listen(captioner, name, clips)
    rows += on_made_sounds(captioner, arguments.seed, arguments.count)
    clotho = [Clip(path.name, path, ()) for path in sorted((real / "clotho" / "evaluation").glob("*.wav"))]
    rows += listen(captioner, "Clotho", clotho)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "heard.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Heard)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    scores = summary(rows)
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    for name, values in scores.items():
        print(f"{name}: {values}")
    recorded = [row for row in rows if is_recording(row.set, row.truth)]
    write_confusions(recorded, arguments.out / "confusions.csv")
    plot_confusion([row for row in rows if row.truth], arguments.out / "confusion.png")
    for row in rows:
        if row.set == "Clotho":
            print(f"{row.name}: {row.caption} ({row.confidence:.2f})")


if __name__ == "__main__":
    main()
