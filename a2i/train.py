"""`python -m a2i.train experiment=NAME`: train a captioner; a run folder holds all that came of it."""

import errno
import gc
import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from a2i import plugins
from a2i.command_line import INTERRUPTED, entry_point, quoted
from a2i.compose import build, clear_errors, plain, prepared_data_set
from a2i.errors import first_line
from a2i.machine import begin_program, find_device
from a2i.resuming import resumed
from a2i.training import launch
from a2i.training.monitor import monitored
from a2i.training.run_folder import (
    CHANGES,
    CONFIG_FILE,
    OVERRIDES_FILE,
    RESUMED_FILE,
    first_process,
    held,
    new_folder,
    note_start,
)
from a2i.whole import write_whole

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from a2i.captioner import Captioner
    from a2i.data import Clip
    from a2i.training.checkpoints import Checkpoint
    from a2i.training.module import CaptionModule

# Two runs that start in the same second have a folder each: conf/train.yaml names theirs by it.
OmegaConf.register_new_resolver("a2i.new_folder", new_folder, replace=True)
OmegaConf.register_new_resolver("a2i.run_folder", launch.shared_folder, replace=True)
OmegaConf.register_new_resolver(
    "a2i.changes", lambda: textwrap.fill(", ".join(CHANGES), 110), replace=True
)  # for --help


def train(
    config: dict[str, Any], folder: Path, start: "Checkpoint | None" = None, changes: dict[str, Any] | None = None
) -> dict[str, float]:
    """Train, validate, and write the captioner folder.

    Args:
        config: composed from `conf/train.yaml`, as plain containers.
        folder: of the run.
        start: the checkpoint to go on from; None to begin.
        changes: of the configuration with which it goes on, for the run's record; None for a new run.

    Returns:
        the last validation's values, by name, and the monitored one at its best as `best/…`: that of the captioner folder.
        For a captioner with keywords, the score from before it learns to tell two sources. Of a trial that its sweep stops
        early no captioner is written.
    """
    import torch
    from lightning.pytorch import seed_everything

    from a2i.training.building import labels_of
    from a2i.training.callbacks import LastValues
    from a2i.training.datamodule import CaptionDataModule
    from a2i.training.inputs import cached_inputs
    from a2i.training.probing import learn_heads
    from a2i.training.pruning import pruned
    from a2i.training.writing import learn_to_write

    _quieten()
    with clear_errors():
        torch.set_float32_matmul_precision(config["matmul_precision"])
        seed_everything(config["seed"], workers=True, verbose=False)
        source = prepared_data_set(config["data"])
        loader = dict(config["loader"])
        pairs = build(config["sentences"]).pairs() if config.get("sentences") else []
        module, captioner = _checked(
            config, source.clips("train"), source.clips("val"), folder, start is not None, [text for _, text in pairs]
        )
        if pairs and start is None:
            learn_to_write(captioner, pairs, config["seed"], precision=config["trainer"]["precision"])
        loader["augment"] = build(settings) if (settings := loader.pop("augment")) else None
        clips = [clip for split in ("train", "val") for clip in source.clips(split)]
        loader["inputs"] = cached_inputs(
            loader["inputs"],
            loader["cache"],
            captioner,
            clips,
            learns=not config["training"]["freeze_encoder"],
            augmented=config["training"]["augment"] is not None,
            device="cpu" if config["trainer"]["accelerator"] == "cpu" else None,
        )
        datamodule = CaptionDataModule(
            source,
            captioner.tokenizer,
            captioner.sampling_rate,
            seed=config["seed"],
            labels=labels_of(captioner, source.clips("train")),
            **loader,
        )
        datamodule.setup("fit")
        datamodule.train_batches()  # says now what is wrong with the loader's settings
        if start is not None:
            datamodule.check_same(start.data)
        if start is None and config["training"]["probe_epochs"]:
            learn_heads(module, datamodule, config["training"]["probe_epochs"], config["seed"])
        begun = None
        if changes is not None:
            path, steps = (start.path, start.steps) if start else (None, 0)
            begun = partial(note_start, folder, path, steps, changes)
        trainer = _trainer(config, module, folder, begun)
        _fit(trainer, module, datamodule, folder, start)
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    values = next(each for each in callbacks if isinstance(each, LastValues)).of(trainer)
    name = monitored(config)[0]
    checkpoint: Any
    for checkpoint in trainer.checkpoint_callbacks:
        if checkpoint.monitor == name and checkpoint.best_model_score is not None:
            values[f"best/{name}"] = float(checkpoint.best_model_score)
    if trainer.is_global_zero and not pruned():
        try:
            with clear_errors(), _full_disk_told(folder):
                _finish(config, module, trainer, folder, values)
        except KeyboardInterrupt:
            print(f"interrupted; to go on: python -m a2i.train resume={folder}", file=sys.stderr)
            sys.exit(INTERRUPTED)
    trainer.strategy.barrier()
    return values


