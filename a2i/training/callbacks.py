"""Callbacks of a run: checkpoints, early stopping, captions of every validation, a W&B table, random states."""

import hashlib
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from a2i.metrics.table import write_table
from a2i.report import ClipRow
from a2i.tracking import clip_table
from a2i.training import checkpoints, ranks
from a2i.training.finite import FiniteSteps, NotFiniteError, OnNan
from a2i.training.module import CaptionModule
from a2i.training.stopping import StopBetweenSteps, Stopped


def run_callbacks(
    folder: Path,
    monitor: str,
    mode: str,
    patience: int | None,
    table_clips: int,
    on_nan: OnNan = "stop",
    begun: Callable[[], None] | None = None,
) -> list[Callback]:
    """Checkpoints (best and last), early stopping, a progress bar, and what this file has.

    Args:
        folder: of the run.
        monitor: the logged value by which the best checkpoint is chosen.
        mode: `max` or `min`.
        patience: validations without progress after which training stops; None for never.
        table_clips: in the table of each validation.
        on_nan: what becomes of a step whose loss or gradient is not finite; see `FiniteSteps`.
        begun: called by the first process once training begins, or goes on.
    """
    keep: dict[str, Any] = {"dirpath": folder / checkpoints.FOLDER, "enable_version_counter": False}
    best = BestCheckpoint(filename="best", monitor=monitor, mode=mode, save_on_train_epoch_end=False, **keep)
    # One of its own: a callback that monitors would skip the epochs that are not the best, and put what it saves when
    # interrupted in the best one's place.
    last = LastCheckpoint(filename="last", save_on_train_epoch_end=True, save_on_exception=True, **keep)
    found: list[Callback] = [FiniteSteps(on_nan), SamePlace(begun), RandomStates(), LastValues()]
    found += [CaptionFiles(folder / "captions"), ValidationTable(table_clips)]
    if patience is not None:
        found.append(Patience(monitor=monitor, mode=mode, patience=patience))
    found.append(RichProgressBar() if sys.stderr.isatty() else TQDMProgressBar(refresh_rate=50))
    return [*found, best, last, StopBetweenSteps()]


class BestCheckpoint(ModelCheckpoint):
    """Knows the best score so far also where the run's folder was moved: Lightning would take the next for the best."""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})


class LastCheckpoint(ModelCheckpoint):
    """Saves at every epoch's end, and when interrupted between two steps of one: with several ranks, where all stop there.

    Not in the middle of a step, which has used up random numbers and changed statistics that resuming would use and change
    again; and not after an epoch's last step, or resuming would leave that epoch without its validation. There the
    checkpoint of the epoch before stands, from which all comes out the same. Nor where weights may be spoiled, or the disk is
    full.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, (NotFiniteError, OSError)):
            return
        if trainer.world_size > 1 and not isinstance(exception, Stopped):
            return  # the others know nothing of it, and to save takes all
        progress = trainer.fit_loop.epoch_loop.batch_progress
        current: Any = progress.current
        in_step = current.ready != current.processed
        if not (trainer.validating or in_step or progress.is_last_batch):
            super().on_exception(trainer, pl_module, exception)


class Patience(EarlyStopping):
    """Early stopping whose patience is the configuration's, not the checkpoint's; a run that was stopped stays stopped."""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class SamePlace(Callback):
    """Checks that a resumed run has as many batches in an epoch as before, which tell its place, and on all ranks the same."""

    def __init__(self, begun: Callable[[], None] | None = None) -> None:
        """Set up; `begun` is called once training goes on."""
        self.begun = begun
        self.before: dict[str, int] | None = None
        self.now: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        return self.now

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.before = state_dict

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.now = {"batches": int(trainer.num_training_batches), "devices": trainer.world_size}
        if self.before and self.before["batches"] != self.now["batches"]:
            raise ValueError(
                f"an epoch has {self.now['batches']} batches, and had {self.before['batches']} (on {self.before['devices']}"
                " devices) when the checkpoint was written: its place can't be found. Resume with the same recordings and"
                " loader.batch_size, which is the clips of a step over all devices, or begin a new run"
            )
        steps = ranks.of_each(trainer.global_step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"the ranks begin at the steps {steps}; expected the same one: each has to see the same run folder, on a disk"
                " that all machines share"
            )
        if self.begun is not None and trainer.is_global_zero:
            self.begun()


class CaptionFiles(Callback):
    """Writes `captions/epoch_0003.csv` at each validation: a row a clip, with caption, references and BERTScore."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, CaptionModule)
        if trainer.sanity_checking or not module.validation_rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        scores = [key for key in module.validation_rows[0] if key.startswith("bertscore_")]
        with checkpoints.whole_file(self.folder / f"epoch_{trainer.current_epoch:04d}.csv") as partial:
            write_table(partial, module.validation_rows, scores)


