"""What a kill costs: programs are ended by kill -9 at random moments, begun again, and compared with a run that nothing ended.

    python experiments/reliability/kills.py                          # 50 kills of each program; half an hour on two cores
    python experiments/reliability/kills.py train infer --count 5    # of some
    python experiments/reliability/kills.py --work FOLDER            # begun again with a folder, it goes on there

Each program first runs twice to its end: both runs have to give the same, and the second tells how long a run takes. Then,
until it was killed as often as was asked: it begins in an empty folder, is killed at a random moment of its run, and begins
again, as its user would; every second time that is killed as well. After each kill no finished file may be broken and no row
gone; when the program has come to its end, everything has to be what the unbroken run gave.

Importing PyTorch takes longer than such a small program: this process imports once what the programs do, and each of them is
a fork of it, in a process group that is killed as a whole. Linux is expected. Temporary files go to /dev/shm, another file
system than the folders that are written to, where there is one.
"""

import argparse
import csv
import importlib
import json
import os
import random
import re
import runpy
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000  # of the made sounds
AGAIN = 0.5  # of the programs that were killed, those that are killed once more after they began again
# What a kill may leave, and the next run clears: names that are written to before they are renamed, and locks.
UNFINISHED = re.compile(r"(^|/)\.[^/]*(\.partial|\.part|\.old|\.new-[^/]*)(/|$)|\.lock$")
LIGHTNINGS = (
    "hparams.yaml"  # its logger's copy of config.yaml, written in place, one for each start, which nobody reads
)
# One for each start; what the checkpoint before the last was; times of files.
OTHERWISE = ("metrics/", "resumed.yaml", "train.log", "checkpoints/previous.ckpt", "cache/files/")
# What tells of when, how long and whether it was resumed, and may be another in every run.
PASSING = re.compile(r'"(seconds|made|modified)": [^,}\n]+|\d{4}-\d\d-\d\dT[\d:.+]+| and `resumed.yaml`')

SMALL_RUN = (
    "experiment=mini data=folder data.root=../sounds trainer=cpu logger=csv bertscore=null hydra.run.dir=out"
    " model.encoder.channels=[4,8] model.tokenizer.vocab_size=300"
    " model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60} loader.batch_size=4 loader.num_workers=0"
    " trainer.enable_model_summary=false trainer.check_val_every_n_epoch=1 trainer.max_epochs=4 trainer.log_every_n_steps=1"
    " training.metrics=[] training.decoding.max_tokens=6"
)
SMALL_PICTURES = " image=mini image.steps=2 image.width=64 image.height=64"


@dataclass(frozen=True)
class Program:
    """A program with arguments that keep it short.

    Attributes:
        name: of its module below `a2i`.
        arguments: relative to its folder, below which it writes to `out`.
        resumes: it is begun again by `resume=out`, once there is something to resume, else by the same arguments.
        rows: pattern of the files below `out` whose lines have to stay.
    """

    name: str
    arguments: str
    resumes: bool = False
    rows: str | None = None

    def words(self, folder: Path) -> list[str]:
        """Its arguments, begun anew or again."""
        return ["resume=out"] if self.resumes and (folder / "out" / "config.yaml").exists() else self.arguments.split()


PROGRAMS = {
    "train": Program("train", SMALL_RUN, resumes=True),
    "prepare": Program(
        "prepare",
        "data=foley data.root=out/foley data.n_train=12 data.n_val=4 data.n_test=4 data.max_seconds=5.5 data.workers=1"
        " cache=out/cache features=64 workers=0",
    ),
    "evaluate": Program(
        "evaluate",
        "captioner=mini data=folder data.root=../sounds split=val batch_size=2 out=out metrics=[rouge_l,bleu_4]"
        " bootstrap_samples=100" + SMALL_PICTURES,
        rows="captions.jsonl",
    ),
    "infer": Program("infer", "audio=../sounds/1*.wav out=out batch_size=2" + SMALL_PICTURES, rows="results.jsonl"),
    "workers": Program(
        "infer", "audio=../sounds out=out workers=2 batch_size=2" + SMALL_PICTURES, rows="results.jsonl"
    ),
    "storyboard": Program("infer", "audio=../long storyboard=true out=out" + SMALL_PICTURES, rows="results.jsonl"),
}


