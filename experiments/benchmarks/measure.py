"""What the benchmarks share: the sounds, the models, alternating repetitions, the table and the JSON record."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from a2i.data import Clip
from a2i.machine import rest_while_waiting

HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "diffusers", "lightning", "soundfile", "soxr", "numpy", "bert-score")
SECONDS = 15  # of a clip, as Clotho's shortest
RATE = 44_100  # Hz


def arguments(description: str | None, repeats: int = 3, **numbers: int) -> argparse.Namespace:
    """The command line: folders, repetitions, threads and whole numbers of the benchmark's own."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for the JSON record")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for sounds and models, kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch")
    parser.add_argument("--repeats", type=int, default=repeats, help="of each side, alternating")
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=" ")
    given = parser.parse_args()
    if rest_while_waiting():  # as our entry points do, here on both sides; PyTorch is imported already, so begin again
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def device(gpu: int) -> torch.device:
    """CUDA where it is asked for; the process ends where there is none."""
    if gpu and not torch.cuda.is_available():
        sys.exit("needs a CUDA device; nothing was measured")
    return torch.device("cuda" if gpu else "cpu")


def clips(count: int, work: Path) -> list[Clip]:
    """Clips of 15 s at 44.1 kHz, 16 bits, with five captions: three recordings of ESC-10 in a row each, where
    A2I_REAL_DATA has them, else made sounds."""
    if not os.environ.get("A2I_REAL_DATA"):
        from a2i.data.foley import Foley

        span = {"min_seconds": SECONDS, "max_seconds": SECONDS + 0.5}
        source = Foley(work / f"foley_{count}", n_train=count, n_val=1, n_test=1, sample_rate=RATE, **span)
        source.prepare()
        return source.clips("train")
    from a2i.data.esc10 import Esc10

    recorded = Esc10(Path(os.environ["A2I_REAL_DATA"]) / "esc10", captions_per_clip=5).clips("train")
    result = []
    for index in range(count):
        path = work / "joined" / f"{index:05}.wav"
        parts = [recorded[(7 * index + step) % len(recorded)] for step in (0, 1, 2)]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, np.concatenate([soundfile.read(part.path)[0] for part in parts]), RATE)
        result.append(replace(parts[0], name=path.name, path=path, start=None, end=None))
    return result


def models(work: Path, base: bool = True) -> Path:
    """A folder with AST and GPT-2 with random weights in the Hub's format, the published shapes or tiny ones to try a
    benchmark with; needs A2I_REAL_DATA for GPT-2's tokenizer."""
    folder = work / ("base" if base else "tiny")
    if not (folder / "gpt2" / "merges.txt").is_file():
        if not os.environ.get("A2I_REAL_DATA"):
            sys.exit("needs GPT-2's tokenizer: set A2I_REAL_DATA to a folder that has gpt2/vocab.json and merges.txt")
        script = HERE.parent / "full_size" / "random_checkpoints.py"
        tokenizer = Path(os.environ["A2I_REAL_DATA"]) / "gpt2"
        tiny = [] if base else ["--tiny"]
        subprocess.run([sys.executable, str(script), str(folder), str(tokenizer), *tiny], check=True)
    return folder


def alternate(
    reference: Callable[[], Any], ours: Callable[[], Any], repeats: int
) -> tuple[list[float], list[float], Any, Any]:
    """Seconds of each repetition of each side, one after the other, and what they gave last. Nothing is warmed up: what
    should not count is done before."""
    times: tuple[list[float], list[float]] = ([], [])
    given: list[Any] = [None, None]
    for _ in range(repeats):
        for side, run in enumerate((reference, ours)):
            began = time.perf_counter()
            given[side] = run()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            times[side].append(time.perf_counter() - began)
    return times[0], times[1], given[0], given[1]


def report(
    name: str,
    what: str,
    given: argparse.Namespace,
    reference: list[float],
    ours: list[float],
    equal: dict[str, Any],
    **more: Any,
) -> None:
    """Print the table and write `<name>.json`. The process fails where the two sides' results are not equal.

    Args:
        name: of the record.
        what: is measured.
        given: the command line.
        reference: seconds of each repetition, or bytes.
        ours: likewise.
        equal: what was compared: `difference`, `tolerance`, and anything else worth telling.
        **more: for the record.
    """
    ratios = [theirs / mine for theirs, mine in zip(reference, ours, strict=True)]
    same = equal["difference"] <= equal["tolerance"]
    table = Table("", "median", "least", "most", title=what)
    for label, values in (("reference", reference), ("ours", ours), ("reference ÷ ours", ratios)):
        table.add_row(label, *(f"{value:.4g}" for value in (statistics.median(values), min(values), max(values))))
    Console().print(table)
    print(f"{'equal' if same else 'NOT EQUAL'}: {equal}")
    record = {
        "name": name,
        "what": what,
        "command": ["python", *sys.argv],
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()},
        "reference": reference,
        "ours": ours,
        "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "equal": {**equal, "holds": same},
        **more,
        "machine": machine(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if not same:
        sys.exit(1)


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was: above the number of cores, others were using it."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0))
    return {"cpu": cpu, "cores": cores, "threads": torch.get_num_threads(), "gpu": gpu, "load": os.getloadavg()[0]}
