"""An epoch of AST-base + GPT-2 base, five captions a clip: our run against the reference's, in caption tokens a second.

All is tuned, and a clip encoded once for its five captions; or with `--frozen 1` the encoder stays as it is and its states,
prepared once, are read. Both hear the first 10.24 s, as published; both use Adam at 5e-5. Both compute in float32, or ours in
bfloat16 with `--bf16 1`, as with `trainer.precision=bf16-mixed`. Dropout apart, which the comparison of losses switches off,
they learn from the same pairs. What preparing takes is in the record, not in the ratio, nor is either side's first epoch,
which makes room in memory. Takes 18 GB of memory with base models. `--gpu 1` runs both sides on CUDA.
"""

import statistics
import time
import warnings
from collections.abc import Iterable
from typing import Any

import reference as plain
import torch
from lightning.pytorch import Trainer
from measure import alternate, arguments, clips, device, models, report

from a2i.captioner import Captioner
from a2i.captioner.decoders.gpt2 import GPT2Decoder
from a2i.captioner.encoders.ast import ASTEncoder
from a2i.captioner.text import CaptionTokenizer
from a2i.training.datamodule import CaptionDataModule
from a2i.training.inputs import cached_inputs, encoded
from a2i.training.module import CaptionModule

RATE = 5e-5
TOLERANCES = {"32-true": 1e-3, "bf16-mixed": 5e-3}  # of the loss, in nats per token


class These:
    """Clips as a source."""

    def __init__(self, clips: list) -> None:
        self.chosen = clips

    def prepare(self) -> None:
        """Nothing is missing."""

    def clips(self, split: str) -> list:
        return self.chosen


def build(folder: str) -> tuple[Captioner, plain.Captioner]:
    """The same weights for both, the random cross-attention too."""
    tokenizer = CaptionTokenizer.load(f"{folder}/gpt2", 64)
    torch.manual_seed(0)
    ours = Captioner(
        ASTEncoder(f"{folder}/ast", long_audio="truncate"), GPT2Decoder(len(tokenizer), f"{folder}/gpt2"), tokenizer
    )
    theirs = plain.Captioner(f"{folder}/ast", f"{folder}/gpt2")
    theirs.decoder.load_state_dict(ours.decoder.model.state_dict())
    theirs.encoder.load_state_dict(ours.encoder.model.state_dict())
    return ours, theirs


def their_loss(theirs: plain.Captioner, pairs: list) -> float:
    """Before anything is learnt, in nats per token over all pairs."""
    with torch.no_grad():
        return mean((loss.item(), n) for loss, n in map(theirs.eval().loss, plain.batches(pairs)))


def our_loss(ours: CaptionModule, data: CaptionDataModule, precision: str) -> float:
    """Likewise."""
    captioner = ours.eval().captioner
    sums = []
    with torch.no_grad(), torch.autocast(captioner.device.type, torch.bfloat16, enabled=precision != "32-true"):
        for batch in (batch.to(captioner.device) for batch in data.train_dataloader()):
            states, mask, _ = captioner.bridge(*encoded(captioner, batch))
            loss, n = captioner.loss_from_states(states, mask, batch.tokens, batch.clip_index)
            sums.append((loss.item(), int(n)))
    return mean(sums)


def mean(sums: Iterable[tuple[float, int]]) -> float:
    """Of means over so many."""
    losses, counts = zip(*sums, strict=True)
    return sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)


def main() -> None:
    given = arguments(__doc__, clips=2, batch=2, frozen=0, base=1, bf16=0, gpu=0)
    warnings.filterwarnings("ignore")
    chosen, frozen = clips(given.clips, given.work), bool(given.frozen)
    precision = "bf16-mixed" if given.bf16 else "32-true"
    captioner, theirs = build(str(models(given.work, bool(given.base))))
    where = device(given.gpu)
    captioner.to(where)
    theirs.to(where).freeze_encoder = frozen
    theirs.encoder.requires_grad_(not frozen)
    began = time.perf_counter()
    ready = cached_inputs(
        "states" if frozen else "log_mels", given.work / "cache", captioner, chosen, not frozen, False
    )
    preparing = time.perf_counter() - began
    tokenizer, rate = captioner.tokenizer, captioner.sampling_rate
    data = CaptionDataModule(These(chosen), tokenizer, rate, batch_size=given.batch, captions="all", inputs=ready)
    data.setup("fit")
    learning = [weight for weight in theirs.parameters() if weight.requires_grad]
    their_optimizer = torch.optim.Adam(learning, lr=RATE)
    made: list[torch.optim.Optimizer] = []

    def our_optimizer(groups: Any) -> torch.optim.Optimizer:
        """One for all epochs, though Lightning asks for it anew at every fit."""
        if not made:
            made.append(torch.optim.Adam(groups, lr=RATE, fused=True))
        return made[0]

    module = CaptionModule(captioner, our_optimizer, freeze_encoder=frozen)
    pairs = [(clip.path, caption) for clip in chosen for caption in clip.captions]
    before = their_loss(theirs, pairs)
    equal = {
        "difference": abs(before - our_loss(module, data, precision)),
        "tolerance": TOLERANCES[precision],
        "of": f"the loss before, {before:.5f} nats per token",
    }

    def reference() -> int:
        tokens = plain.train_epoch(theirs, their_optimizer, pairs)
        their_optimizer.zero_grad()  # makes room
        return tokens

    def ours() -> None:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        settings = {"precision": precision, "limit_val_batches": 0, "enable_model_summary": False}
        Trainer(max_epochs=1, accelerator=where.type, devices=1, **settings, **quiet).fit(module.to(where), data)
        module.zero_grad()

    alternate(reference, ours, 1)
    their_times, our_times, tokens, _ = alternate(reference, ours, given.repeats)
    about = "encoder frozen" if frozen else "all tuned"
    report(
        f"{'frozen' if frozen else 'tuned'}_epoch{'_bf16' if given.bf16 else ''}",
        f"an epoch of {given.clips} clips with five captions, {about}, ours in {precision}, seconds",
        given,
        their_times,
        our_times,
        equal,
        tokens=tokens,
        tokens_per_second=tokens / statistics.median(our_times),
        preparing=preparing,
    )


if __name__ == "__main__":
    main()
