"""The local engine over ten thousand files: memory, files a second, and what a kill in the middle costs.

    python experiments/scale/ten_thousand.py --work FOLDER [--files 10000] [--workers 2] [--kill-after SECONDS]

The files are made here: half a second of tones and noise each. `python -m a2i.infer … image=none workers=N` works through them.
With `--kill-after` all its processes are killed (SIGKILL) so long after their first row, and the same command goes on. Printed,
and kept in FOLDER as `ten_thousand.json` and `memory.png`: rows, rows twice, files without one, seconds, memory.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import numpy as np
import soundfile

RATE, LENGTH = 22_050, 11_025
EVERY = 2.0  # seconds between two looks at the memory


def main() -> None:
    """Make, run, count, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for sounds, results, figures")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-after", type=float, help="seconds after the first row; none where it is not given")
    asked = parser.parse_args()
    sounds, out = asked.work / "sounds", asked.work / "out"
    make(sounds, asked.files)
    command = [sys.executable, "-m", "a2i.infer", f"audio={sounds}", "image=none", f"out={out}", "device=cpu"]
    command.append(f"workers={asked.workers}")
    runs = [run(command, out, asked.kill_after)] if asked.kill_after else []
    killed_with = rows_of(out)
    runs.append(run(command, out, None))
    rows = rows_of(out)
    names = Counter(row["audio_file"]["name"] for row in rows)
    told = {
        "files": asked.files,
        "workers": asked.workers,
        "rows": len(rows),
        "rows_twice": sum(count - 1 for count in names.values()),
        "files_without_row": asked.files - len(names),
        "errors": sum(row["error"] is not None for row in rows),
        "rows_when_killed": len(killed_with) if asked.kill_after else None,
        "kept_as_they_were": set(map(json.dumps, killed_with)) <= set(map(json.dumps, rows)),
        "runs": runs,
        "load": os.getloadavg()[1],
    }
    (asked.work / "ten_thousand.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
    plot(runs, asked.work / "memory.png")
    for one in runs:
        one["memory"] = [one["memory"][0], max(one["memory"], key=lambda pair: pair[1]), one["memory"][-1]]
    print(json.dumps(told, indent=1))


def make(folder: Path, files: int) -> None:
    """Sounds of different pitch and noise, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    random, times = np.random.default_rng(0), np.arange(LENGTH) / RATE
    for index in range(files):
        pitch, noise, level = random.uniform(80, 4000), random.uniform(0, 0.3), random.normal(size=LENGTH)
        if not (path := folder / f"{index:06}.wav").exists():
            soundfile.write(path, 0.4 * np.sin(2 * np.pi * pitch * times) + noise * 0.3 * level, RATE)


def run(command: list[str], out: Path, kill_after: float | None) -> dict:
    """Seconds, rows a second, and (seconds, bytes) of memory while it ran."""
    before = len(rows_of(out))
    began, memory, first = time.monotonic(), [], None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        time.sleep(EVERY)
        memory.append((round(time.monotonic() - began, 1), resident(process.pid)))
        if first is None and (out / "results.jsonl").exists() and len(rows_of(out)) > before:
            first = time.monotonic()
        if kill_after and first is not None and time.monotonic() - first > kill_after:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seconds = time.monotonic() - began
    made = len(rows_of(out)) - before
    return {"seconds": round(seconds, 1), "rows": made, "status": process.returncode, "memory": memory}


def rows_of(out: Path) -> list[dict]:
    """Those that are whole."""
    path = out / "results.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in lines[:-1]]


def resident(session: int) -> int:
    """Bytes that all processes of a session hold; what they share counts once for each. Decoders have sessions of their own."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def plot(runs: list[dict], path: Path) -> None:
    """Memory over time."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for index, one in enumerate(runs):
        seconds, held = zip(*one["memory"], strict=True)
        axes.plot(seconds, np.array(held) / 1e9, label="killed" if index + 1 < len(runs) else "to the end")
    axes.set(xlabel="seconds", ylabel="memory of all processes, GB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
