"""Weights & Biases: offline without an account, and a table of clips to hear, to look at and to read."""

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a2i import audio
from a2i.features import LogMel
from a2i.report import ClipRow
from a2i.report.clips import metric_names
from a2i.report.media import spectrogram

if TYPE_CHECKING:
    import wandb


def go_offline_without_account(folder: Path) -> None:
    """Before a run begins in a folder: without an account W&B is put offline, and keeps what is to be sent in the folder."""
    if not os.environ.get("WANDB_MODE") and not _has_account():
        os.environ["WANDB_MODE"] = "offline"
    if os.environ.get("WANDB_MODE") == "offline":
        os.environ.setdefault("WANDB_SILENT", "true")
        # The sounds and pictures of tables wait there to be sent; by default that is outside the run's folder.
        os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")


def close_wandb(failed: bool) -> None:
    """End the W&B run, without which the jobs of a sweep would share one, and say how to send an offline one."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    offline, files = wandb.run.offline, Path(wandb.run.dir).parent
    wandb.finish(exit_code=1 if failed else 0)
    if offline:
        print(f"W&B was offline; to send this run: wandb sync {files}")


def clip_table(rows: Sequence[ClipRow], media: Collection[int], with_sound: bool = True) -> "wandb.Table":
    """A W&B table with a row for each clip: sound, spectrogram, references, caption, candidates, picture, scores.

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
            waveform = audio.load(row.audio, row.start, row.end)
            sound = wandb.Audio(waveform, sample_rate=audio.SAMPLE_RATE) if with_sound else None
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


def _has_account() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
