"""Is a run on several devices that of one? Gradients, losses, weights, validation and order, on one rank and on several.

    python experiments/scale/ranks.py                       # all cases on 1, 2 and 3 ranks; minutes on two cores
    python experiments/scale/ranks.py --ranks 2 --cases captions labels
    python experiments/scale/ranks.py --nodes 2             # the same, of two torchrun calls that stand for two machines

Each rank is a process of its own (torchrun, gloo, on the CPU), and runs `a2i.train.train` for every case on 21 made sounds of
different lengths, with one to three captions each, of which some have no label and most no tags: batches of 5 leave one clip
for the last, so that all ranks but one have a stand-in. Dropout and augmentation, which draw on each rank for its own clips,
are in the case of that name alone. Plain SGD learns: with Adam a gradient of nearly nothing becomes a step of full size.

Prints for each case the largest difference from one rank: of a gradient at any step, relative to the largest gradient of that
step; of a weight after the last step; of a logged training loss; and of a validation value. `--json` writes them to a file.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
import torch

from a2i.command_line import composed
from a2i.data import Clip
from a2i.training.curves import read_metrics

RATE = 16_000  # Hz of the made sounds
KINDS = ("bell", "rain", "siren")
TAGS = 4  # classes
STOP, END = 3, 0  # steps after which a run is stopped, of five in an epoch; END for its end
DECODER = "model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60,resid_pdrop:0,embd_pdrop:0,attn_pdrop:0}"
ALL = [
    *("trainer=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.num_sanity_val_steps=0"),
    *("trainer.enable_model_summary=false", "trainer.gradient_clip_val=null"),
    *("trainer.check_val_every_n_epoch=1", "logger=csv", "bertscore=null", "table_clips=0"),
    *(
        "loader.batch_size=5",
        "loader.val_batch_size=4",
        "loader.num_workers=0",
        "loader.captions=first",
        "loader.augment=null",
    ),
    *("training.augment=null", "training.schedule=constant", "training.warmup=0", "training.encoder_rate=null"),
    *("training.optimizer._target_=torch.optim.SGD", "training.optimizer.lr=0.02", "training.label_smoothing=0"),
    *("training.label_loss=0", "training.labels_first=0", "training.metrics=[bleu_4,rouge_l,cider_d]"),
    *("training.decoding.max_tokens=8", "model.tokenizer.vocab_size=300", "model.decoding.num_beams=1"),
    "model.decoding.num_candidates=1",
]
MINI = ["experiment=mini", "data=folder", *ALL, DECODER, "model.keywords=false"]
CNN = ["model.encoder.channels=[4,8]", "model.encoder.dropout=0"]
LABELS = ["training.label_loss=1", "training.label_smoothing=0.1", "training.tag_loss=0.1"]
CASES = {
    "captions": ["loader.captions=all", "training.label_smoothing=0.1"],
    "accumulate": ["loader.captions=all", "trainer.accumulate_grad_batches=2"],
    "labels": LABELS,
    "keywords": [*LABELS, "model.keywords=true", "loader.captions=all"],
    "labels_first": [*LABELS, "training.labels_first=0.5"],
    "frozen": ["training.freeze_encoder=true", "loader.captions=all"],
    "dropout": ["model.encoder.dropout=0.2", "training.augment={_target_:a2i.training.augment.SpecAugment}"],
    "adam": [
        *(
            "training.optimizer.lr=0.001",
            "+training.optimizer.eps=0.01",
            "training.optimizer._target_=torch.optim.AdamW",
        ),
        *("model/encoder=ast_mini", "loader.captions=all"),
        *("model.encoder.config.hidden_size=32", "model.encoder.config.num_hidden_layers=1"),
        "model.encoder.config.hidden_dropout_prob=0",
    ],
    "ast": [
        *LABELS,
        *("loader.captions=all", "trainer.accumulate_grad_batches=2", "model/encoder=ast_mini"),
        "model.encoder.config.hidden_size=32",
        "model.encoder.config.num_hidden_layers=1",
        "model.encoder.config.hidden_dropout_prob=0",
    ],
}


class Sounds:
    """21 clips to learn from and 5 to validate with."""

    def __init__(self, folder: Path) -> None:
        """Made in a folder, where they are not there yet."""
        generator = np.random.default_rng(0)
        self.made = []
        for index in range(26):
            kind, path = KINDS[index % 3], folder / f"{index}.wav"
            time = np.arange(4_000 + 613 * (index * 7 % 26)) / RATE
            tone = 0.4 * np.sin(2 * np.pi * (300 + 400 * (index % 3) + 11 * index) * time)
            sound = tone + generator.normal(0, 0.02 + 0.1 * (index % 3 == 1), len(time))
            if not path.exists():
                soundfile.write(path, np.clip(sound, -1, 1), RATE)
            captions = (f"A {kind} is heard.", f"There is a {kind}, far away.", f"{kind.title()} again and again.")
            tags = generator.random(TAGS).astype(np.float32)
            self.made.append(
                Clip(
                    path.name,
                    path,
                    captions[: 1 + index % 3],
                    labels=None if index % 5 == 0 else frozenset({kind}),
                    tags=tags if index % 7 == 3 else None,
                )
            )

    def prepare(self) -> None:
        """They are there."""

    def clips(self, split: str) -> list[Clip]:
        return self.made[:21] if split == "train" else self.made[21:]


def work(
    folder: Path,
    names: Sequence[str],
    stop: int | None,
    resume: bool,
    sharded: bool,
    nudge: float = 0.0,
    seed: int = 0,
) -> None:
    """Run cases as one rank; what it found goes to `CASE/rank_R.pt` in the folder.

    Args:
        folder: of the cases.
        names: theirs.
        stop: the step after which the last rank, and it alone, gets SIGTERM; `END` for an end after the first epoch; None for
            neither.
        resume: whether to go on with what is in the folder.
        sharded: with `trainer=fsdp`.
        nudge: share of itself by which each weight begins changed, at random.
        seed: of that.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from a2i.train import train
    from a2i.training.checkpoints import latest
    from a2i.training.module import CaptionModule

    rank, seen, gradients = int(os.environ.get("RANK", "0")), [], []
    step, before_step = CaptionModule.training_step, CaptionModule.on_before_optimizer_step
    begin, generator = CaptionModule.on_train_start, torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def begun(module: CaptionModule) -> None:
        begin(module)
        for weight in module.parameters() if nudge else ():
            weight.mul_(1 + nudge * torch.randn(weight.shape, generator=generator))

    def heard(module: CaptionModule, batch: Any, index: int) -> Any:
        if module.trainer.global_step + 1 == stop and rank == module.trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        loss = step(module, batch, index)
        seen.append((float(loss.detach()), batch.names if batch.counts else []))
        return loss

    def about_to_step(module: CaptionModule, optimizer: Any) -> None:
        before_step(module, optimizer)
        learnt = [(name, one.grad) for name, one in module.named_parameters() if one.grad is not None]
        gradients.append({name: gradient.full_tensor() if sharded else gradient.clone() for name, gradient in learnt})

    source = Sounds(folder / "sounds")
    with (
        patch.object(CaptionModule, "on_train_start", begun),
        patch.object(CaptionModule, "training_step", heard),
        patch.object(CaptionModule, "on_before_optimizer_step", about_to_step),
        patch("a2i.train.prepared_data_set", lambda _: source),
    ):
        for name in names:
            seen.clear()
            gradients.clear()
            settings = [*MINI, *([] if name in ("ast", "adam") else CNN), *CASES[name]]
            settings += ["trainer.max_epochs=1"] if stop == END else []
            settings += ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true"] if sharded else []
            config = composed("train", {"data.root": str(folder)}, settings)
            run = folder / name
            run.mkdir(exist_ok=True)
            try:
                values = train(config, run, latest(run) if resume else None, {} if resume else None)
            except SystemExit:
                values = {}
            weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            found = {"seen": seen, "gradients": gradients, "values": values, "weights": weights}
            torch.save(found, run / f"rank_{rank}.pt")