def _fit(trainer: "Trainer", module: "CaptionModule", data: Any, folder: Path, start: "Checkpoint | None") -> None:
    from a2i.training.batches import BrokenClipError
    from a2i.training.checkpoints import FOLDER
    from a2i.training.finite import NotFiniteError
    from a2i.training.stopping import end_stopped

    try:
        with _full_disk_told(folder):
            trainer.fit(module, data, ckpt_path=None if start is None else str(start.path), weights_only=True)
    except SystemExit:  # how Lightning ends after Ctrl-C and SIGTERM
        sys.exit(end_stopped(trainer, folder))
    except BrokenClipError as error:
        raise BrokenClipError(f"{error}. Mend or remove it; to go on: python -m a2i.train resume={folder}") from error
    except NotFiniteError as error:
        again = (
            f"python -m a2i.train resume={folder}" if any((folder / FOLDER).glob("*.ckpt")) else "the same command with"
        )
        raise NotFiniteError(
            f"{error}. Training stopped: no captioner is written, and the checkpoints in {folder} are those from before it."
            " Look at these sounds and captions; a lower training.optimizer.lr or a trainer.gradient_clip_val often helps;"
            f" to leave such steps out: {again} training.on_nan=skip"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ChildProcessError(
            f"a process that reads sounds ended early, perhaps for want of memory ({first_line(error)}). To go on, in one"
            f" process: python -m a2i.train resume={folder} loader.num_workers=0"
        ) from error


@contextmanager
def _full_disk_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"{folder}: the disk is full ({error}). The checkpoints there are whole; free some of it, then go on:"
            f" python -m a2i.train resume={folder}"
        ) from error


def _quieten() -> None:
    """Leave the libraries' words on warnings and errors; each of Lightning's would come twice beside Hydra's log."""
    import logging
    import warnings

    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=Warning)  # Lightning's use of torch


def _checked(
    config: dict[str, Any], train: list["Clip"], val: list["Clip"], folder: Path, resume: bool, sentences: Sequence[str]
) -> tuple["CaptionModule", "Captioner"]:
    """What is to learn, where nothing is wrong with it, the clips, or what else can be known before the first step.

    Raises:
        ValueError: tells all that is wrong.
    """
    from a2i.features import FeatureSettings
    from a2i.metrics.bertscore import BERTScore
    from a2i.training import checks
    from a2i.training.batches import learnt
    from a2i.training.building import build_captioner, build_module

    problems, loader, training = checks.Problems(), config["loader"], config["training"]
    rate = FeatureSettings(**config["model"]["features"]).sampling_rate
    checks.check_captions(problems, train, val, loader["captions"])
    worded = not problems.found
    captioner = bertscore = module = None
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the other ranks would find the same
        checks.check_sounds(problems, [*train, *val], loader["cache"], rate)
        with problems.told():
            checks.check_metrics(problems, training["metrics"], monitored(config)[0], len(val), print)
        device = find_device("cpu" if config["trainer"]["accelerator"] == "cpu" else None)
        if slow := checks.slow_precision(config["trainer"]["precision"], device):
            print(slow)
    with problems.told():
        checks.check_precision(config["trainer"]["precision"])
    with problems.told():
        captioner = build_captioner(config["model"], train, sentences)
    with problems.told():
        bertscore = None if config["bertscore"] is None else BERTScore(**config["bertscore"])
    if captioner is not None:
        with problems.told():
            captioner.decoding_with(**training["decoding"])
        with problems.told():
            module = build_module(config["training"], captioner, train, bertscore)
        if not resume:
            checks.check_room(problems, folder, captioner, loader["cache"])
        if worded:
            captions = [text for clip in train for text in learnt(clip, loader["captions"])]
            captions += [text for clip in val for text in clip.captions]
            mixed = bool((loader["augment"] or {}).get("mix"))
            with problems.told():
                checks.try_out(captioner, captions, mixed, training["decoding"])
    problems.stop()
    assert module is not None
    assert captioner is not None
    return module, captioner


