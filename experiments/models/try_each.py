"""Every captioner and every picture model by name, with tiny random weights in its own format, through `infer` and `evaluate`.

    python experiments/models/try_each.py [--work FOLDER]

Each command runs as a user would run it, in a process of its own and without a network. Prints one table of what was run:
a model's name, the exit status of `a2i.infer` and of `a2i.evaluate`, how many of three sounds were captioned, drawn and scored,
and the seconds that both took. What tiny random weights say means nothing; that they are loaded, heard and scored is the point.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # what makes models of each format is theirs

import painters  # noqa: E402
from pretrained_models import make_audio_flamingo3, make_qwen2_5_omni, make_qwen2_audio, make_whisper  # noqa: E402

CAPTIONERS = {
    "whisper_tiny": make_whisper,
    "whisper_small": make_whisper,
    "whisper_large": make_whisper,
    "qwen2_audio": make_qwen2_audio,
    "qwen2_5_omni": make_qwen2_5_omni,
    "audio_flamingo3": make_audio_flamingo3,
}
COUNT = 3  # sounds
SIZE = ["image.width=32", "image.height=32", "image.steps=2"]
EMBEDDED = ROOT / "a2i" / "assets" / "captioner"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for models and results; without it a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        made = ["a2i.data.foley", str(work / "sounds"), "--count", str(COUNT), "--seed", "1", "--alone"]
        run(made, work / "foley.txt")
        models = {name: make(work / name) for name, make in CAPTIONERS.items()}
        chosen = {"mini": ["captioner=mini"], "folder": [f"captioner={EMBEDDED}"]}
        chosen |= {name: [f"captioner={name}", f"captioner.model={folder}"] for name, folder in models.items()}
        captioned = [
            tried(name, [*options, "decoding.max_tokens=8"], ["image=none"], work)
            for name, options in track(chosen.items(), "captioners", console=Console(stderr=True))
        ]
        drawn = []
        for name in track(["mini", *painters.MAKERS], "picture models", console=Console(stderr=True)):
            image = [f"image={name}"]
            if name != "mini":
                made = painters.make(name, work / f"{name}_painter")
                image += [f"image.model={made}", "image.revision=null", "image.variant=null", *SIZE]
            if name == "sd15_lcm":
                made = painters.make_lora(work / "lora.safetensors")
                image += [f"image.lora={made}", "image.lora_revision=null"]
            drawn.append(tried(f"{name}_painter", ["captioner=mini"], image, work))
    show("captioner=", captioned)
    show("image=", drawn)
    if any(each["infer"] or each["evaluate"] for each in captioned + drawn):
        sys.exit(1)


def tried(name: str, captioner: list[str], image: list[str], work: Path) -> dict[str, int | float | str]:
    """Run both programs with a model."""
    began, out, scores = time.perf_counter(), work / f"{name}_out", work / f"{name}_scores"
    infer = run(
        ["a2i.infer", f"audio={work / 'sounds'}", *captioner, *image, f"out={out}", "device=cpu"],
        out.with_suffix(".txt"),
    )
    data = ["data=foley", f"data.root={work / 'foley'}", "data.n_train=1", "data.n_val=1", f"data.n_test={COUNT}"]
    quick = ["metrics=[rouge_l]", "bootstrap_samples=50", "device=cpu"]
    evaluate = run(["a2i.evaluate", *captioner, *image, *data, *quick, f"out={scores}"], scores.with_suffix(".txt"))
    results, clips = out / "results.jsonl", scores / "captions.csv"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    scored = list(csv.DictReader(clips.open(encoding="utf-8"))) if clips.exists() else []
    return {
        "name": name.removesuffix("_painter"),
        "infer": infer,
        "captioned": sum(row["error"] is None and bool(row["candidates"]) for row in rows),
        "drawn": sum(bool(row["image"]) and Path(row["image"]).exists() for row in rows),
        "evaluate": evaluate,
        "scored": sum(bool(row.get("rouge_l")) for row in scored),
        "seconds": time.perf_counter() - began,
    }


def run(arguments: list[str], log: Path) -> int:
    """The exit status of a program, whose output goes to a file."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as file:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode


def show(setting: str, rows: list[dict[str, int | float | str]]) -> None:
    table = Table(setting, "infer", "captioned", "drawn", "evaluate", "scored", "seconds")
    for row in rows:
        *cells, seconds = row.values()
        table.add_row(*(str(cell) for cell in cells), f"{seconds:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
