"""A sweep stops a trial early that is worse than the others were at the same validation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from a2i import trials


class Pruning(Callback):
    """Tells the sweep each validation's value, and ends training after that epoch if the sweep says so.

    What a trial that is stopped leaves is whole: its checkpoints, metrics and captions, with which it can be resumed.
    """

    def __init__(self, trial: trials.Trial, monitor: str) -> None:
        """Set up.

        Args:
            trial: of the sweep.
            monitor: the logged value that is told.
        """
        self.trial = trial
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        value: Any = trainer.callback_metrics.get(self.monitor)
        if value is not None and not trainer.sanity_checking and self.trial.report(float(value), self.monitor):
            trainer.should_stop = True


def pruned() -> bool:
    """Whether this job is a trial that its sweep stopped."""
    trial = trials.here()
    return trial is not None and trial.pruned
