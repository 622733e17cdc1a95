"""One W&B run for one run folder, however often it is resumed."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from a2i.tracking import go_offline_without_account

RUN_FILE = "wandb_run.txt"  # in the run folder: the id of its W&B run


def logger_settings(settings: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What to build loggers from: `conf/logger`'s settings, all below the run folder.

    Without an account Weights & Biases is put offline; where the folder has a W&B run already, it goes on.
    """
    result = []
    for logger in settings.values():
        values = {**logger, "save_dir": str(folder)}
        if values["_target_"].endswith("WandbLogger"):
            go_offline_without_account(folder)
            if (folder / RUN_FILE).exists():
                values |= {"id": (folder / RUN_FILE).read_text(encoding="utf-8").strip(), "resume": "allow"}
        result.append(values)
    return result


def remember_run(loggers: list[Logger], folder: Path) -> None:
    """Write down which W&B run the folder belongs to."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            (folder / RUN_FILE).write_text(f"{logger.experiment.id}\n", encoding="utf-8")
