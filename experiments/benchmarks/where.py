"""Where the time goes, before (the reference's way) and after (ours): the operators that take most, by PyTorch's profiler.

Log-mel of a batch, a training step of the base size with five captions a clip, and captions by the embedded model, a clip at a
time and together. Times under a profiler are longer than without: read the shares. `--threads 1` for those of the record.
"""

import functools
from collections.abc import Callable

import reference as plain
import torch
from epoch import build
from measure import arguments, clips, models
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from a2i import audio
from a2i.captioner import Captioner
from a2i.features import LogMel
from a2i.paths import MINI_CAPTIONER

ROWS = 7  # operators shown


def operators(run: Callable[[], object]) -> tuple[float, list[tuple[str, float]]]:
    """Seconds of the processor in all, and of each operator by itself, the longest first."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    spent = [(event.key, event.self_cpu_time_total / 1e6) for event in profiler.key_averages()]
    return sum(seconds for _, seconds in spent), sorted(spent, key=lambda one: -one[1])[:ROWS]


def show(what: str, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Both, side by side."""
    sides = [operators(before), operators(after)]
    table = Table("before", "s", "share", "after", "s", "share", title=what)
    for one, other in zip(sides[0][1], sides[1][1], strict=True):
        cells = [
            (name.removeprefix("aten::")[:40], f"{seconds:.3f}", f"{seconds / total:.0%}")
            for (name, seconds), (total, _) in zip((one, other), sides, strict=True)
        ]
        table.add_row(*cells[0], *cells[1])
    table.add_row("all", f"{sides[0][0]:.3f}", "", "all", f"{sides[1][0]:.3f}", "")
    Console().print(table)


def main() -> None:
    given = arguments(__doc__, clips=16, base=1)
    waveforms = [audio.load(clip.path, 16_000)[: 400 + 1023 * 160] for clip in clips(given.clips, given.work)]
    extractor, log_mel = plain.ASTFeatureExtractor(), LogMel()
    batch, lengths = torch.stack([torch.from_numpy(one) for one in waveforms]), torch.full((len(waveforms),), 164_080)
    extract = functools.partial(extractor, sampling_rate=16_000, return_tensors="pt")
    show(
        f"log-mel of {given.clips} clips", lambda: [extract(one) for one in waveforms], lambda: log_mel(batch, lengths)
    )

    small = Captioner.load(MINI_CAPTIONER)
    sounds = [audio.load(clip.path, 16_000) for clip in clips(8, given.work)]
    beams = {"num_beams": 4, "num_candidates": 1}
    show(
        "captions of 8 clips of 15 s, embedded model",
        lambda: [small.caption([one], **beams) for one in sounds],
        lambda: small.caption(sounds, **beams),
    )

    ours, theirs = (model.train() for model in build(str(models(given.work, bool(given.base)))))
    (clip,) = clips(1, given.work)
    pairs = [(clip.path, caption) for caption in clip.captions]
    tokens = ours.tokenizer.encode(clip.captions)

    def step() -> None:
        loss, _ = ours.loss(*log_mel(batch[:1], lengths[:1]), tokens, torch.zeros(len(pairs), dtype=torch.long))
        loss.backward()
        ours.zero_grad()

    def plain_step() -> None:
        theirs.loss(pairs)[0].backward()
        theirs.zero_grad()

    show("gradients of one clip with five captions, base size, all tuned", plain_step, step)


if __name__ == "__main__":
    main()
