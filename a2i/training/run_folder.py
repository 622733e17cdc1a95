"""A run folder: its lock, its configuration, and the record of when it was resumed."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from a2i.whole import sweep, write_whole

CONFIG_FILE, OVERRIDES_FILE, RESUMED_FILE, LOCK_FILE = "config.yaml", "overrides.yaml", "resumed.yaml", ".lock"
# Modules that have moved since older runs were written.
MOVED = {"a2i.encoders.": "a2i.captioner.encoders.", "a2i.decoders.": "a2i.captioner.decoders."}
CACHES = {False: None, True: "memory"}  # what `loader.cache` was in an older run, and is now
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")  # of torchrun, Lightning and SLURM
# What may change when a run is resumed. The checkpoint depends on all other settings: on the batches of an epoch, the
# optimiser's learning rates, the sizes of weights.
CHANGES = (
    *("trainer.max_epochs", "trainer.max_steps", "patience", "training.labels_first", "training.on_nan"),
    *("trainer.check_val_every_n_epoch", "loader.val_batch_size"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision"),
    "matmul_precision",
    *("loader.num_workers", "loader.cache", "data.root", "data.sources.*.root"),
    *(
        "logger",
        "table_clips",
        "trainer.log_every_n_steps",
        "trainer.enable_progress_bar",
        "trainer.enable_model_summary",
    ),
)


def first_process() -> bool:
    """Whether this is a run's only process, or the first of its ranks."""
    return all(os.environ.get(name) in (None, "", "0") for name in RANKS)


_made: dict[str, str] = {}


def new_folder(wanted: str) -> str:
    """Create a folder that no other process has: `wanted`, or `wanted_2`, `wanted_3` … if it exists already.

    In the same process the same folder is returned each time.
    """
    if wanted not in _made:
        Path(wanted).parent.mkdir(parents=True, exist_ok=True)
        count = 1
        while wanted not in _made:
            name = wanted if count == 1 else f"{wanted}_{count}"
            try:
                Path(name).mkdir()
                _made[wanted] = name
            except FileExistsError:
                count += 1
    return _made[wanted]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a run folder. The first rank holds the lock for all ranks of the run.

    The system releases the lock when the process ends, even if it is killed.

    Raises:
        ValueError: another process holds it.
    """
    from filelock import FileLock, Timeout

    if not first_process():
        yield
        return
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{folder}: another process is training in this folder, which belongs to one at a time. Wait until it has ended,"
            " or stop it; for a second run beside it leave hydra.run.dir out, or give another"
        ) from None
    try:
        sweep(folder)
        yield
    finally:
        lock.release()


def saved_settings(folder: Path) -> dict[str, Any]:
    """The configuration of a run as plain values, with the changes of every resume.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its configuration can't be read, or was changed in a way that none is.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG_FILE} there; expected resume=RUN, the folder of a training run")
    config = _read(folder / CONFIG_FILE)
    sections = ("data", "model", "trainer", "loader", "training")
    if not isinstance(config, dict) or not all(isinstance(config.get(name), dict) for name in sections):
        raise ValueError(
            f"{folder / CONFIG_FILE}: expected the sections {', '.join(sections)}, as a2i.train writes them"
        )
    resumed = _read(folder / RESUMED_FILE) if (folder / RESUMED_FILE).exists() else []
    try:
        for entry in resumed:
            config = changed(config, entry["changes"])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{folder / RESUMED_FILE}: expected a list of entries with changes, as a2i.train writes"
        ) from error
    loader = config["loader"]
    if isinstance(cache := loader.get("cache"), bool):
        loader["cache"] = CACHES[cache]
    if "prepared" in loader:  # what `loader.inputs` was called
        loader["inputs"] = loader.pop("prepared")
    if isinstance(features := config["model"].get("features"), dict) and "sampling_rate" not in features:
        from a2i.features import RATE_OF_OLD  # here: to begin a run need not wait for torch

        features["sampling_rate"] = RATE_OF_OLD
    return _where_it_is_now(config)


def _where_it_is_now(value: Any) -> Any:
    """A configuration whose `_target_`s name the modules where they are now."""
    if isinstance(value, list):
        return [_where_it_is_now(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _where_it_is_now(item) for key, item in value.items()}
    if isinstance(target := found.get("_target_"), str):
        moved = next((old for old in MOVED if target.startswith(old)), None)
        found["_target_"] = target if moved is None else MOVED[moved] + target.removeprefix(moved)
    return found


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with changes, by dotted key.

    Raises:
        ValueError: one is not among `CHANGES`.
    """
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, name = key.split(".")
        section: Any = config
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        known = isinstance(section, dict) and (name in section or not key.startswith("data."))
        if known and name in section and section[name] == value:
            continue
        if not known or not any(fnmatchcase(key, pattern) for pattern in CHANGES):
            raise ValueError(
                f"got {key}={value} for a run that goes on; expected no other change than of {', '.join(CHANGES)}. The rest"
                " is what its checkpoint is of; begin a new run for another"
            )
        section[name] = value
    return config


def note_start(folder: Path, start: Path | None, steps: int, changes: dict[str, Any]) -> None:
    """Add an entry to `resumed.yaml`: when the run was resumed, from which checkpoint (None for none), with which changes."""
    path = folder / RESUMED_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    entry = [{"time": now, "from": start and start.name, "step": steps, "changes": changes}]
    write_whole(path, (before + yaml.safe_dump(entry, sort_keys=False)).encode())


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: can't be read ({' '.join(str(error).split())})") from error
