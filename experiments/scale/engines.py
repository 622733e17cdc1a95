"""How many sounds a second infer's engines get through on the same cores, and how much memory the local one takes meanwhile.

`python experiments/scale/engines.py --clips 2000` runs `a2i.infer` on the same files with one local worker, with two, and on
Ray with two actors, each as a program of its own, by turns. `--memory --clips 10000` runs the local engine alone and draws the
memory of its processes over time. Files are recordings of A2I_REAL_DATA under many names, else made sounds of 5 s.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ENGINES = {
    "local, 1 worker": ["workers=1"],
    "local, 2 workers": ["workers=2"],
    "Ray, 2 actors": ["engine=ray", "ray.actors=2"],
}
SECONDS = 5  # of a made sound
EVERY = 2.0  # seconds between two looks at the memory
AT_LEAST = {"local, 2 workers ÷ 1": 1.7, "Ray ÷ local, 2 workers": 0.8}


def files(count: int, folder: Path) -> Path:
    """A folder of so many sounds, which are links to a few."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if os.environ.get("A2I_REAL_DATA"):
        found = sorted(Path(os.environ["A2I_REAL_DATA"], "esc10").rglob("*.ogg"))
    else:
        import numpy as np
        import soundfile

        made = folder.parent / "made"
        made.mkdir(exist_ok=True)
        for index in range(20):
            noise = np.random.default_rng(index).normal(0, 0.1, SECONDS * 44_100).astype(np.float32)
            soundfile.write(made / f"{index}.flac", noise, 44_100)
        found = sorted(made.iterdir())
    for index in range(count):
        source = found[index % len(found)].resolve()
        (folder / f"{index:06}{source.suffix}").symlink_to(source)
    return folder


def run(sounds: Path, out: Path, more: list[str], image: str) -> dict[str, float]:
    """Seconds of the whole program, and sounds a second between its first row and its last."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "a2i.infer",
        f"audio={sounds}",
        f"out={out}",
        f"image={image}",
        "device=cpu",
        *more,
    ]
    began, times = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(re.escape(str(sounds)) + r"/\d+\.\w+: ", line):
                times.append(time.monotonic() - began)
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with the exit status {process.returncode}")
    # Rows may come many at a time: those that came with the first ones were made before.
    later = [moment for moment in times if moment > times[0] + 0.5]
    steady = len(later) / (later[-1] - times[0]) if later else float("nan")
    return {
        "rows": len(times),
        "seconds": seconds,
        "first row": times[0],
        "a second": len(times) / seconds,
        "steady": steady,
    }


def memory_of(process: int) -> dict[str, int]:
    """Bytes of memory of a process and of those that it started: all of them together, and the largest."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            parents[int(folder.name)] = int(status["PPid"])
            sizes[int(folder.name)] = int(status.get("VmRSS", "0 kB").split()[0]) << 10
        except (OSError, KeyError, ValueError):
            continue
    family = {process}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    each = [sizes.get(one, 0) for one in family]
    return {"all": sum(each), "largest": max(each)}


def watch(sounds: Path, out: Path, more: list[str], image: str) -> list[dict[str, float]]:
    """The memory of the local engine, every two seconds until it ends; with the rows that were there by then."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "a2i.infer",
        f"audio={sounds}",
        f"out={out}",
        f"image={image}",
        "device=cpu",
        *more,
    ]
    began, found, rows = time.monotonic(), [], [0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def count() -> None:
            for line in process.stdout or ():
                rows[0] += line.startswith(str(sounds))

        thread = threading.Thread(target=count)
        thread.start()
        while process.poll() is None:
            found.append({"seconds": time.monotonic() - began, "rows": rows[0], **memory_of(process.pid)})
            time.sleep(EVERY)
        thread.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with the exit status {process.returncode}")
    return found


def plot(found: list[dict[str, float]], path: Path) -> None:
    """Memory over the rows that are done."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    rows = [each["rows"] for each in found]
    axes.plot(rows, [each["all"] / 2**30 for each in found], label="all processes")
    axes.plot(rows, [each["largest"] / 2**30 for each in found], label="the largest")
    axes.set(xlabel="sounds done", ylabel="memory, GiB", ylim=(0, None), title="Memory of infer, local engine")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = {name: version(name) for name in ("torch", "ray", "pyarrow")}
    cores = len(os.sched_getaffinity(0))
    return {"platform": platform.platform(), "cores": cores, "python": platform.python_version()} | packages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000, help="sounds")
    parser.add_argument("--repeats", type=int, default=1, help="of each engine, by turns")
    parser.add_argument("--image", default="mini", help="picture model; none for captions alone")
    parser.add_argument(
        "--memory", action="store_true", help="the local engine's memory in place of the engines' speed"
    )
    parser.add_argument("--workers", type=int, default=2, help="of the local engine, with --memory")
    parser.add_argument("--work", type=Path, default=Path("bench/scale"), help="folder for sounds and results")
    parser.add_argument("--out", type=Path, default=Path("bench/scale/results"), help="folder for the record")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sounds = files(given.clips, (given.work / "sounds").absolute())
    out = (given.work / "out").absolute()
    record: dict[str, Any] = {"command": ["python", *sys.argv], "machine": machine(), "clips": given.clips}
    if given.memory:
        record["memory"] = watch(sounds, out, [f"workers={given.workers}"], given.image)
        plot(record["memory"], given.out / "memory.png")
        half = record["memory"][len(record["memory"]) // 2]
        last = record["memory"][-2:][0]
        for name in ("all", "largest"):
            print(f"{name}: {half[name] / 2**20:,.0f} MiB halfway, {last[name] / 2**20:,.0f} MiB at the end")
    else:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
        for _ in range(given.repeats):
            for name, more in ENGINES.items():
                found[name].append(run(sounds, out, more, given.image))
                print(name, json.dumps(found[name][-1]), flush=True)
        one, two, ray = (statistics.median(each["a second"] for each in found[name]) for name in ENGINES)
        ratios = dict(zip(AT_LEAST, (two / one, ray / two), strict=True))
        record |= {"engines": found, "ratios": ratios}
        for name, ratio in ratios.items():
            print(f"{name}: {ratio:.2f}{'' if ratio >= AT_LEAST[name] else ' MISSED'} (at least {AT_LEAST[name]})")
    name = "memory.json" if given.memory else "engines.json"
    (given.out / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
