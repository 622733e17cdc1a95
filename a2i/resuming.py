"""Going on with a training run: from plain values, with the few changes that are allowed, and without Hydra.

Hydra would run what a stranger's folder names, and write its own record over the run's.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from a2i import plugins
from a2i.command_line import arguments, composed
from a2i.compose import at_home, plain
from a2i.extras import require
from a2i.paths import CONF
from a2i.training.run_folder import changed, first_process, held, saved_settings

if TYPE_CHECKING:
    from a2i.training.checkpoints import Checkpoint


def resumed(
    argv: Sequence[str], until_done: ExitStack
) -> "tuple[dict[str, Any], Path, Checkpoint | None, dict[str, Any]] | None":
    """What it takes to go on with a run.

    Args:
        argv: `resume=FOLDER` and changes.
        until_done: what lets go of the run's folder, which is held from here on.

    Returns:
        the settings, the folder, the checkpoint to go on from (None where the run was stopped before its first), and the
        changes; None where nothing is left to train.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: another process has the run, none of its checkpoints can be read, or a change is none that is allowed.
    """
    require("train")
    argv = plugins.take(argv)
    given = [item.partition("=")[2] for item in argv if item.startswith("resume=")]
    folder = Path(at_home(given[-1].strip("'\""))).resolve()
    if flags := [item for item in argv if item.startswith("-")]:
        raise ValueError(f"got {flags[0]} beside resume=; expected resume=FOLDER and changes, one run at a time")
    settings = saved_settings(folder)
    plugins.check_again(settings.get("plugins", []))
    until_done.enter_context(held(folder))
    settings = saved_settings(folder)  # as the process left it that held the folder before
    changes = _changes([item for item in argv if not item.startswith("resume=")], settings)
    settings = _with_defaults(changed(settings, changes))
    from a2i.training.checkpoints import latest
    from a2i.training.settings import check

    check(settings)
    try:
        start = latest(folder)
    except FileNotFoundError:
        start = None
        if first_process():
            print(f"{folder}: was stopped before its first checkpoint, so it begins again", file=sys.stderr)
    if start is not None and _nothing_left(settings, start) and (folder / "captioner").exists():
        print(f"nothing left to train in {folder}: it has had its epochs; a larger trainer.max_epochs goes on")
        return None
    log = logging.FileHandler(folder / "train.log", encoding="utf-8", delay=True)
    shape = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"  # Hydra's, whose file it goes on
    logging.basicConfig(level=logging.INFO, format=shape, handlers=[logging.StreamHandler(sys.stdout), log])
    return settings, folder, start, changes


def _changes(items: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Changes that the command line gives, `key=value` in Hydra's grammar, by key."""
    changes = {}
    for item, override in zip(items, OverridesParser.create().parse_overrides(arguments(items, "train")), strict=False):
        if override.is_delete() or override.is_sweep_override() or override.package is not None:
            raise ValueError(f"got {item} beside resume=; expected key=value with one value")
        value = plain(OmegaConf.create({"value": override.value()}))["value"]
        if override.key_or_group == "logger":
            if value not in plugins.choices("logger"):
                raise ValueError(f"got logger={value}; expected one of {', '.join(plugins.choices('logger'))}")
            value = composed("train", {"logger": value, "name": settings["name"]})["logger"]
        changes[override.key_or_group] = value
    return changes


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that a run of an earlier version has not, as `conf/train.yaml` has them."""
    for key, value in yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8")).items():
        if key in ("loader", "training"):
            settings[key] = {**value, **settings[key]}
        elif key not in ("defaults", "hydra"):
            settings.setdefault(key, value)
    return settings


def _nothing_left(config: dict[str, Any], start: "Checkpoint") -> bool:
    """Whether a run has had its epochs or steps, or was stopped early."""
    bounds = ((start.epochs, config["trainer"].get("max_epochs")), (start.steps, config["trainer"].get("max_steps")))
    if any(isinstance(most, int) and 0 < most <= done for done, most in bounds):
        return True
    return isinstance(config["patience"], int) and start.waited >= config["patience"] > 0
