"""Captions with four beams: ours in batches against a loop of `generate`, a clip at a time.

With `--base 1` AST-base and GPT-2 base with random weights, against the reference's model with the same weights; else the
embedded small captioner, against itself a clip at a time. `--tiny 1` tries the former with tiny models. `--bf16 1` has ours
caption with `decoding.precision=bfloat16`, which may find another caption: how many are, and how likely float32 finds them, is
told.
`--gpu 1` runs both sides on CUDA.
"""

import random
from pathlib import Path

import torch
from measure import alternate, arguments, clips, device, models, report

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.batching import CaptionResult, caption_many
from a2i.paths import MINI_CAPTIONER

TOKENS = 16  # of the longest caption of the base model, whose random weights know no end


def main() -> None:
    given = arguments(__doc__, clips=64, batch=8, base=0, tiny=0, bf16=0, gpu=0)
    paths = [clip.path for clip in clips(given.clips, given.work)]
    random.Random(0).shuffle(paths)
    if given.base or given.tiny:
        from epoch import build

        captioner, plain = (model.eval() for model in build(str(models(given.work, not given.tiny))))
        changes = {"num_beams": 4, "num_candidates": 1, "max_tokens": TOKENS - 1}
    else:
        captioner, plain, changes = Captioner.load(MINI_CAPTIONER), None, {"num_beams": 4, "num_candidates": 1}

    lower = {"precision": "bfloat16"} if given.bf16 else {}
    for model in (captioner, plain):
        if model is not None:
            model.to(device(given.gpu))

    def reference() -> list[str]:
        if plain is not None:
            return [plain.caption(path, 4, TOKENS) for path in paths]
        return [
            captioner.caption([audio.load(path, captioner.sampling_rate)], **changes)[0][0].caption for path in paths
        ]

    def ours() -> list[str]:
        found = caption_many(captioner, paths, given.batch, **changes, **lower)
        return [result.candidates[0].caption for result in found if isinstance(result, CaptionResult)]

    theirs, mine, wanted, found = alternate(reference, ours, given.repeats)
    equal = {
        "difference": differing(wanted, found),
        "tolerance": 0,
        "of": "captions that are not the same to the letter",
    }
    if given.bf16:
        equal = {
            "difference": likelihood(captioner, paths, wanted) - likelihood(captioner, paths, found),
            "tolerance": 0.02,
            "of": "the mean log-probability of a token by the model in float32, less of ours than of theirs, in nats",
            "captions that differ": differing(wanted, found),
        }
    report(
        f"captions_{'base' if plain else 'mini'}{'_bf16' if given.bf16 else ''}",
        f"captions for {given.clips} clips of 15 s, four beams, ours in {'bfloat16' if given.bf16 else 'float32'}, seconds",
        given,
        theirs,
        mine,
        equal,
    )


def differing(some: list[str], others: list[str]) -> int:
    """Captions that are not the same to the letter."""
    return sum(one != other for one, other in zip(some, others, strict=True))


@torch.no_grad()
def likelihood(captioner: Captioner, paths: list[Path], captions: list[str]) -> float:
    """Mean log-probability of the captions' tokens in float32, in nats; the captions cut where generation stopped."""
    total, count = 0.0, 0
    for path, caption in zip(paths, captions, strict=True):
        waveform = torch.from_numpy(audio.load(path, captioner.sampling_rate))
        length, first = (torch.tensor([number], device=captioner.device) for number in (len(waveform), 0))
        log_mel, mask = captioner.log_mel(waveform[None].to(captioner.device), length)
        loss, tokens = captioner.loss(log_mel, mask, captioner.tokenizer.encode([caption]).to(captioner.device), first)
        total, count = total - float(loss) * int(tokens), count + int(tokens)
    return total / count


if __name__ == "__main__":
    main()