class ValidationTable(Callback):
    """Logs a table of sounds, spectrograms, references, captions and scores to Weights & Biases at each validation."""

    def __init__(self, clips: int = 8) -> None:
        """Set up.

        Args:
            clips: in the table, the same ones every time, spread over the split.
        """
        self.clips = clips

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, CaptionModule)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger) and self.clips > 0]
        rows = sorted(module.validation_rows, key=lambda row: row["file_name"])
        if trainer.sanity_checking or not loggers or not rows:
            return
        clips = {clip.name: clip for clip in trainer.datamodule.clips["val"]}  # type: ignore[attr-defined]
        shown = []
        for row in rows[:: max(1, len(rows) // self.clips)][: self.clips]:
            clip = clips[row["file_name"]]
            scores = {name: value for name, value in row.items() if name.startswith("bertscore_")}
            told = (row["file_name"], row["caption_predicted"], row["candidates"], row["references"], scores)
            where = {"audio": clip.path, "start": clip.start, "end": clip.end}
            shown.append(ClipRow(*told, **where, confidence=row["confidence"]))
        try:
            for logger in loggers:
                logger.experiment.log({"val/captions": clip_table(shown, range(len(shown)))}, commit=False)
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # W&B puts sounds and pictures into the temporary folder first
            print(f"no table of this validation in W&B ({error}); is {tempfile.gettempdir()} full?", file=sys.stderr)


class LastValues(Callback):
    """Keeps what was logged last in checkpoints: a run that is stopped after its last epoch has nothing left to log."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["callbacks"][self.state_key] = self.of(trainer)

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.before = state_dict

    def of(self, trainer: Trainer) -> dict[str, float]:
        """The values that a trainer logged last, by name, or did before it was stopped."""
        return {name: float(value) for name, value in trainer.callback_metrics.items()} or self.before


class RandomStates(Callback):
    """Keeps the random states of torch, NumPy and Python in checkpoints; Lightning does not, and dropout depends on them.

    Those of all ranks, which draw for other clips each. A rank whose state is not known, at the beginning and where there are
    more ranks than before, begins with one of its own, which seed, rank and step make.
    """

    def __init__(self) -> None:
        self.restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        numpy: Any = np.random.get_state()
        name, keys, position, has_gauss, gauss = numpy
        own = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
            "python": random.getstate(),
        }
        first, *others = ranks.of_each(own)
        return first | ({"others": others} if others else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restored = state_dict

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Restore the states last, just before the first batch, so that no setting up changes them."""
        kept = [] if self.restored is None else [self.restored, *self.restored.get("others", [])]
        if ranks.rank() < len(kept):
            _restore(kept[ranks.rank()])
        elif ranks.rank() > 0:
            about = f"{torch.initial_seed()} {ranks.rank()} {trainer.global_step}"
            seed = int.from_bytes(hashlib.sha256(about.encode()).digest()[:4])
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
        self.restored = None


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