@dataclass
class Round:
    """A program from its first start to its end.

    Attributes:
        program: its key in `PROGRAMS`.
        number: of the round.
        kills: how often it was killed; 0 where it was done before that.
        at: seconds after its start when it was killed, for each kill.
        seconds: of all its starts together.
        problems: what was broken, lost or another; none if it survived.
    """

    program: str
    number: int
    kills: int
    at: list[float]
    seconds: float
    problems: list[str]


def make_sounds(work: Path) -> None:
    """16 short sounds of two kinds with captions, and two long ones that change."""
    generator = np.random.default_rng(0)
    (work / "sounds").mkdir()
    (work / "long").mkdir()
    rows = [["file_name", "caption_1", "caption_2", "split"]]
    for index in range(16):
        times = np.arange(8_000 + 300 * index) / RATE
        hiss = generator.normal(0, 0.1, len(times))
        tone = 0.5 * np.sin(2 * np.pi * (800 + 5 * index) * times)
        soundfile.write(work / "sounds" / f"{index}.wav", hiss if index % 2 else tone + 0.01 * hiss, RATE)
        captions = ["A hiss is heard.", "Steam is hissing."] if index % 2 else ["A bell hums.", "A tone is humming."]
        rows.append([f"{index}.wav", *captions, "val" if index >= 12 else "train"])
    with (work / "sounds" / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for index in range(2):
        parts = [generator.normal(0, 0.1, 4 * RATE), 0.5 * np.sin(np.arange(4 * RATE) * (0.2 + 0.1 * index))] * 2
        soundfile.write(work / "long" / f"{index}.wav", np.concatenate(parts), RATE)


def begin(program: Program, folder: Path) -> int:
    """Begin a program as a fork of this process, in a process group of its own; returns its process id."""
    words = program.words(folder)
    if child := os.fork():
        return child
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        print(f"\n$ python -m a2i.{program.name} {' '.join(words)}", flush=True)
        sys.argv = [f"a2i.{program.name}", *words]
        warnings.simplefilter("ignore")
        runpy.run_module(f"a2i.{program.name}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        if loaded := os.environ.get("KILLS_LOADED"):
            Path(loaded).write_text("\n".join(sorted(sys.modules)))
        sys.stdout.flush()
        os._exit(status)


def end(child: int, after: float | None) -> tuple[int, float]:
    """Wait until a program ends, or kill it.

    Args:
        child: its process id.
        after: seconds until it is killed; None for never.

    Returns:
        its exit status, -9 where it was killed, and how many seconds it had.
    """
    began, handle = time.perf_counter(), os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], after)[0]:
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(handle)
        with suppress(ProcessLookupError):  # its own children, where it ended by itself
            os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - began


def files(out: Path) -> Iterator[Path]:
    """The finished files below a folder."""
    for path in sorted(out.rglob("*")) if out.exists() else ():
        if path.is_file() and not UNFINISHED.search(path.relative_to(out).as_posix()) and path.name != LIGHTNINGS:
            yield path


def broken(out: Path, done: bool) -> list[str]:
    """The files that can't be read as what they are. The last line of one that is added to may be cut until all is done."""
    return [f"{path.relative_to(out)}: {error}" for path in files(out) if (error := _error(path, done))]


def _error(path: Path, done: bool) -> str | None:
    import torch
    import yaml
    from PIL import Image
    from safetensors.torch import load_file

    readers: dict[str, Callable[[Path], Any]] = {
        ".ckpt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
        ".json": lambda path: json.loads(path.read_bytes()),
        ".npy": np.load,
        ".png": lambda path: Image.open(path).load(),
        ".safetensors": load_file,
        ".wav": soundfile.read,
        ".yaml": lambda path: yaml.safe_load(path.read_bytes()),
    }
    try:
        if path.suffix in readers:
            readers[path.suffix](path)
        elif path.suffix == ".jsonl":
            *whole, last = path.read_bytes().split(b"\n")
            for line in [*whole, *([last] if done and last else [])]:
                json.loads(line or b"0")
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                lengths = {len(row) for row in csv.reader(file, strict=True)}
            # The log of metrics is added to, line by line.
            assert len(lengths) <= (1 if done or path.name != "metrics.csv" else 2), f"rows of {lengths} columns"
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), "cut"
        else:
            assert path.stat().st_size or path.suffix in ("", ".log"), "empty"
    except Exception as error:  # a broken file fails in any way
        return f"{type(error).__name__} {error}"
    return None


