"""Checks before the first step. All problems are reported at once, with the names of clips and settings."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.cleaning import words
from a2i.data import Clip
from a2i.data.cache import waveforms
from a2i.data.download import require_space
from a2i.errors import first_line, one_line
from a2i.metrics.captions import score_captions
from a2i.training.augment import join_captions
from a2i.training.batches import CaptionChoice, learnt

LISTED = 20  # names in a message
PROBE = 0.01  # seconds of each file that are decoded: half a millisecond a file, 2 to 4 s for Clotho's 6,000
READERS = 8  # files that are opened at once: a disk that has to seek takes as long as several
PATIENCE = 2.0  # seconds after which a bar shows
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", "None")  # by their short names too
EXAMPLE = "a dog barks while rain falls"


class Problems:
    """Collects problems, so that a user sees all of them at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def told(self) -> Iterator[None]:
        """Record an error of the input as a problem, and go on."""
        try:
            yield
        except (ValueError, OSError, ImportError) as error:
            said = one_line(error)
            self.found += [said] if said not in self.found else []

    def add(self, message: str, names: Sequence[str], advice: str) -> None:
        """Record a problem of the named clips or files, if there are any: `message`, their number, their names, `advice`."""
        if names:
            self.found.append(f"{message} {listed(names)}; {advice}")

    def stop(self) -> None:
        """Raise if there are problems.

        Raises:
            ValueError: lists all problems.
        """
        if len(self.found) == 1:
            raise ValueError(self.found[0])
        if self.found:
            numbered = " ".join(f"({number}) {text}" for number, text in enumerate(self.found, start=1))
            raise ValueError(f"{len(self.found)} things to mend before training: {numbered}")


def listed(names: Sequence[str]) -> str:
    """The number of names and the first `LISTED` of them: `3: a, b, c`."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)}: {'; '.join(names[:LISTED])}{more}"


def check_captions(problems: Problems, train: Sequence[Clip], val: Sequence[Clip], choice: CaptionChoice) -> None:
    """Check that every training caption has a word, and every validation clip a reference with one and no blank one."""
    wordless = [clip.name for clip in train if not clip.captions or not all(map(words, learnt(clip, choice)))]
    problems.add("training clips with a caption without a word,", _repr(wordless), "write one, or leave the clip out")
    wordless = [clip.name for clip in val if not any(map(words, clip.captions))]
    problems.add("validation clips without a reference that has a word,", _repr(wordless), "write one, or leave it out")
    blank = [clip.name for clip in val if any(map(words, clip.captions)) and not all(map(str.strip, clip.captions))]
    problems.add("validation clips with a blank reference,", _repr(blank), "write it, or remove it")


def _repr(names: Iterable[str]) -> list[str]:
    return list(map(repr, dict.fromkeys(names)))


def check_sounds(problems: Problems, clips: Iterable[Clip], cache: str | Path | None, rate: int) -> None:
    """Check that every sound file opens and has samples where its clip begins.

    Files whose waveform of `rate` Hz is in the cache are not opened again. What lies in shards is not either: it was
    opened when it was written, its bytes have a hash, and it may lie far away. A file that breaks off later is found when it is
    read; see `a2i.training.batches.BrokenClipError`.
    """
    once = list({(clip.path, clip.start): clip for clip in clips if not isinstance(clip.path, audio.Held)}.values())
    known = (lambda clip: False) if cache is None or cache == "memory" else waveforms(cache, rate).has
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda clip: _wrong(clip, known, rate), once)
        wrong = [problem for problem in _shown_if_long(found, "opening sounds", len(once)) if problem is not None]
    problems.add("sound files that can't be used,", wrong, "mend them, or leave their clips out")


def _wrong(clip: Clip, known: Callable[[Clip], bool], rate: int) -> str | None:
    try:
        if not known(clip):
            start = clip.start or 0.0
            audio.load(clip.path, rate, start, min(start + PROBE, clip.end or np.inf))
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def _shown_if_long(items: Iterable[Any], doing: str, total: int) -> Iterator[Any]:
    """The items, with a progress bar from `PATIENCE` seconds on."""
    from rich.progress import Progress

    began = time.monotonic()
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(doing, total=total, visible=False)
        for item in items:
            progress.update(bar, advance=1, visible=time.monotonic() - began > PATIENCE)
            yield item


def check_metrics(
    problems: Problems, metrics: Sequence[str] | None, monitor: str, clips: int, say: Callable[[str], None]
) -> None:
    """Check that the monitored value can be computed here; report other metrics that can't."""
    if not metrics:
        return
    with problems.told():
        examples = [EXAMPLE] * min(clips, 2)  # some metrics need two
        for name, score in score_captions(examples, [[example] for example in examples], metrics).items():
            if score.missing and f"val/{name}" == monitor:
                problems.found.append(
                    f"got monitor={monitor}, which can't be computed here ({score.missing}); expected another, such as"
                    " val/loss"
                )
            elif score.missing:
                say(f"val/{name} can't be computed here and is left out: {score.missing}")