def _trainer(
    config: dict[str, Any], module: "CaptionModule", folder: Path, begun: Callable[[], None] | None
) -> "Trainer":
    """With its loggers, whose runs begin here, and callbacks."""
    from a2i.metrics.provenance import settings_hash
    from a2i.training.callbacks import run_callbacks
    from a2i.training.checkpoints import WholeCheckpoints
    from a2i.training.loggers import begin_runs, logger_settings

    kept = [build(values) for values in logger_settings(config["logger"], folder)]
    callbacks = run_callbacks(
        folder,
        *monitored(config),
        config["patience"],
        config["table_clips"],
        config["training"].get("on_nan", "stop"),
        begun,
    )
    plugins = [*(config["trainer"].get("plugins") or ()), WholeCheckpoints()]
    root = {"default_root_dir": str(folder)}
    trainer = build(
        {**launch.outside(config["trainer"]), **root}, logger=kept or False, callbacks=callbacks, plugins=plugins
    )
    if trainer.is_global_zero:
        begin_runs(kept, folder)
    bertscore = module.validation.bertscore
    found = bertscore.settings if bertscore else None
    scored_with = found and {**found, "settings_hash": settings_hash(found)}
    for logger in kept:
        logger.log_hyperparams({**config, "bertscore": scored_with})
    return trainer


def _finish(
    config: dict[str, Any], module: "CaptionModule", trainer: "Trainer", folder: Path, values: dict[str, float]
) -> None:
    """Write the captioner folder from the best checkpoint, the values and the curves."""
    from a2i.training.checkpoints import BEST, FOLDER, LAST, read
    from a2i.training.curves import plot_curves
    from a2i.training.finite import NotFiniteError, not_finite
    from a2i.training.several import learn_several

    best, found, weights = folder / FOLDER / BEST, None, "last"
    if best.exists():
        try:
            found, weights = read(best)["state_dict"], "best"
        except ValueError as error:
            print(f"{error}. The captioner gets the weights of the last step instead", file=sys.stderr)
    if found is None and module.divided:
        found = read(folder / FOLDER / LAST)["state_dict"]
    captioner = module.whole(found)
    datamodule, device = trainer.datamodule, trainer.strategy.root_device  # type: ignore[attr-defined]
    probed = bool(config["training"].get("probe_epochs"))
    smoothing, offset = module.label_smoothing, module.label_offset
    learnt_last = learn_several(
        captioner, datamodule.alone(), module.augment, config["seed"], device, None, probed, smoothing, offset
    )
    if bad := not_finite(captioner.state_dict()):
        raise NotFiniteError(f"{folder}: no captioner is written, because of weights that are not finite: {bad[0]} …")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()) if name.startswith("best/"))
    written_with = f"`{CONFIG_FILE}`" + (f" and `{RESUMED_FILE}`" if (folder / RESUMED_FILE).exists() else "")
    card = (
        f"# {config['name']}\n\nA captioner trained by a2i: `python -m a2i.train` with the configuration in {written_with}"
        f" of its run.\n\n- data: `{config['data']['_target_']}`\n- epochs: {trainer.current_epoch}\n"
        f"- best validation: {scores or 'none'}\n- weights: of the {weights} checkpoint by `{monitored(config)[0]}`\n"
    )
    if learnt_last:
        card += "- it was validated before it learnt to tell two sources, with one keyword a clip\n"
    if values:  # none of a run whose last checkpoint an earlier version wrote
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        write_whole(folder / "values.json", (json.dumps(numbers, indent=2, allow_nan=False) + "\n").encode())
    plot_curves(folder)
    captioner.save(folder / "captioner", card)  # last: where it is, nothing is left to do
    print(
        f"captioner in {folder / 'captioner'}; try it: python -m a2i.infer audio=FILE captioner={folder / 'captioner'}"
    )