def lines(program: Program, out: Path) -> list[bytes]:
    """The whole lines that have to stay."""
    found = out.glob(program.rows) if program.rows else ()
    return [line for path in found for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]


def contents(out: Path) -> dict[str, Any]:
    """What has to be the same in two runs, by file; of what may be there more than once, once."""
    from a2i.training.curves import read_metrics

    found: dict[str, Any] = {"metrics": read_metrics(out)} if (out / "metrics").exists() else {}
    for path in files(out):
        name = path.relative_to(out).as_posix()
        if name.startswith(OTHERWISE):
            continue
        if path.suffix == ".ckpt":
            import torch

            found[name] = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix in (".json", ".jsonl", ".html", ".md"):
            rows = PASSING.sub("", path.read_text(encoding="utf-8")).split("\n")
            found[name] = sorted(rows) if path.suffix == ".jsonl" else rows
        else:
            found[name] = path.read_bytes()
    return found


def differences(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Where two values, of containers, tensors and plain values, are not the same."""
    import torch

    if isinstance(expected, dict) and isinstance(found, dict):
        for key in {**expected, **found}:
            if key in expected and key in found:
                yield from differences(found[key], expected[key], f"{where}/{key}")
            else:
                yield f"{where}/{key}: {'lacking' if key in expected else 'not in the unbroken run'}"
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(expected) == len(found):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        if not (found.dtype == expected.dtype and torch.equal(found, expected)):
            yield f"{where}: another tensor"
    elif found != expected:
        yield f"{where}: another {type(expected).__name__}"


def play(key: str, number: int, folder: Path, seconds: float, unbroken: dict[str, Any], seed: int) -> Round:
    """One round: a program in an empty folder, killed and begun again until it is done."""
    program, out = PROGRAMS[key], folder / "out"
    chance = random.Random(f"{seed} {key} {number}")
    shutil.rmtree(out, ignore_errors=True)
    (folder / "log").unlink(missing_ok=True)
    at: list[float] = []
    problems: list[str] = []
    worked, kept = 0.0, []
    while True:
        after = chance.uniform(0, seconds) if not at or chance.random() < AGAIN else None
        status, had = end(begin(program, folder), after)
        worked += had
        if after is None or status != -signal.SIGKILL:
            break
        at.append(round(had, 3))
        problems += broken(out, done=False)
        now = lines(program, out)
        problems += [f"gone: {line.decode()[:80]}" for line in kept if line not in now]
        kept = now
        for path in left_over(out):  # as if it began again a day later: what may still be written to is let alone
            os.utime(path, (time.time() - 86_400,) * 2)
    if status:
        said = (folder / "log").read_text(errors="replace").strip().splitlines()
        told = [line for line in said if "rror" in line] or said or ["no word"]
        problems.append(f"exit status {status}: {told[-1]}")
    else:
        problems += broken(out, done=True)
        now = lines(program, out)
        problems += [f"gone: {line.decode()[:80]}" for line in kept if line not in now]
        problems += differences(contents(out), unbroken)
        problems += [f"left over: {path.relative_to(out)}" for path in left_over(out)]
    return Round(key, number, len(at), at, round(worked, 3), problems)


def left_over(out: Path) -> list[Path]:
    """What was not finished, and is there still."""
    every = (path for path in out.rglob("*") if UNFINISHED.search(f"/{path.name}"))
    return [path for path in every if not path.name.endswith(".lock")]


def prepared(key: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Run a program twice to its end: how many seconds the second run took, and what came of it.

    Raises:
        SystemExit: it failed, or the two differ.
    """
    found = []
    loaded = folder / "loaded"
    for turn in range(2):
        shutil.rmtree(folder / "out", ignore_errors=True)
        if turn == 0:
            os.environ["KILLS_LOADED"] = str(loaded)
        status, seconds = end(begin(PROGRAMS[key], folder), None)
        os.environ.pop("KILLS_LOADED", None)
        if status or (wrong := broken(folder / "out", done=True)):
            sys.exit(
                f"error: {key} ended with {status}, unkilled: {(folder / 'log').read_text()[-2000:] if status else wrong}"
            )
        found.append(contents(folder / "out"))
        for name in loaded.read_text().split("\n"):
            with suppress(Exception):  # what is loaded under a name of its own
                importlib.import_module(name)
    if differ := list(differences(*found)):
        sys.exit(f"error: two unbroken runs of {key} differ, so nothing can be told: {differ[:5]}")
    return seconds, found[0]


def table(rounds: list[Round]) -> str:
    """The figures of each program."""
    shown = [
        "| program | kills | survived | rounds | with two kills or more | most kills in one |",
        "|---|---|---|---|---|---|",
    ]
    for key in PROGRAMS:
        own = [each for each in rounds if each.program == key and each.kills]
        survived = sum(each.kills for each in own if not each.problems)
        kills = [each.kills for each in own]
        cells = (sum(kills), survived, len(own), sum(count > 1 for count in kills), max(kills, default=0))
        shown += [f"| {key} | {' | '.join(map(str, cells))} |"] if own else []
    return "\n".join(shown)


def other_file_system(work: Path) -> Path | None:
    """A temporary folder on another file system than `work`; None where there is none."""
    there = Path("/dev/shm")
    if not there.is_dir() or there.stat().st_dev == work.stat().st_dev:
        return None
    return Path(tempfile.mkdtemp(prefix="a2i-kills-", dir=there))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(PROGRAMS)}; default: all")
    parser.add_argument("--count", type=int, default=50, help="kills of each program (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder to work in, kept; default: a temporary one")
    asked = parser.parse_args()
    if unknown := set(asked.programs) - set(PROGRAMS):
        parser.error(f"got {', '.join(sorted(unknown))}; expected some of {', '.join(PROGRAMS)}")
    work = (asked.work or Path(tempfile.mkdtemp(prefix="a2i-kills-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    record = work / "kills.json"
    kept = json.loads(record.read_text()) if record.exists() else {"seed": asked.seed, "rounds": []}
    if kept["seed"] != asked.seed:
        parser.error(f"{record}: is of --seed {kept['seed']}; expected that, or another --work")
    rounds = [Round(**each) for each in kept["rounds"]]
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
    }
    temporary = other_file_system(work)
    if temporary is None:
        print("no other file system for temporary files: they lie on the same as the rest")
    else:
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    if not (work / "sounds").exists():
        make_sounds(work)
    try:
        for key in asked.programs or PROGRAMS:
            folder = work / key
            folder.mkdir(exist_ok=True)
            seconds, unbroken = prepared(key, folder)
            own = [each for each in rounds if each.program == key]
            while sum(each.kills for each in own) < asked.count:
                own.append(play(key, len(own), folder, seconds, unbroken, asked.seed))
                rounds.append(own[-1])
                if not own[-1].kills:  # done before its moment came: on a busy machine the times of programs change
                    seconds = own[-1].seconds
                part = record.with_suffix(".partial")
                part.write_text(json.dumps({"seed": asked.seed, "rounds": [asdict(each) for each in rounds]}, indent=1))
                part.replace(record)
                told = "; ".join(own[-1].problems) or "all as in the unbroken run"
                print(
                    f"{key} {len(own)}: killed after {', '.join(f'{at:.2f}' for at in own[-1].at) or '-'} s: {told}",
                    flush=True,
                )
        print(table(rounds))
        if temporary is not None:
            print(f"left in the temporary folder: {len(list(temporary.iterdir()))} files and folders")
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    print(f"what was done: {record}")
    if any(each.problems for each in rounds):
        sys.exit(1)


if __name__ == "__main__":
    main()
