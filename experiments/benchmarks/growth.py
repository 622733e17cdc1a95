"""Time and peak memory of prepare, train, evaluate and infer as the data grows, on made sounds; a table, JSON and a plot.

    python experiments/benchmarks/growth.py [--counts 100 1000 6000] [--seconds 5]

Every entry point runs as a user runs it, in a process of its own, with the mini models. The sounds are made before. Each
runs on fresh folders; training takes one epoch and one validation of a tenth of the clips, and captions are greedy. Time is
the processor's, of the process and those that it starts, so that it holds on a machine that does other things too.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from measure import HERE, machine
from rich.console import Console
from rich.table import Table

STAGES = ("prepare", "train", "evaluate", "infer")


def run(module: str, *arguments: str) -> tuple[float, float]:
    """Processor seconds of an entry point and its children, and peak resident bytes of the largest of them."""
    process = subprocess.Popen([sys.executable, "-m", f"a2i.{module}", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a2i.{module} {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0


def measure(count: int, seconds: float, work: Path) -> dict[str, tuple[float, float]]:
    """All four at one size."""
    few = max(count // 10, 2)
    data = ["data=foley", f"data.root={work / 'sounds'}", f"data.n_train={count}", f"data.n_val={few}"]
    data += [f"data.n_test={count}", f"data.min_seconds={seconds}", f"data.max_seconds={seconds + 0.5}"]
    subprocess.run([sys.executable, "-m", "a2i.prepare", *data, "cache=null"], check=True, stdout=subprocess.DEVNULL)
    cache = work / "cache"
    found = {"prepare": run("prepare", *data, f"cache={cache}", "splits=[train,val]")}
    found["train"] = run(
        *("train", "experiment=mini", *data, f"loader.cache={cache}", "loader.num_workers=0", "logger=csv"),
        *("trainer=cpu", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "bertscore=null"),
        *("training.labels_first=0", f"hydra.run.dir={work / 'run'}"),
    )
    greedy = ["decoding.num_beams=1", "decoding.num_candidates=1", "device=cpu"]
    captioner = f"captioner={work / 'run' / 'captioner'}"
    found["evaluate"] = run(
        *("evaluate", captioner, *data, "metrics=[bleu_1,rouge_l]", "bootstrap_samples=0", "report.sounds=false"),
        *(f"out={work / 'evaluation'}", *greedy),
    )
    sounds = f"audio={work / 'sounds' / 'evaluation'}"
    found["infer"] = run("infer", sounds, captioner, "image=none", f"out={work / 'out'}", *greedy)
    return found


def plot(results: dict[int, dict[str, tuple[float, float]]], path: Path) -> None:
    """Time, which should be linear, and memory, which should be flat."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for stage in STAGES:
        counts = list(results)
        axes[0].plot(counts, [results[count][stage][0] for count in counts], "o-", label=stage)
        axes[1].plot(counts, [results[count][stage][1] / 1e9 for count in counts], "o-", label=stage)
    for axis, name in zip(axes, ("processor seconds", "peak memory in GB"), strict=True):
        axis.set(xlabel="clips", ylabel=name, xlim=(0, None), ylim=(0, None))
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 6000])
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip, 3 or more")
    parser.add_argument("--work", type=Path, default=Path("bench/growth"), help="emptied at each size")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results: dict[int, dict[str, tuple[float, float]]] = {}
    table = Table("clips", *(f"{stage}, processor s · GB" for stage in STAGES))
    for count in given.counts:
        shutil.rmtree(given.work / str(count), ignore_errors=True)
        results[count] = measure(count, given.seconds, given.work / str(count))
        table.add_row(str(count), *(f"{results[count][s][0]:.1f} · {results[count][s][1] / 1e9:.2f}" for s in STAGES))
        record = {"seconds_of_a_clip": given.seconds, "results": results, "machine": machine()}
        (given.out / "growth.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        plot(results, given.out / "growth.png")
    Console().print(table)


if __name__ == "__main__":
    main()
