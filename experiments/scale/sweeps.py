"""A sweep that is killed at random moments and gone on with: what its study says then, and what pruning spared.

    python experiments/scale/sweeps.py WORK --kills 3 -- experiment=mini sweep=optuna …

WORK is the folder of the sweep. Kills are SIGKILL, to the sweep and all its jobs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
from optuna.trial import TrialState

from a2i.trials import replaced, storage_of


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--after", type=float, nargs=2, default=(20.0, 90.0), help="seconds, drawn between the two")
    parser.add_argument("--seed", type=int, default=0, help="of these draws")
    parser.add_argument("overrides", nargs="+")
    return parser.parse_args()


def begin(folder: Path, overrides: list[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "a2i.train", "-m", *overrides, f"hydra.sweep.dir={folder}"]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def told(folder: Path) -> None:
    study = optuna.load_study(study_name="sweep", storage=storage_of(folder))
    trials = study.trials
    again = replaced(trials)
    counted = [trial for trial in trials if trial.number not in again]
    outcomes = Counter(trial.user_attrs.get("outcome") or trial.state.name.lower() for trial in trials)
    different = len({tuple(sorted(trial.params.items())) for trial in counted if trial.params})
    print(
        f"  trials {len(trials)}: {dict(outcomes)}; trained again {again}; {len(counted)} count, {different} different"
    )


def spared(folder: Path) -> None:
    trials = optuna.load_study(study_name="sweep", storage=storage_of(folder)).trials
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    whole = max(len(trial.intermediate_values) for trial in finished)
    run = sum(len(trial.intermediate_values) for trial in [*finished, *pruned])
    seconds = [sum(t.duration.total_seconds() for t in some) / max(1, len(some)) for some in (finished, pruned)]
    print(
        f"pruned {len(pruned)} of {len(finished) + len(pruned)}; validations {run} of {whole * (len(finished) + len(pruned))};"
        f" seconds a trial: {seconds[0]:.1f} finished, {seconds[1]:.1f} pruned"
    )


def main() -> None:
    given = arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(given.seed)
    for kill in range(given.kills):
        process = begin(given.folder, given.overrides)
        seconds = draw.uniform(*given.after)
        try:
            process.wait(seconds)
            print("ended before it was killed")
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print(f"kill {kill + 1}, after {seconds:.0f} s")
        if (given.folder / "study.db").exists():
            told(given.folder)
    begun = time.monotonic()
    status = begin(given.folder, given.overrides).wait()
    print(f"to the end in {time.monotonic() - begun:.0f} s, exit status {status}")
    told(given.folder)
    spared(given.folder)


if __name__ == "__main__":
    main()
