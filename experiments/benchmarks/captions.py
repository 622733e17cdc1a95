"""Captions with four beams: ours in batches against a loop of `generate`, a clip at a time.

With `--base 1` AST-base and GPT-2 base with random weights, against the reference's model with the same weights; else the
embedded small captioner, against itself a clip at a time. `--tiny 1` tries the former with tiny models. Ours captions once more
with `decoding.precision=bfloat16`, which may find another caption: how many are, and how likely float32 finds them, is told.
`--gpu 1` runs both sides on CUDA.
"""

import random
import statistics
from pathlib import Path

import torch
from measure import alternate, arguments, clips, device, models, report

from a2i import audio
from a2i.captioner import Captioner
from a2i.groups import batches_by_length, read_groups
from a2i.places import MINI_CAPTIONER

TOKENS = 16  # of the longest caption of the base model, whose random weights know no end


def main() -> None:
    given = arguments(__doc__, clips=64, batch=8, base=0, tiny=0, gpu=0)
    paths = [clip.path for clip in clips(given.clips, given.work)]
    random.Random(0).shuffle(paths)
    if given.base or given.tiny:
        from epoch import build

        captioner, plain = (model.eval() for model in build(str(models(given.work, not given.tiny))))
        changes = {"num_beams": 4, "num_candidates": 1, "max_tokens": TOKENS - 1}
    else:
        captioner, plain, changes = Captioner.load(MINI_CAPTIONER), None, {"num_beams": 4, "num_candidates": 1}

    for model in (captioner, plain):
        if model is not None:
            model.to(device(given.gpu))

    def reference() -> list[str]:
        if plain is not None:
            return [plain.caption(path, 4, TOKENS) for path in paths]
        return [captioner.caption([audio.load(path)], **changes)[0][0].caption for path in paths]

    def ours(precision: str) -> list[str]:
        found = []
        for group in read_groups(paths, 4 * given.batch):
            for batch in batches_by_length(group, given.batch):
                captions = captioner.caption([each.waveform for each in batch], precision=precision, **changes)
                for each, candidates in zip(batch, captions, strict=True):
                    each.candidates = candidates
            found += [each.candidates[0].caption for each in group]
        return found

    theirs, mine, wanted, found = alternate(reference, lambda: ours("float32"), given.repeats)
    _, once, _, found_bf16 = alternate(lambda: None, lambda: ours("bfloat16"), 1)
    name, what = "captions_base" if plain else "captions_mini", f"captions for {given.clips} clips of 15 s, four beams"
    equal = {
        "difference": differing(wanted, found),
        "tolerance": 0,
        "of": "captions that are not the same to the letter",
    }
    lower = {
        "difference": likelihood(captioner, paths, wanted) - likelihood(captioner, paths, found_bf16),
        "tolerance": 0.02,
        "of": "the mean log-probability of a token by the model in float32, less of ours than of the reference's, in nats",
        "captions that differ": differing(wanted, found_bf16),
    }
    report(name, f"{what}, float32, seconds", given, theirs, mine, equal)
    report(f"{name}_bf16", f"{what}, ours in bfloat16, seconds", given, [statistics.median(theirs)], once, lower)


def differing(some: list[str], others: list[str]) -> int:
    """Captions that are not the same to the letter."""
    return sum(one != other for one, other in zip(some, others, strict=True))


@torch.no_grad()
def likelihood(captioner: Captioner, paths: list[Path], captions: list[str]) -> float:
    """Mean log-probability of the captions' tokens in float32, in nats; the captions cut where generation stopped."""
    total, count = 0.0, 0
    for path, caption in zip(paths, captions, strict=True):
        waveform = torch.from_numpy(audio.load(path))
        length, first = (torch.tensor([number], device=captioner.device) for number in (len(waveform), 0))
        log_mel, mask = captioner.log_mel(waveform[None].to(captioner.device), length)
        loss, tokens = captioner.loss(log_mel, mask, captioner.tokenizer.encode([caption]).to(captioner.device), first)
        total, count = total - float(loss) * int(tokens), count + int(tokens)
    return total / count


if __name__ == "__main__":
    main()
