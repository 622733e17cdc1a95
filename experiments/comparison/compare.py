"""The systems side by side, from the run folders of a sweep: a table, a plot of score against cost, captions to read.

    A2I_REAL_DATA=FOLDER python experiments/comparison/compare.py runs/comparison/sweep_… --out FOLDER

Every run hears the fold of ESC-10 that it was not trained on, and made sounds that none was: one source, two at once, one after
the other. What came of it stays in the run's folder as `comparison.json`, so that an interruption loses no more than a run.
Figures are means over the runs with their standard deviation: over the seeds where one fold is held out (`--folds 4`), over the
folds where a seed is cross-validated (`--seeds 0`).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "mini"))
from cost import measure
from order import says_in_order
from show import write
from source_accuracy import Heard, listen

from a2i.captioner import Captioner
from a2i.captioner.folder import SETTINGS_FILE
from a2i.data import Clip
from a2i.data.esc10 import Esc10
from a2i.data.esc10_captions import LABELS
from a2i.data.foley import Foley
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.scoring import score
from a2i.training.curves import read_metrics

RESULT = "comparison.json"
SEED, SECONDS = 1000, 7.0  # of made sounds that none was trained on, and the longest


def find_runs(folders: list[Path]) -> list[Path]:
    """Finished runs: the folders themselves, or those within them."""
    found = [run for folder in folders for run in (folder, *sorted(folder.iterdir())) if _finished(run)]
    if not found:
        raise SystemExit(
            f"no finished run in {', '.join(map(str, folders))}; expected run folders, or a sweep's folder"
        )
    return found


def _finished(run: Path) -> bool:
    return (run / "captioner" / SETTINGS_FILE).is_file() and (run / "config.yaml").is_file()


def examine(run: Path, made: Foley, bertscore: BERTScore) -> dict[str, Any]:
    """All that is said of one run."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    overrides = yaml.safe_load((run / "overrides.yaml").read_text(encoding="utf-8"))
    chosen = dict(item.split("=", 1) for item in overrides if "=" in item)
    captioner = Captioner.load(run / "captioner")
    cost = measure(captioner)
    steps = max(step for step, _ in read_metrics(run)["val/loss"]) + 1
    settings = config["data"]["sources"]["esc10"]
    esc10 = Esc10(**{name: value for name, value in settings.items() if name != "_target_"})
    kinds = {name: frozenset({LABELS[kind]}) for name, kind in esc10.kinds("val").items()}
    recordings = listen(captioner, "ESC-10", esc10.clips("val"), kinds)
    heard = made.sources_in("test")
    sounds = listen(captioner, "made", made.clips("test"), {name: frozenset(heard[name]) for name in heard})
    return {
        "system": chosen.get("model", config["name"]),
        "seed": config["seed"],
        "fold": settings["val_fold"],
        "steps": steps,
        "cost": asdict(cost) | {"epoch_seconds": cost.step_seconds * steps / config["trainer"]["max_epochs"]},
        "counts": {"ESC-10": _count(recordings)} | _made_counts(sounds, heard),
        "scores": {
            "ESC-10": _scores(recordings, esc10.clips("val"), bertscore),
            "made": _scores(sounds, made.clips("test"), bertscore),
        },
        "captions": {row.name: row.caption for row in (*recordings, *sounds)},
        "truths": {row.name: row.truth for row in (*recordings, *sounds)},
    }


def _made_counts(rows: list[Heard], heard: dict[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """How many are right of each kind of scene, and how many of the sequences are told in their order."""
    scenes: dict[str, list[Heard]] = {"one source": [], "two at once": [], "one after the other": []}
    for row in rows:
        kind = (
            "one source"
            if len(heard[row.name]) == 1
            else "two at once"
            if "_and_" in row.name
            else "one after the other"
        )
        scenes[kind].append(row)
    sequences = scenes["one after the other"]
    ordered = sum(row.right and says_in_order(row.caption, *heard[row.name]) for row in sequences)
    return {kind: _count(some) for kind, some in scenes.items()} | {"in order": [ordered, len(sequences)]}


def _count(rows: list[Heard]) -> list[int]:
    return [sum(row.right for row in rows), len(rows)]


def _scores(rows: list[Heard], clips: list[Clip], bertscore: BERTScore) -> dict[str, float | None]:
    references = {clip.name: clip.captions for clip in clips}
    captions = [row.caption for row in rows]
    scored = score(captions, [references[row.name] for row in rows], ("bertscore", "cider_d"), bertscore, samples=0)
    return {name: scored.scores[name].value for name in ("bertscore_f1", "cider_d", "distinct")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or a sweep's folder")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for table.md, results.json, plot.png, captions.md"
    )
    parser.add_argument("--count", type=int, default=120, help="made sounds to hear")
    parser.add_argument("--seeds", type=int, nargs="+", help="only runs of these")
    parser.add_argument("--folds", type=int, nargs="+", help="only runs that hold out these")
    parser.add_argument("--again", action="store_true", help="hear again what was heard already")
    arguments = parser.parse_args()
    results = []
    bertscore = BERTScore()
    with tempfile.TemporaryDirectory() as folder:
        made = Foley(Path(folder), n_train=1, n_val=1, n_test=arguments.count, seed=SEED, max_seconds=SECONDS)
        made.prepare()
        for run in find_runs(arguments.runs):
            config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
            seed, fold = config["seed"], config["data"]["sources"]["esc10"]["val_fold"]
            if seed not in (arguments.seeds or [seed]) or fold not in (arguments.folds or [fold]):
                continue
            file = run / RESULT
            known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            if arguments.again or known.get("made_sounds") != arguments.count:
                print(run)
                known = examine(run, made, bertscore) | {
                    "made_sounds": arguments.count,
                    "bertscore": bertscore.settings,
                }
                file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
            results.append(known)
    write(results, arguments.out)


if __name__ == "__main__":
    main()
