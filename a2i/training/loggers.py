"""One W&B run for one run folder, however often it is resumed."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from a2i.tracking import WAITS, begin_run
from a2i.whole import write_whole

RUN_FILE = "wandb_run.txt"  # in the run folder: the id of its W&B run


def logger_settings(settings: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What to build loggers from: `conf/logger`'s settings, all below the run folder.

    Where the folder has a W&B run already, it goes on.
    """
    result = []
    for logger in settings.values():
        values = {**logger, "save_dir": str(folder)}
        if values["_target_"].endswith("WandbLogger"):
            values["settings"] = {**WAITS, **(values.get("settings") or {})}
            if values.get("offline"):
                os.environ.setdefault("WANDB_MODE", "offline")
            if (folder / RUN_FILE).exists():
                values |= {"id": (folder / RUN_FILE).read_text(encoding="utf-8").strip(), "resume": "allow"}
        result.append(values)
    return result


def begin_runs(loggers: list[Logger], folder: Path) -> None:
    """Begin the W&B run, offline if W&B can't be reached, and record its id in the run folder.

    Raises:
        OSError: it can't begin.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run = begin_run(folder, lambda: logger.experiment)  # noqa: B023  # called at once
            write_whole(folder / RUN_FILE, f"{run.id}\n".encode())