def _check_chosen(overrides: list[str]) -> None:
    """Raise a ValueError where nothing says what to train: the default takes a GPU, a download and days."""
    keys = {re.split("[./@=]", item.lstrip("+~"))[0] for item in overrides}
    if HydraConfig.get().job.config_name == "train" and not keys & {"experiment", "data", "model"}:
        raise ValueError(
            f"no experiment given; expected experiment=NAME, one of {', '.join(plugins.choices('experiment'))}, or data= and"
            " model= of your own (--help tells more)"
        )


@entry_point("train")
def main(config: DictConfig) -> float | None:
    """Entry point of a new run. Returns the monitored value at its best, for sweeps."""
    job = HydraConfig.get()
    overrides = list(job.overrides.task)
    folder = Path(job.runtime.output_dir)
    with ExitStack() as until_done:
        with clear_errors():
            if config.resume is not None:
                raise ValueError(
                    "got resume= in a sweep or a configuration; expected it on the command line of one run:"
                    " python -m a2i.train resume=FOLDER"
                )
            if config.get("sweep") is not None:
                raise ValueError("got sweep= for one run; expected -m before it: python -m a2i.train -m sweep=NAME …")
            _check_chosen(overrides)
            settings = plain(config)
            if used := plugins.names():  # for the record: a run that goes on is told which it needs
                settings["plugins"] = used
                overrides.append(f"plugins=[{','.join(map(quoted, used))}]")
            from a2i.training.settings import check  # here: --help and a wrong name need not wait for torch

            check(settings)
            monitored(settings)
            if job.mode == RunMode.MULTIRUN:
                launch.check_sweep(settings["trainer"]["devices"], job.overrides.hydra)
            if launch.goes_on(folder, overrides):
                found = resumed([f"resume={folder}"], until_done)
                return None if found is None else _run(*found)
            if first_process():
                folder.mkdir(parents=True, exist_ok=True)
                until_done.enter_context(held(folder))
                write_whole(folder / OVERRIDES_FILE, yaml.safe_dump(overrides).encode())
                write_whole(folder / CONFIG_FILE, yaml.safe_dump(settings, sort_keys=False).encode())
        return _run(settings, folder)


def _run(
    settings: dict[str, Any], folder: Path, start: "Checkpoint | None" = None, changes: dict[str, Any] | None = None
) -> float | None:
    if first_process():
        print(f"run folder: {folder}")
    from a2i.tracking import close_wandb

    failed = True
    try:
        values = train(settings, folder, start, changes)
        failed = False
    finally:
        close_wandb(failed)
    # A trainer and its module know each other: a sweep's next run would find their memory still taken.
    gc.collect()
    return values.get(f"best/{monitored(settings)[0]}")


def start(argv: list[str]) -> None:
    """Begin a run, or go on with one."""
    asks = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"}
    if any(item.startswith("resume=") and item != "resume=null" for item in argv) and not asks & set(argv):
        try:
            with ExitStack() as until_done:
                with clear_errors():
                    found = resumed(argv, until_done)
                if found is not None:
                    _run(*found)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
    else:
        main()


if __name__ == "__main__":
    begin_program(keeps_memory=False)
    start(sys.argv[1:])
