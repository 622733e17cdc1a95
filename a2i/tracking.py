"""Weights & Biases: offline without an account, and a table of clips to hear, to look at and to read."""

import glob
import os
import shlex
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from a2i import audio
from a2i.audio.addresses import without_secrets
from a2i.features import LogMel
from a2i.report import ClipRow
from a2i.report.clips import metric_names
from a2i.report.media import RATE, spectrogram

if TYPE_CHECKING:
    import wandb

Began = TypeVar("Began")
REACHED = 4.0  # seconds within which W&B's server has to answer
# Seconds, as settings of a run: until it has begun (90 by W&B itself), and until at its end all is sent (no end by itself).
WAITS = {"init_timeout": 20.0, "finish_timeout": 120.0}


def choose_mode(folder: Path) -> None:
    """Before a run begins in a folder: without an account, or where W&B can't be reached, it is put offline, and keeps what is
    to be sent in the folder. A WANDB_MODE that the user gave stays."""
    if not os.environ.get("WANDB_MODE"):
        if not has_account():
            os.environ["WANDB_MODE"] = "offline"
        elif (unreachable := _unreachable()) is not None:
            _go_offline(unreachable)
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        os.environ.setdefault("WANDB_SILENT", "true")
        # The sounds and pictures of tables wait there to be sent; by default that is outside the run's folder.
        os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")


def begin_run(folder: Path, begin: Callable[[], Began]) -> Began:
    """What `begin` gives, which begins a W&B run in a folder, with `WAITS` among its settings.

    Where W&B was there a moment ago but takes no run (a key that it does not know, a server that does not answer), the run
    begins offline.

    Raises:
        OSError: it can't begin, in the mode that the user gave.
    """
    import wandb

    choose_mode(folder)
    given = sys.argv
    try:
        sys.argv = [without_secrets(item) for item in given]  # W&B keeps the command
        return begin()
    except wandb.errors.Error as error:
        reason = next(iter(str(error).strip("<> \n").splitlines()), "") or type(error).__name__
        if mode := os.environ.get("WANDB_MODE"):
            raise OSError(f"W&B: {reason}, with WANDB_MODE={mode}; unset it, or set logger=csv") from error
        _go_offline(f"W&B takes no run ({reason})")
        return begin_run(folder, begin)
    finally:
        sys.argv = given


def close_wandb(failed: bool) -> None:
    """End the W&B run, without which the jobs of a sweep would share one, and say how to send what was not sent."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    run, folder = wandb.run, Path(wandb.run.dir).parent
    wandb.finish(exit_code=1 if failed else 0)
    # A run that was resumed has a folder for each time; one that was sent holds a mark.
    pieces = sorted(folder.parent.glob(f"offline-run-*-{glob.escape(run.id)}"))
    unsent = [piece for piece in pieces if not any(piece.glob("*.synced"))]
    if getattr(run, "_finish_timed_out", False):
        print(f"W&B did not take all of this run within {WAITS['finish_timeout']:.0f} s")
        unsent.append(folder)
    elif run.offline:
        print("W&B was offline", end="; ")
    if unsent:
        print(f"to send this run: wandb sync {shlex.join(map(str, unsent))}")


def _go_offline(why: str) -> None:
    import wandb

    print(f"{why}: this run is kept offline", file=sys.stderr)
    os.environ["WANDB_MODE"] = "offline"
    wandb.teardown()  # it read the environment when it began


def _unreachable() -> str | None:
    """Why W&B's server can't be reached, if so, within `REACHED` seconds: its own client tries for minutes."""
    import requests
    import wandb

    url, found = wandb.setup().settings.base_url, list[str | None]()
    silent = f"no answer within {REACHED:.0f} s"

    def ask() -> None:
        try:
            requests.head(url, timeout=REACHED)
            found.append(None)
        except requests.Timeout:
            found.append(silent)
        except requests.RequestException as error:
            found.append(type(error).__name__)

    # Looking a name up knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACHED)
    reason = found[0] if found else silent
    return f"W&B can't be reached at {url} ({reason})" if reason else None


def clip_table(rows: Sequence[ClipRow], media: Collection[int], with_sound: bool = True) -> "wandb.Table":
    """A W&B table with a row for each clip: sound and spectrogram as a report has them, references, caption, candidates,
    picture, scores.

    Args:
        rows: of the clips.
        media: indices of those with sound, spectrogram and picture; the others have empty cells there.
        with_sound: False for spectrograms and pictures alone: for recordings that may not be passed on.

    Raises:
        FileNotFoundError: a sound or picture is not there.
        ValueError: one can't be read.
    """
    import torch
    import wandb

    names, log_mel = metric_names(rows), LogMel()
    drawn = [name for name in ("image", "human_image") if any(getattr(row, name) for row in rows)]
    heads = {"image": "picture", "human_image": "picture of the first reference"}
    head = ["file", "sound", "spectrogram", "references", "caption", "candidates", *(heads[name] for name in drawn)]
    table = wandb.Table(columns=[*head, *names])
    for index, row in enumerate(rows):
        sound = picture = None
        if index in media and row.audio is not None:
            waveform = audio.load(row.audio, RATE, row.start, row.end)
            sound = wandb.Audio(waveform, sample_rate=RATE) if with_sound else None
            with torch.no_grad():
                picture = wandb.Image(spectrogram(waveform, log_mel))
        images = [getattr(row, name) if index in media else None for name in drawn]
        table.add_data(
            row.file_name,
            sound,
            picture,
            "\n".join(row.references),
            row.caption,
            "\n".join(row.others),
            *(
                None if image is None else wandb.Image(str(image) if isinstance(image, Path) else image)
                for image in images
            ),
            *(row.values.get(name) for name in names),
        )
    return table


def has_account() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
