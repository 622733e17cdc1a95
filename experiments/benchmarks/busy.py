"""What another program that keeps a core busy costs: seconds beside it ÷ seconds alone, by turns.

Two cores of which one is shared leave one and a half: an ideal program needs 1.33 times as long. `OMP_WAIT_POLICY=ACTIVE python
busy.py` has the threads wait as they do without a2i.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measure import arguments, clips, machine
from rich.console import Console
from rich.table import Table

from a2i import AudioToImage
from a2i.features import LogMel
from a2i.metrics.bertscore import BERTScore

AT_MOST = 2.0  # times what a quiet machine needs
BATCH = 32


@contextmanager
def beside_another(programs: int) -> Iterator[None]:
    """So many programs that keep a core busy each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def cases(work: Path, paths: list[Path]) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    log_mel, waveforms, lengths = LogMel(), torch.randn(BATCH, 160_000) / 10, torch.full((BATCH,), 160_000)
    hears, draws, scorer = AudioToImage.load(image=None), AudioToImage.load(), BERTScore(device="cpu")
    assert draws.painter is not None
    painter = draws.painter
    captions = [f"A dog barks {number} times while it rains." for number in range(60)]
    references = [[caption, f"{caption} A bell rings.", "Rain falls."] for caption in captions]
    data = ["data=foley", f"data.root={work / 'busy'}", "data.n_train=64", "data.n_val=2", "data.n_test=2"]
    less = ["trainer=cpu", "trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", "bertscore=null", "logger=csv"]

    def program(name: str, *words: str) -> None:
        subprocess.run([sys.executable, "-m", f"a2i.{name}", *words], check=True, capture_output=True)

    def train() -> None:
        run = work / f"busy_run_{time.time_ns()}"
        program("train", "experiment=mini", *data, *less, "training.labels_first=0", f"hydra.run.dir={run}")

    program("prepare", *data, "cache=null")
    return {
        f"log-mel of {BATCH} clips of 10 s": lambda: log_mel(waveforms, lengths),
        f"captions of {len(paths)} clips of 15 s": lambda: list(hears.each(paths, batch_size=8)),
        "a picture": lambda: painter.draw("A dog barks."),
        f"BERTScore of {len(captions)} captions": lambda: scorer.score(captions, references),
        "`infer` of one sound, from a cold start": lambda: program(
            "infer", f"audio={paths[0]}", f"out={work / f'busy_out_{time.time_ns()}'}"
        ),
        "`train`, an epoch of 64 clips, from a cold start": train,
    }


def main() -> None:
    given = arguments(__doc__, repeats=5, clips=16, programs=1)
    found = {}
    for name, run in cases(given.work, [clip.path for clip in clips(given.clips, given.work)]).items():
        run()
        seconds: tuple[list[float], list[float]] = ([], [])
        often = 10 if "log-mel" in name else 1  # too short to be told from chance
        for turn in range(2 * given.repeats):
            with beside_another(given.programs * (turn % 2)):
                began = time.perf_counter()
                for _ in range(often):
                    run()
                seconds[turn % 2].append((time.perf_counter() - began) / often)
        found[name] = {"alone": seconds[0], "busy": seconds[1]}
    table = Table("", "alone, s", "busy, s", "busy ÷ alone", title=f"beside {given.programs} busy program(s)")
    for name, values in found.items():
        alone, busy = statistics.median(values["alone"]), statistics.median(values["busy"])
        least, most = (pick(values["busy"]) / alone for pick in (min, max))
        missed = "" if busy / alone <= AT_MOST else " MISSED"
        table.add_row(name, f"{alone:.3g}", f"{busy:.3g}", f"{busy / alone:.2f} ({least:.2f} to {most:.2f}){missed}")
    Console(width=120).print(table)
    waiting = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    record = {"seconds": found, "waiting": waiting, "command": ["python", *sys.argv], "machine": machine()}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "busy.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
