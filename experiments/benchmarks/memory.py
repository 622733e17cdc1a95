"""Peak memory of `a2i.infer` for a long recording against one minute of it, captions by the embedded model, in bytes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from measure import RATE, arguments, clips, report


def minutes(count: int, work: Path) -> Path:
    """The same minute, so many times."""
    path = work / f"{count}_minutes.wav"
    if not path.exists():
        minute = np.concatenate([soundfile.read(clip.path)[0] for clip in clips(4, work)])[: 60 * RATE]
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for _ in range(count):
                file.write(np.pad(minute, (0, 60 * RATE - len(minute))))
    return path


def peak(sound: Path) -> tuple[float, dict]:
    """Peak resident memory of the process in bytes, and its result."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "a2i.infer", f"audio={sound}", "image=none", f"out={out}", "device=cpu"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}")
        return usage.ru_maxrss * 1024.0, json.loads((Path(out) / "results.jsonl").read_text())


def main() -> None:
    given = arguments(__doc__, repeats=2, minutes=60)
    short, long = minutes(1, given.work), minutes(given.minutes, given.work)
    of_short, of_long = [], []
    for _ in range(given.repeats):
        bytes_, minute = peak(short)
        of_short.append(bytes_)
        bytes_, hour = peak(long)
        of_long.append(bytes_)
    differing = sum(part["caption"] != minute["caption"] for part in hour["parts"])
    equal = {
        "difference": differing,
        "tolerance": 0,
        "of": "minutes of the long one with another caption than the short",
    }
    ratios = [long / short for long, short in zip(of_long, of_short, strict=True)]
    what = f"peak memory, one minute (as reference) and {given.minutes} (as ours), bytes"
    report("memory", what, given, of_short, of_long, equal, long_by_short=ratios)
    print(f"{given.minutes} minutes take {max(ratios):.2f} of what one takes")


if __name__ == "__main__":
    main()