def check_precision(precision: str | int | None) -> None:
    """Check that weights stay float32, as they do in mixed precision.

    Raises:
        ValueError: the precision would change the weights' type.
    """
    if str(precision) not in PRECISIONS:
        raise ValueError(f"got trainer.precision={precision}; expected one of {', '.join(PRECISIONS[:3])}")


def slow_precision(precision: str | int | None, device: torch.device) -> str | None:
    """What to tell of a precision that this machine computes slower than float32; None where there is nothing to tell.

    A CPU without instructions for bfloat16 converts each product to float32 and back.
    """
    if device.type != "cpu" or not str(precision).startswith("bf16"):
        return None
    if any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16")):
        return None
    return f"this CPU can't compute in bfloat16: trainer.precision={precision} is slower here than 32-true"


def check_room(problems: Problems, folder: Path, captioner: Captioner, cache: str | Path | None) -> None:
    """Check that the disk has space for two checkpoints and a captioner, and that the cache folder can be written to."""
    whole, learns = (
        sum(weight.numel() * weight.element_size() for weight in captioner.parameters() if weight.requires_grad or all_)
        for all_ in (True, False)
    )
    with problems.told():
        require_space(folder, 2 * (whole + 2 * learns) + whole, "training (two checkpoints and a captioner)")
    if cache is not None and cache != "memory":
        try:
            Path(cache).expanduser().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=Path(cache).expanduser()):
                pass
        except OSError as error:
            problems.found.append(f"got loader.cache={cache}, where nothing can be written ({error.strerror})")


@torch.no_grad()
def try_out(captioner: Captioner, captions: Sequence[str], mixed: bool, decoding: Mapping[str, Any]) -> None:
    """Run the captioner once, on a second of silence and the longest caption, to find parts that don't fit together.

    Weights, random states and the parts' training or evaluation mode stay as they were.

    Args:
        captioner: that is to learn.
        captions: that it is to learn from, and to be validated with.
        mixed: whether captions are joined with others.
        decoding: changes of its decoding settings at validation.

    Raises:
        ValueError: its parts, or the captions and the decoder, don't fit.
    """
    tokenizer, modes = captioner.tokenizer, {part: part.training for part in captioner.modules()}
    longest = captions[int(tokenizer.encode(captions).mask.sum(dim=1).argmax())]
    if mixed:
        longest = join_captions(longest, longest, np.random.default_rng(0))
    silence = np.zeros(captioner.sampling_rate, np.float32)
    changes = {**captioner.decoding_with(**decoding).__dict__, "max_tokens": 2}
    try:
        with torch.random.fork_rng():
            captioner.eval()
            log_mel, mask = captioner.log_mel(torch.from_numpy(silence)[None], torch.tensor([len(silence)]))
            captioner.loss(log_mel, mask, tokenizer.encode([longest]), torch.zeros(1, dtype=torch.long))
            captioner.caption([silence], **changes)
    except RuntimeError as error:
        raise ValueError(f"the model's parts don't fit together: {first_line(error)}") from error
    finally:
        for part, mode in modes.items():
            part.training = mode
