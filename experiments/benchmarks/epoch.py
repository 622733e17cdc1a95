"""An epoch of AST-base + GPT-2 base, five captions a clip: our run against the reference's, in caption tokens a second.

All is tuned, and a clip encoded once for its five captions; or with `--frozen 1` the encoder stays as it is and its states,
prepared once, are read. Both hear the first 10.24 s, as published, in float32; both use Adam at 5e-5. Dropout apart, which
the comparison of losses switches off, they learn from the same pairs. What preparing takes is in the record, not in the ratio.
"""

import functools
import statistics
import time
import warnings

import reference as plain
import torch
from lightning.pytorch import Trainer
from measure import alternate, arguments, clips, models, report

from a2i.captioner import Captioner
from a2i.decoders.gpt2 import GPT2Decoder
from a2i.encoders.ast import ASTEncoder
from a2i.text import CaptionTokenizer
from a2i.training.datamodule import CaptionDataModule
from a2i.training.module import CaptionModule
from a2i.training.prepared import encoded, prepare

RATE = 5e-5


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


def mean_losses(ours: CaptionModule, data: CaptionDataModule, theirs: plain.Captioner, pairs: list) -> list[float]:
    """Of both before anything is learnt, in nats per token over all pairs."""
    result = []
    with torch.no_grad():
        sums = [(loss.item(), n) for loss, n in map(theirs.eval().loss, plain.batches(pairs))]
        result.append(sum(loss * n for loss, n in sums) / sum(n for _, n in sums))
        ours.eval()
        sums = []
        for batch in data.train_dataloader():
            attended = ours.captioner.attended(*encoded(ours.captioner, batch))
            loss, n = ours.captioner.loss_from_states(*attended, batch.tokens, batch.clip_index)
            sums.append((loss.item(), int(n)))
    return [*result, sum(loss * n for loss, n in sums) / sum(n for _, n in sums)]


def main() -> None:
    given = arguments(__doc__, clips=2, batch=2, frozen=0, base=1)
    warnings.filterwarnings("ignore")
    chosen, frozen = clips(given.clips, given.work), bool(given.frozen)
    captioner, theirs = build(str(models(given.work, bool(given.base))))
    theirs.freeze_encoder = frozen
    theirs.encoder.requires_grad_(not frozen)
    began = time.perf_counter()
    ready = prepare("states" if frozen else "log_mels", given.work / "cache", captioner, chosen, not frozen, False)
    preparing = time.perf_counter() - began
    data = CaptionDataModule(These(chosen), captioner.tokenizer, batch_size=given.batch, captions="all", prepared=ready)
    data.setup("fit")
    module = CaptionModule(captioner, functools.partial(torch.optim.Adam, lr=RATE, fused=True), freeze_encoder=frozen)
    pairs = [(clip.path, caption) for clip in chosen for caption in clip.captions]
    wanted, found = mean_losses(module, data, theirs, pairs)

    # Each side makes its optimiser anew, so that the states of one alone are in memory.
    def reference() -> int:
        learning = [weight for weight in theirs.parameters() if weight.requires_grad]
        return plain.train_epoch(theirs, torch.optim.Adam(learning, lr=RATE), pairs)

    def ours() -> None:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(max_epochs=1, accelerator="cpu", limit_val_batches=0, enable_model_summary=False, **quiet)
        trainer.fit(module, data)

    reference_times, our_times, tokens, _ = alternate(reference, ours, given.repeats)
    name = "frozen_epoch" if frozen else "tuned_epoch"
    equal = {
        "difference": abs(wanted - found),
        "tolerance": 1e-3,
        "of": f"the loss before, {wanted:.5f} nats per token",
    }
    rate = tokens / statistics.median(our_times)
    what = f"an epoch of {given.clips} clips with five captions, {'encoder frozen' if frozen else 'all tuned'}, seconds"
    report(
        name, what, given, reference_times, our_times, equal, tokens=tokens, tokens_per_second=rate, preparing=preparing
    )


if __name__ == "__main__":
    main()
