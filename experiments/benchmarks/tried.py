"""What else could make a training step faster, tried: processor seconds of a step of small captioners, and ÷ plain.

16 clips of 5 s with five captions each, forward and backward; the optimisers on as many weights as GPT-2 base has; last, two
ways to read what is prepared. What takes time once, compiling, is shown beside. Variants take turns. Processor seconds with
`--threads 1` hold on a busy machine too.
"""

import contextlib
import json
import mmap
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measure import arguments, clips, machine
from rich.console import Console
from rich.table import Table
from torch.nn.utils.rnn import pack_padded_sequence

from a2i.captioner import Captioner
from a2i.captioner.bridge import make_bridge
from a2i.captioner.encoders import BidirectionalGRU
from a2i.captioner.encoders.ast import ASTEncoder
from a2i.data.cache import HEADER, Entry, log_mels
from a2i.data.filling import fill
from a2i.features import FeatureSettings, side_by_side
from a2i.paths import MINI_CAPTIONER

sys.path.insert(0, str(Path(__file__).parents[1] / "comparison"))
from cost import loss

CLIPS, CAPTIONS = 16, 5
SMALL_AST = {
    **{"hidden_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 512},
    **{"time_stride": 16, "frequency_stride": 16, "num_mel_bins": 64},
}


def step(captioner: Captioner, precision: torch.dtype | None = None) -> Callable[[], object]:
    """Gradients of a batch."""

    def run() -> None:
        autocast = torch.autocast("cpu", precision) if precision else contextlib.nullcontext()
        with autocast:
            value = loss(captioner, CLIPS, CAPTIONS)
        value.backward()
        captioner.zero_grad()

    return run


def captioners(ast: bool) -> dict[str, Callable[[], object]]:
    """The variants of a step, the plain one first."""

    def fresh() -> Captioner:
        captioner = Captioner.load(MINI_CAPTIONER)
        if ast:
            captioner.encoder = ASTEncoder(config=SMALL_AST, long_audio="window")
            captioner.bridge = make_bridge(128, captioner.decoder.width, "projection")
        return captioner.train()

    compiled, checkpointed, wide = fresh(), fresh(), fresh()
    compiled.encoder.compile(dynamic=False)
    checkpointed.decoder.model.activation_checkpointing_enable()  # type: ignore[union-attr,operator]
    variants = {
        "plain": step(fresh()),
        "bfloat16": step(fresh(), torch.bfloat16),
        "encoder compiled": step(compiled),
        "gradient checkpointing in the decoder": step(checkpointed),
    }
    return variants if ast else variants | {"channels last": step(wide.to(memory_format=torch.channels_last))}


def optimizers() -> dict[str, Callable[[], object]]:
    """Steps of AdamW."""

    def one(**how: bool) -> Callable[[], object]:
        weights = [torch.nn.Parameter(torch.zeros(768, 768)) for _ in range(210)]
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        return torch.optim.AdamW(weights, **how).step

    return {"plain": one(foreach=False), "foreach": one(foreach=True), "fused": one(fused=True)}


def recurrent() -> dict[str, Callable[[], object]]:
    """Gradients of a layer in both directions over 500 frames: PyTorch's on packed sequences, and ours."""
    states, frames = torch.randn(CLIPS, 500, 64), torch.full((CLIPS,), 500)
    ours, packed = BidirectionalGRU(64, 128), torch.nn.GRU(64, 128, batch_first=True, bidirectional=True)

    def plain() -> None:
        sequence = pack_padded_sequence(states, frames, batch_first=True, enforce_sorted=False)
        packed(sequence)[0].data.sum().backward()

    return {"plain": plain, "unpacked": lambda: ours(states, frames).sum().backward()}


def entries(work: Path) -> dict[str, Callable[[], object]]:
    """64 clips' prepared log-mels into batches of 8: mapped and copied, and read as `a2i.data.cache` does. Neither looks at
    a file's header, as both have to."""
    found = clips(64, work)
    cache = log_mels(work / "cache", FeatureSettings())
    fill([cache], found, None, print)
    kept = [entry for entry in map(cache.open, found) if isinstance(entry, Entry)]
    batches = [kept[first : first + 8] for first in range(0, len(kept), 8)]

    def copy_on_write(entry: Entry) -> torch.Tensor:
        with open(entry.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return torch.frombuffer(mapped, dtype=torch.float32, offset=HEADER).view(entry.shape)

    def map_them() -> None:
        for batch in batches:
            side_by_side([copy_on_write(entry) for entry in batch])

    def read() -> None:
        for batch in batches:
            side_by_side(batch)

    return {"plain": map_them, "read": read}


def main() -> None:
    given = arguments(__doc__)
    record: dict[str, object] = {"command": ["python", *sys.argv], "machine": machine()}
    for what, variants in (
        ("CNN + GPT-2", captioners(ast=False)),
        ("AST + GPT-2", captioners(ast=True)),
        ("AdamW, 124 M weights", optimizers()),
        ("recurrent units in both directions", recurrent()),
        ("prepared log-mels into batches, mapped as plain", entries(given.work)),
    ):
        once, times = {}, {name: list[float]() for name in variants}
        for name, run in variants.items():
            began = time.process_time()
            run()
            once[name] = time.process_time() - began
        for _ in range(given.repeats):
            for name, run in variants.items():
                began = time.process_time()
                run()
                times[name].append(time.process_time() - began)
        table = Table("", "the first time, s", "s", "÷ plain", "least", "most", title=what)
        for name, spent in times.items():
            ratios = [mine / plain for mine, plain in zip(spent, times["plain"], strict=True)]
            figures = (once[name], statistics.median(spent), statistics.median(ratios), min(ratios), max(ratios))
            table.add_row(name, *(f"{figure:.3g}" for figure in figures))
        Console().print(table)
        record[what] = {"first": once, "seconds": times}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "tried.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
