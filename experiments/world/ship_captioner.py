"""Put a trained captioner into the package: its heads taught anew, its minimums, its calibration and its model card.

    A2I_REAL_DATA=FOLDER python experiments/world/ship_captioner.py RUN/captioner --told told.csv --heard heard.csv \
        --keep STATES

The captioner was trained and measured with some recordings held out. What it hears with and what it writes with stay as they
are; the head that tells keywords learns anew, from all recordings, those held out among them. `told.csv` is what
`cross_validate.py` wrote of sources that the heads had not heard, `heard.csv` what `source_accuracy.py` wrote of other
recordings of those that they had: how likely keywords are where they are right, and where they are wrong. Of `heard.csv` it
writes some to `heard.md`, too.

With `--held-out FOLDER` it writes a captioner with the minimums alone, to be measured: its heads stay as they are.
"""

import argparse
import csv
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from source_accuracy import Heard, is_recording
from source_accuracy import calibration as measured
from states import fit_head, kept_states, what_is_read

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.captioner.candidates import Calibration, fit
from a2i.compose import build, plain, prepared_data_set
from a2i.paths import CONF, MINI_CAPTIONER
from a2i.training.datamodule import CaptionDataModule

EXAMPLES = ("sounds, moodist", "sounds, noice", "urban")
HEAD = """# Thirty captions of recordings that it did not learn from

Drawn at random from other recordings of apps (`moodist`), the source that was left out (`noice`) and the city, as they come, by
the captioner whose heads learnt without them; how sure it is by the calibration that ships. `ship_captioner.py` writes this
from `heard.csv` ([README](README.md)).

| recording | what it is | caption | sure | |
|---|---|---|---|---|
"""
CARD = Path(__file__).parent / "captioner_card.md"
# What none of the data holds out.
ALL = (
    "data.sources.esc10.val_fold=null",
    *("data.sources.sounds.hold_out=null", "data.sources.sounds.val_share=0"),
    *("data.sources.urban.val_share=0", "data.sources.urban.left_out=[]"),
    "data.sources.esc50.hold_out=null",
)
# Chosen on recordings that were held out, by `minimums.py`: taking one of 756 recordings of one source for two is the price.
# The network that tells two is far too sure of both: its probabilities are no shares, and this one stands near 1.
MINIMUMS = {"min_probability": 0.1, "min_probability_of_category": 0.2, "min_probability_of_two": 0.999999}


def recordings(
    captioner: Captioner, *overrides: str, held_out: bool = False
) -> tuple[dict[str, Any], CaptionDataModule]:
    """The experiment's configuration, and the recordings as it loads them: all, or without those that it holds out."""
    assert isinstance(captioner.bridge, KeywordBridge)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = plain(hydra.compose("train", ["experiment=world", *(() if held_out else ALL), *overrides]))
    loader = dict(config["loader"])
    loader.pop("inputs")
    loader["augment"] = build(loader["augment"])
    source, names, rate = prepared_data_set(config["data"]), captioner.bridge.names, captioner.sampling_rate
    datamodule = CaptionDataModule(source, captioner.tokenizer, rate, seed=config["seed"], labels=names, **loader)
    datamodule.setup("fit")
    return config, datamodule


def teach(captioner: Captioner, keep: Path) -> None:
    """Teach the head from all recordings, as they are and changed as in training, but for mixing."""
    assert isinstance(captioner.bridge, KeywordBridge)
    config, datamodule = recordings(captioner, "loader.augment.mix=0")
    states = kept_states(keep, captioner, config, datamodule)
    halves = [what_is_read(captioner.bridge, half) for half in states]
    fit_head(captioner.bridge, halves, datamodule.clips["train"], config["training"])


def with_minimums(folder: Path) -> Captioner:
    """The captioner of a folder, with `MINIMUMS`."""
    captioner = Captioner.load(folder)
    assert isinstance(captioner.bridge, KeywordBridge)
    captioner.bridge.settings |= MINIMUMS
    return captioner


def calibrated(rows: Sequence[dict[str, str]]) -> Calibration:
    """Fitted on recordings of sources that the heads had not heard, and of those that they had: nobody knows of which sort is
    what people drop on a captioner."""
    return fit([float(row["evidence"]) for row in rows], [row["verdict"] != "wrong" for row in rows])


def source(set_: str) -> str:
    """Of a set of `told.csv` or `heard.csv`, which may hold the same recordings."""
    return set_.removeprefix("all of ").removeprefix("sounds, ")


def confident(rows: Sequence[dict[str, str]]) -> dict[str, list[Heard]]:
    """The rows by their set, with the confidence that is fitted on all sources but theirs."""
    found = {}
    for name in sorted({row["set"] for row in rows}):
        calibration = calibrated([row for row in rows if source(row["set"]) != source(name)])
        found[name] = [
            Heard(
                *(name, row["name"], row["truth"], "", row["named"], row["verdict"], float(row["evidence"])),
                calibration.confidence(float(row["evidence"])),
            )
            for row in rows
            if row["set"] == name
        ]
    return found


def write_examples(rows: Sequence[dict[str, str]], calibration: Calibration, path: Path) -> None:
    """Thirty captions of recordings of apps, of the source that was left out and of the city, by chance, as they come."""
    some = [row for row in rows if row["set"] in EXAMPLES]
    lines = [
        f"| {Path(row['name']).stem} | {row['truth'].replace('_', ' ')} | {row['caption']} |"
        f" {calibration.confidence(float(row['evidence'])):.0%} | {row['verdict']} |".replace("% |", " % |")
        for row in sorted(random.Random(0).sample(some, 30), key=lambda row: (row["set"], row["name"]))
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--told", type=Path, help="told.csv of the captioner, from cross_validate.py")
    parser.add_argument("--heard", type=Path, help="heard.csv of the captioner, from source_accuracy.py")
    parser.add_argument("--keep", type=Path, help="file of the encoder's states, made where it is not there")
    parser.add_argument("--held-out", type=Path, help="write here a captioner that learns nothing more, to be measured")
    arguments = parser.parse_args()
    captioner = with_minimums(arguments.captioner)
    if arguments.held_out:
        captioner.save(arguments.held_out, "# To be measured\n")
        return
    if not (arguments.told and arguments.heard and arguments.keep and os.environ.get("A2I_REAL_DATA")):
        parser.error("expected --told, --heard, --keep and the environment variable A2I_REAL_DATA, or --held-out")
    told = read(arguments.told)
    heard = [row for row in read(arguments.heard) if is_recording(row["set"], row["truth"])]
    captioner.calibration = calibrated(told + heard)
    print(f"{captioner.calibration}, of {len(told + heard)} recordings")
    sets = confident(told + heard)
    left_out = {row["set"] for row in told}
    for name, rows in {
        "sources that it never heard": [row for each in left_out for row in sets[each]],
        "others": [row for each in sets if each not in left_out for row in sets[each]],
        **sets,
    }.items():
        print(f"{name}, {len(rows)} recordings, with the confidence that is fitted on other sources: {measured(rows)}")
    teach(captioner, arguments.keep)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "captioner"
        captioner.eval().save(made, CARD.read_text(encoding="utf-8"), torch.float16)
        shutil.rmtree(MINI_CAPTIONER)
        shutil.copytree(made, MINI_CAPTIONER)
    write_examples(heard, captioner.calibration, CARD.parent / "heard.md")
    size = sum(file.stat().st_size for file in MINI_CAPTIONER.rglob("*") if file.is_file())
    print(f"{MINI_CAPTIONER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
