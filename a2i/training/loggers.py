"""Weights & Biases without an account, and one W&B run for one run folder, however often it is resumed."""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

RUN_FILE = "wandb_run.txt"  # in the run folder: the id of its W&B run


def logger_settings(settings: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What to build loggers from: `conf/logger`'s settings, all below the run folder.

    Without an account Weights & Biases is put offline; where the folder has a W&B run already, it goes on.
    """
    result = []
    for logger in settings.values():
        values = {**logger, "save_dir": str(folder)}
        if values["_target_"].endswith("WandbLogger"):
            if not os.environ.get("WANDB_MODE") and not _has_account():
                os.environ["WANDB_MODE"] = "offline"
            if os.environ.get("WANDB_MODE") == "offline":
                os.environ.setdefault("WANDB_SILENT", "true")
                # The sounds and pictures of tables wait there to be sent; by default that is outside the run's folder.
                os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
            if (folder / RUN_FILE).exists():
                values |= {"id": (folder / RUN_FILE).read_text(encoding="utf-8").strip(), "resume": "allow"}
        result.append(values)
    return result


def remember_run(loggers: list[Logger], folder: Path) -> None:
    """Write down which W&B run the folder belongs to."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            (folder / RUN_FILE).write_text(f"{logger.experiment.id}\n", encoding="utf-8")


def close_wandb(failed: bool) -> None:
    """End the W&B run, without which the jobs of a sweep would share one, and say how to send an offline one."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    offline, files = wandb.run.offline, Path(wandb.run.dir).parent
    wandb.finish(exit_code=1 if failed else 0)
    if offline:
        print(f"W&B was offline; to send this run: wandb sync {files}")


def _has_account() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
