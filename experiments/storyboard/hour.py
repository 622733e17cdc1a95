"""How long a storyboard of an hour of sound takes without pictures, and how much memory, against a minute and ten.

    A2I_REAL_DATA=FOLDER python experiments/storyboard/hour.py --work FOLDER --out hour.json

The sound is made of real pieces of 3 to 20 s, some of whose boundaries are cross-fades; some have a background. Each
length is a process of its own: `python -m a2i.infer audio=… storyboard=true image=none`, with all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from joined import RATE, joined, real_data, sources
from rich.progress import Progress

MINUTES = (1, 10, 60)


def made(minutes: int, work: Path) -> Path:
    """A recording of so many minutes; the shorter ones are the longer one's beginning."""
    path, longest = work / f"{minutes}_minutes.flac", work / f"{MINUTES[-1]}_minutes.flac"
    if path.exists():
        return path
    if minutes < MINUTES[-1]:
        soundfile.write(path, soundfile.read(longest, minutes * 60 * RATE, dtype="float32")[0], RATE)
        return path
    found, left, part = sources(real_data(), "reporting"), minutes * 60 * RATE, path.with_suffix(".part")
    with soundfile.SoundFile(part, "w", RATE, 1, format="FLAC") as file, Progress() as bar:
        task = bar.add_task("joining", total=left)
        for seed in count(100):
            samples = joined(found, seed).samples[:left]
            file.write(samples.astype(np.float32))
            left -= len(samples)
            bar.advance(task, len(samples))
            if not left:
                break
    return part.rename(path)


def measured(sound: Path, work: Path) -> dict[str, Any]:
    """Wall clock and processor seconds, peak memory in bytes, and what became of it."""
    out = work / f"out_{sound.stem}"
    command = [sys.executable, "-m", "a2i.infer", f"audio={sound}", "storyboard=true", "image=none", f"out={out}"]
    load, began = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen([*command, "device=cpu", "again=true"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    (row,) = map(json.loads, (out / "results.jsonl").read_text(encoding="utf-8").splitlines())
    return {
        "wall_seconds": time.perf_counter() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "scenes": len(row["scenes"]),
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


def main() -> None:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for the sounds and the results, kept")
    parser.add_argument("--out", type=Path, default=Path("hour.json"), help="the record")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sounds = [made(minutes, given.work) for minutes in sorted(MINUTES, reverse=True)][::-1]
    record = {}
    for minutes, sound in zip(MINUTES, sounds, strict=True):
        record[f"{minutes} min"] = found = measured(sound, given.work)
        print(f"{minutes} min: " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True)
        given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
