"""How late captions stand, and what memory does, while `python -m a2i.listen` hears a file in real time.

    python experiments/live/latency.py SOUNDS --minutes 60 --out FOLDER [key=value ...]

SOUNDS is a folder of recordings, which are joined in a random order. The program runs as a user runs it; beside it this script
reads, every ten seconds, its memory (RSS), its processor time and the machine's load. `latency.json` holds all of it, and the
last line is the table's row. Linux only.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from a2i import audio

RATE = 44_100  # Hz, of the joined recording
EVERY = 10.0  # seconds from one look at the process to the next
TICKS = os.sysconf("SC_CLK_TCK")


def join(sounds: Path, file: Path, minutes: float, seed: int = 0) -> None:
    """Write recordings one behind the other, again and again, until the file is so long."""
    paths = sorted(path for path in sounds.rglob("*") if path.suffix in audio.SUFFIXES)
    draw, left = random.Random(seed), round(minutes * 60 * RATE)
    with soundfile.SoundFile(file, "w", RATE, 1) as joined:
        while left:
            piece = audio.load(draw.choice(paths), RATE)[:left]
            joined.write(piece)
            left -= len(piece)


def look(process: int) -> dict[str, float]:
    """A process's memory in MB, its processor seconds, and the machine's load."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return {
        "time": time.time(),
        "rss": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "cpu": (int(fields[11]) + int(fields[12])) / TICKS,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("latency"))
    given, overrides = parser.parse_known_args()
    given.out.mkdir(parents=True, exist_ok=True)
    looks: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as work:
        joined = Path(work) / "joined.flac"
        join(given.sounds, joined, given.minutes)
        program = [sys.executable, "-m", "a2i.listen", f"audio={joined}", f"out={work}/live", *overrides]
        with (given.out / "listen.txt").open("w") as said, subprocess.Popen(program, stdout=said) as listening:
            while listening.poll() is None:
                try:
                    looks.append(look(listening.pid))
                except (FileNotFoundError, IndexError):  # it ends just now
                    break
                time.sleep(EVERY)
        rows = [json.loads(line) for line in (Path(work) / "live" / "captions.jsonl").read_text().splitlines()]
        pictures = len(list((Path(work) / "live").glob("*.png")))
    found = summary(rows, looks) | {"pictures": pictures, "status": listening.returncode}
    record = {"command": sys.argv, "cores": os.cpu_count(), "found": found, "rows": rows, "looks": looks}
    (given.out / "latency.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(json.dumps(found))


def summary(rows: list[dict[str, Any]], looks: list[dict[str, float]]) -> dict[str, float]:
    """Lateness in seconds, drift of the sound's time against the clock's in seconds, memory in MB."""
    from datetime import datetime

    late = np.array([row["late"] for row in rows])
    clock = np.array([datetime.fromisoformat(row["time"]).timestamp() for row in rows])
    sound = np.array([row["end"] for row in rows])
    drift = (clock - clock[0]) - (sound - sound[0])
    # The models are loaded by the first caption; the last look may see the process end.
    heard = [each for each in looks if clock[0] + EVERY < each["time"] < clock[-1]]
    tenth = max(len(heard) // 10, 1)
    return {
        "minutes": round(float(sound[-1]) / 60, 2),
        "captions": len(rows),
        "dropped": sum(row["dropped"] for row in rows),
        "failed": sum(row["error"] is not None for row in rows),
        "late_median": round(float(np.median(late)), 3),
        "late_95": round(float(np.quantile(late, 0.95)), 3),
        "late_max": round(float(late.max()), 3),
        "within_a_second": round(float((late <= 1).mean()), 4),
        "drift_first_to_last": round(float(drift[-1]), 3),
        "drift_max": round(float(np.abs(drift).max()), 3),
        "rss_first_tenth": round(statistics.mean(each["rss"] for each in heard[:tenth]), 1),
        "rss_last_tenth": round(statistics.mean(each["rss"] for each in heard[-tenth:]), 1),
        "rss_max": round(max(each["rss"] for each in heard), 1),
        "cpu_share": round((heard[-1]["cpu"] - heard[0]["cpu"]) / (heard[-1]["time"] - heard[0]["time"]), 3),
        "load_median": round(statistics.median(each["load"] for each in heard), 2),
        "load_max": round(max(each["load"] for each in heard), 2),
    }


if __name__ == "__main__":
    main()