def start(folder: Path, ranks: int, nodes: int, names: Sequence[str], *more: str) -> Path:
    """Run cases on so many ranks, of so many machines that torchrun stands for; `more` goes to the ranks' own program."""
    (folder / "sounds").mkdir(parents=True, exist_ok=True)
    Sounds(folder / "sounds")
    program = [str(Path(__file__).resolve()), "--work", str(folder), *more, "--cases", *names]
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks // nodes}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if ranks == 1:
        commands = [[sys.executable, *program]]
    elif nodes == 1:
        commands = [[*run, "--standalone", *program]]
    else:
        own = [*run, f"--nnodes={nodes}", "--master-addr=127.0.0.1", f"--master-port={port}"]
        commands = [[*own, f"--node-rank={node}", *program] for node in range(nodes)]
    with (folder / "output.txt").open("w") as output:
        started = [subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) for command in commands]
        ended = [one.wait() for one in started]
    if any(ended):
        raise SystemExit(f"{ranks} ranks ended with {ended}:\n{(folder / 'output.txt').read_text()[-4000:]}")
    return folder


def differences(one: Path, several: Path, begun: Path | None = None) -> dict[str, Any]:
    """The largest ones between a case that ran to its end and the same on other ranks, and whether the clips were the same.

    Gradients are those of the first rank: `DistributedDataParallel` gives all the same.

    Args:
        one: folder of the case.
        several: of the other.
        begun: of the other until it was stopped; None where it was not.
    """
    whole, parts = found(one), [found(part) for part in (begun, several) if part is not None]
    gradients = zip(whole[0]["gradients"], [step for part in parts for step in part[0]["gradients"]], strict=True)
    pairs = [(ours, theirs, max(float(value.abs().max()) for value in ours.values())) for ours, theirs in gradients]
    apart = [
        max(float((ours[key] - theirs[key]).abs().max()) for key in ours) / (most or 1.0)
        for ours, theirs, most in pairs
    ]
    weights = [(whole[0]["weights"][name] - value).abs().max() for name, value in parts[-1][0]["weights"].items()]
    values = [abs(value - parts[-1][0]["values"][key]) for key, value in whole[0]["values"].items() if "val/" in key]
    return {
        "steps": len(pairs),
        "same": heard(whole) == [names for part in parts for names in heard(part)]
        and all(set(ours) == set(theirs) for ours, theirs, _ in pairs),
        "gradient": max(apart),
        "weight": float(max(weights)),
        "loss": max(*logged(one, several), *apart_by(losses(whole), [loss for part in parts for loss in losses(part)])),
        "validation": max(values),
    }


