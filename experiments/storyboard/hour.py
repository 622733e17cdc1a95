"""How long a storyboard of an hour of sound takes without pictures, and how much memory, against a minute and ten.

    A2I_REAL_DATA=FOLDER python experiments/storyboard/hour.py --work FOLDER --out hour.json

The sound is made of real pieces of 3 to 20 s, with cross-fades and backgrounds among them: ten minutes, six times over for the
hour. Each length is a process of its own: `python -m a2i.infer audio=… storyboard=true image=none`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from joined import RATE, joined, real_data, sources


def made(minutes: int, work: Path) -> Path:
    """A recording of so many minutes; the shorter ones are the longer one's beginning."""
    path, part = work / f"{minutes}_minutes.flac", work / f"{minutes}_minutes.part"
    if path.exists():
        return path
    left = minutes * 60 * RATE
    with soundfile.SoundFile(part, "w", RATE, 1, format="FLAC") as file:
        while left:
            samples = ten_minutes(work)[:left]
            file.write(samples)
            left -= len(samples)
    return part.rename(path)


@cache
def ten_minutes(work: Path) -> np.ndarray:
    """(samples,) float32 of pieces."""
    path, length, some, joined_so_far = work / "pieces.npy", 600 * RATE, [], 0
    if not path.exists():
        found = sources(real_data(), "reporting")
        for seed in count(100):
            some.append(joined(found, seed).samples.astype(np.float32))
            joined_so_far += len(some[-1])
            if joined_so_far >= length:
                break
        np.save(path, np.concatenate(some)[:length])
    return np.load(path)


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
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60], help="of each recording")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    record = {}
    for minutes in given.minutes:
        record[f"{minutes} min"] = found = measured(made(minutes, given.work), given.work)
        print(f"{minutes} min: " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True)
        given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
