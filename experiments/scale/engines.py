"""How many sounds a second infer's engines get through on the same cores.

`python experiments/scale/engines.py --clips 2000` runs `a2i.infer` on the same files with one local worker, on one core and on
all of them, with two, and on Ray with two actors, each as a program of its own, by turns. Files are copies of recordings of
A2I_REAL_DATA, else made sounds of 5 s; what is asked is the rate of the whole program, its start included.
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
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ENGINES = {
    "local, 1 worker on one core": ["workers=1"],
    "local, 1 worker": ["workers=1"],
    "local, 2 workers": ["workers=2"],
    "Ray, 2 actors": ["engine=ray", "ray.actors=2"],
}
SECONDS = 5  # of a made sound
# Of two engines, the least ratio that is wanted.
AT_LEAST = {
    ("local, 2 workers", "local, 1 worker"): 1.7,
    ("local, 2 workers", "local, 1 worker on one core"): 1.7,
    ("Ray, 2 actors", "local, 2 workers"): 0.8,
}


def files(count: int, folder: Path) -> Path:
    """A folder of so many sounds, which are few, copied: of two links to one file infer hears one."""
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
        shutil.copyfile(source, folder / f"{index:06}{source.suffix}")
    return folder


def run(sounds: Path, out: Path, more: list[str], image: str, cores: set[int]) -> dict[str, float]:
    """Seconds of the whole program on some cores, and sounds a second between its first row and its last."""
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
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # a child's are its parent's
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(0, ours)
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
    parser.add_argument("--work", type=Path, default=Path("bench/scale"), help="folder for sounds and results")
    parser.add_argument("--out", type=Path, default=Path("bench/scale/results"), help="folder for the record")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sounds = files(given.clips, (given.work / "sounds").absolute())
    out = (given.work / "out").absolute()
    record: dict[str, Any] = {"command": ["python", *sys.argv], "machine": machine(), "clips": given.clips}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
    all_cores = os.sched_getaffinity(0)
    for _ in range(given.repeats):
        for name, more in ENGINES.items():
            cores = {min(all_cores)} if name.endswith("one core") else all_cores
            found[name].append(run(sounds, out, more, given.image, cores))
            if (rows := found[name][-1]["rows"]) != given.clips:
                sys.exit(f"{name}: {rows} rows of {given.clips} sounds")
            print(name, json.dumps(found[name][-1]), flush=True)
    rates = {name: statistics.median(each["a second"] for each in found[name]) for name in ENGINES}
    record |= {"engines": found, "ratios": {}, "load": os.getloadavg()}
    for (ours, theirs), least in AT_LEAST.items():
        ratio = record["ratios"][f"{ours} ÷ {theirs}"] = rates[ours] / rates[theirs]
        print(f"{ours} ÷ {theirs}: {ratio:.2f}{'' if ratio >= least else ' MISSED'} (at least {least})")
    (given.out / "engines.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
