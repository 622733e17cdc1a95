"""What captioning costs where freed memory is kept for what comes next, and where it goes back to the system each time.

    A2I_REAL_DATA=FOLDER python experiments/benchmarks/freed_memory.py

Clips of 5 s, captioned by turns in processes of both kinds; seconds, and memory at its highest, of each.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

CLIPS, BATCH, TURNS = 96, 8, 2


def main() -> None:
    """Print a line for each process."""
    if len(sys.argv) > 1:
        return measure(sys.argv[1] == "kept")
    for _ in range(TURNS):
        for kind in ("given_back", "kept"):
            subprocess.run([sys.executable, __file__, kind], check=True)


def measure(kept: bool) -> None:
    """Caption in this process."""
    from a2i.machine import keep_freed_memory

    if kept:
        keep_freed_memory()
    from a2i.pipeline import AudioToImage

    sounds = sorted((Path(os.environ["A2I_REAL_DATA"]) / "esc10").rglob("*.ogg"))[:CLIPS]
    captions = AudioToImage.load(image=None)
    list(captions.each(sounds[:BATCH], batch_size=BATCH))
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    list(captions.each(sounds, batch_size=BATCH))
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    told = {"kept": kept, "clips": len(sounds), "seconds": round(wall, 1), "peak_mb": after.ru_maxrss >> 10}
    told |= {"user_seconds": round(after.ru_utime - before.ru_utime, 1)}
    print(json.dumps(told | {"system_seconds": round(after.ru_stime - before.ru_stime, 1)}), flush=True)


if __name__ == "__main__":
    main()