def heard(ranks: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The clips that all ranks together learnt from in each batch."""
    batches = zip(*([names for _, names in rank["seen"]] for rank in ranks), strict=True)
    return [sorted(name for share in shares for name in share) for shares in batches]


def losses(ranks: Sequence[dict[str, Any]]) -> list[float]:
    """Of each batch the loss that is learnt from, the mean of the ranks'."""
    return [sum(shares) / len(shares) for shares in zip(*([loss for loss, _ in r["seen"]] for r in ranks), strict=True)]


def apart_by(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [abs(mine - its) for mine, its in zip(ours, theirs, strict=True)]


def found(case: Path) -> list[dict[str, Any]]:
    """What each rank wrote."""
    paths = sorted(case.glob("rank_*.pt"), key=lambda path: int(path.stem[5:]))
    return [torch.load(path, weights_only=True) for path in paths]


def logged(one: Path, several: Path) -> list[float]:
    """Differences of the training losses that both logged; that of the step after which a run is stopped is not."""
    ours, theirs = (read_metrics(folder) for folder in (one, several))
    names = {name for name in ours if name.startswith("train/") and "loss" in name}
    assert names == {name for name in theirs if name.startswith("train/") and "loss" in name}
    pairs = [(dict(ours[name]), dict(theirs[name])) for name in names]
    return [abs(mine[step] - its[step]) for mine, its in pairs for step in mine.keys() & its.keys()]


def equal(folder: Path, names: Sequence[str], ranks: Sequence[int], nodes: int, *more: str) -> list[dict[str, Any]]:
    """The figures of all cases."""
    start(folder / "1", 1, 1, names)
    figures = []
    for count in ranks:
        start(folder / str(count), count, nodes, names, *more)
        for name in names:
            figures.append(
                {"case": name, "ranks": str(count), **differences(folder / "1" / name, folder / str(count) / name)}
            )
    return figures


def resumed(folder: Path, names: Sequence[str], changes: Sequence[tuple[int, ...]], *more: str) -> list[dict[str, Any]]:
    """The figures of cases that are stopped after three of five steps of an epoch, or end with it, and go on on so many ranks.

    They are compared with runs that nothing stopped: on as many ranks as before, where there is dropout, else on one. More
    arguments go to the program of several ranks alone.
    """
    whole = {
        count: start(folder / str(count), count, 1, names) for count in sorted({1, *(pair[0] for pair in changes)})
    }
    figures = []
    for place in (STOP, END):
        for before in sorted({pair[0] for pair in changes}):
            ours = more if before > 1 else ()
            stopped = start(folder / f"{before}_until_{place}", before, 1, names, "--stop", str(place), *ours)
            for after in [pair[1] for pair in changes if pair[0] == before]:
                own = folder / f"{before}_to_{after}_from_{place}"
                shutil.copytree(stopped, own, ignore=shutil.ignore_patterns("rank_*.pt"))
                start(own, after, 1, names, "--resume", *(more if after > 1 else ()))
                for name in names:
                    if name == "dropout" and before != after:
                        continue
                    one = whole[before if name == "dropout" else 1] / name
                    told = {
                        "case": f"{name}, {'in mid-epoch' if place == STOP else 'at its end'}",
                        "ranks": f"{before} to {after}",
                    }
                    figures.append({**told, **differences(one, own / name, stopped / name)})
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3], help="how many, each compared with one")
    parser.add_argument("--nodes", type=int, default=1, help="machines that torchrun stands for")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument(
        "--out", type=Path, help="a new folder, to keep what the ranks wrote; without it a temporary one"
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stop", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=3, help="how many nudges, each with a seed of its own")
    parser.add_argument(
        "--nudge",
        type=float,
        help="compare one process with itself, its first weights changed by such a share of theirs",
    )
    parser.add_argument(
        "--resume", action="store_true", help="stop runs and go on with them, in place of comparing whole ones"
    )
    parser.add_argument("--sharded", action="store_true", help="divide the weights among the ranks (trainer=fsdp)")
    parser.add_argument(
        "--changes", nargs="+", default=["2-2", "2-1", "1-2"], help="ranks before and after, with --resume"
    )
    given = parser.parse_args()
    if given.work:
        work(given.work, given.cases, given.stop, given.resume, given.sharded, given.nudge or 0.0, given.seeds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        sharded = ["--sharded"] if given.sharded else []
        if given.resume:
            changes = [tuple(map(int, change.split("-"))) for change in given.changes]
            figures = resumed(folder, given.cases, changes, *sharded)
        elif given.nudge:
            one = start(folder / "1", 1, 1, given.cases)
            figures = []
            for seed in range(given.seeds):
                nudge = ["--nudge", str(given.nudge), "--seeds", str(seed)]
                nudged = start(folder / f"nudged_{seed}", 1, 1, given.cases, *nudge)
                for each in given.cases:
                    told = {"case": f"{each}, nudge {seed}", "ranks": "1"}
                    figures.append({**told, **differences(one / each, nudged / each)})
        else:
            figures = equal(folder, given.cases, given.ranks, given.nodes, *sharded)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(
        f"{'case':<26}{'ranks':>7}{'steps':>7}{'clips':>7}{'gradient':>11}{'weight':>11}{'loss':>11}{'validation':>12}"
    )
    for row in figures:
        same = "same" if row["same"] else "OTHER"
        numbers = "".join(f"{row[name]:>11.1e}" for name in ("gradient", "weight", "loss"))
        print(f"{row['case']:<26}{row['ranks']:>7}{row['steps']:>7}{same:>7}{numbers}{row['validation']:>12.1e}")


if __name__ == "__main__":
    main()
