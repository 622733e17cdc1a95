"""Checkpoints: written whole or not at all. The previous one is kept; one that can't be read is reported and set aside."""

import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from a2i.errors import first_line
from a2i.training.finite import NotFiniteError, not_finite
from a2i.training.run_folder import first_process

FOLDER = "checkpoints"  # in the run folder
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to resume from.

    Attributes:
        path: of it.
        epochs: that were trained to their end.
        steps: of the optimiser.
        waited: validations without progress; 0 where nothing stops early.
        data: what the data module had kept in it.
    """

    path: Path
    epochs: int
    steps: int
    waited: int
    data: dict[str, Any] = field(default_factory=dict)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside another to write to, which takes the other's name and place once it is on the disk.

    Its name is always the same, so that what a kill leaves is overwritten by the next: a run has one writer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the checkpoint and renames, where Lightning writes to the temporary folder and copies.

    A copy that is killed leaves a part under the checkpoint's name; and the temporary folder may be full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the last one becomes the previous.

        Raises:
            NotFiniteError: its weights are not finite.
            OSError: it can't be written; the one before stays.
        """
        path = Path(path)
        if bad := not_finite(checkpoint["state_dict"]):
            raise NotFiniteError(f"{path}: not written, because of weights that are not finite: {_listed(bad)}")
        try:
            with whole_file(path) as partial:
                with partial.open("wb") as file:
                    torch.save(checkpoint, file)
                if path.name == LAST and path.exists():
                    _keep(path)
        except (OSError, RuntimeError) as error:  # torch's own writer wraps the system's errors
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            raise OSError(
                f"{path}: can't be written ({getattr(cause, 'strerror', None) or cause}); the checkpoint before it stays."
                f" Free or mend the disk, then go on: python -m a2i.train resume={path.parent.parent}"
            ) from error


def _keep(last: Path) -> None:
    """Keep the last checkpoint as the previous one; `last` is there at every moment where the file system has links."""
    partial = last.with_name(f".{PREVIOUS}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.link(last, partial)
        os.replace(partial, last.with_name(PREVIOUS))
    except OSError:
        os.replace(last, last.with_name(PREVIOUS))


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of a run.

    Raises:
        ValueError: it can't be read, or its weights are not finite.
        PermissionError: it may not be read.
    """
    try:
        with zipfile.ZipFile(path) as parts:  # torch itself doesn't look at the checksums that it writes
            assert (spoilt := parts.testzip()) is None, f"{spoilt} is spoilt"
        found = torch.load(path, map_location="cpu", weights_only=True)
        weights, loops = found["state_dict"], found["loops"]["fit_loop"]
        assert found["global_step"] >= 0
        assert loops["epoch_progress"]["current"]["processed"] >= 0
    except PermissionError:
        raise
    except Exception as error:  # bytes that are no checkpoint fail in any way
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes): no checkpoint that can be read ({first_line(error)})") from error
    if bad := not_finite(weights):
        raise ValueError(f"{path}: has weights that are not finite ({_listed(bad)})")
    return found


def latest(folder: Path) -> Checkpoint:
    """The last checkpoint of a run that can be read; those that can't are reported and set aside.

    Raises:
        FileNotFoundError: there is none.
        ValueError: none can be read.
    """
    bad: list[str] = []
    for name in (LAST, PREVIOUS, BEST):
        path = folder / FOLDER / name
        if not path.exists():
            continue
        try:
            found = read(path)
        except ValueError as error:
            bad.append(str(error))
            continue
        steps = found["global_step"]
        if name != LAST and first_process():
            why = "; ".join(bad) or f"{folder / FOLDER / LAST}: not there"
            print(f"{why}. Going on from the one before it: {path}, of step {steps}", file=sys.stderr)
            # Else it would be kept as the previous one, when the next is written, and this one lost.
            for spoilt in (LAST, PREVIOUS)[: 2 if name == BEST else 1]:
                with suppress(FileNotFoundError):
                    os.replace(folder / FOLDER / spoilt, folder / FOLDER / f"{spoilt}.unreadable")
        waited = [value.get("wait_count", 0) for key, value in found["callbacks"].items() if "EarlyStopping" in key]
        epochs = found["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        return Checkpoint(path, epochs, steps, max(waited, default=0), found.get("CaptionDataModule") or {})
    if bad:
        raise ValueError(f"no checkpoint of {folder} can be read, so nothing to resume: {'; '.join(bad)}")
    raise FileNotFoundError(
        f"{folder / FOLDER / LAST}: no such checkpoint, so nothing to resume; start the experiment anew"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
