"""`python -m a2i.train experiment=NAME`: train a captioner; a run folder holds all that came of it."""

import gc
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from a2i.compose import build, clear_errors, plain, prepared, quoted, target_class, use_arguments
from a2i.memory import keep_freed_memory
from a2i.places import CONF

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from a2i.captioner import Captioner
    from a2i.data import Clip
    from a2i.metrics.bertscore import BERTScore
    from a2i.training.module import CaptionModule

CONFIG_FILE, OVERRIDES_FILE = "config.yaml", "overrides.yaml"


def train(config: dict[str, Any], folder: Path, resume: bool = False) -> dict[str, float]:
    """Train, validate, and write the captioner folder.

    Args:
        config: composed from `conf/train.yaml`, as plain containers.
        folder: of the run.
        resume: go on from the run's last checkpoint.

    Returns:
        the last validation's values, by name, and the monitored one at its best as `best/…`: that of the captioner folder,
        with keywords before it learnt to tell two sources.
    """
    import torch
    from lightning.pytorch import seed_everything

    from a2i.training.batches import BrokenClipError
    from a2i.training.datamodule import CaptionDataModule
    from a2i.training.prepared import prepare

    _quieten()
    last = folder / "checkpoints" / "last.ckpt"
    with clear_errors():
        if resume and not last.exists():
            raise FileNotFoundError(f"{last}: no such checkpoint, so nothing to resume; start the experiment anew")
        torch.set_float32_matmul_precision(config["matmul_precision"])
        seed_everything(config["seed"], workers=True, verbose=False)
        source = prepared(config["data"])
        loader = dict(config["loader"])
        module, captioner = _checked(config, source.clips("train"), source.clips("val"), folder, resume)
        loader["augment"] = build(settings) if (settings := loader.pop("augment")) else None
        clips = [clip for split in ("train", "val") for clip in source.clips(split)]
        loader["prepared"] = prepare(
            loader["prepared"],
            loader["cache"],
            captioner,
            clips,
            learns=not config["training"]["freeze_encoder"],
            augmented=config["training"]["augment"] is not None,
            device="cpu" if config["trainer"]["accelerator"] == "cpu" else None,
        )
        datamodule = CaptionDataModule(source, captioner.tokenizer, seed=config["seed"], **loader)
        datamodule.setup("fit")
        datamodule.train_batches()  # says now what is wrong with the loader's settings
        trainer = _trainer(config, module, folder)
    try:
        trainer.fit(module, datamodule, ckpt_path=str(last) if resume else None, weights_only=True)
    except BrokenClipError as error:
        _stop_at(error, folder)
    except SystemExit:  # how Lightning ends after Ctrl-C
        print(f"interrupted; to go on: python -m a2i.train resume={folder}", file=sys.stderr)
        sys.exit(130)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    name = monitored(config)[0]
    checkpoint: Any
    for checkpoint in trainer.checkpoint_callbacks:
        if checkpoint.monitor == name and checkpoint.best_model_score is not None:
            values[f"best/{name}"] = float(checkpoint.best_model_score)
    if not trainer.callback_metrics and (folder / "captioner").exists():
        print(f"nothing left to train in {folder}: it has had its epochs; a larger trainer.max_epochs goes on")
    elif trainer.is_global_zero:
        try:
            _finish(config, module, trainer, folder, values)
        except BrokenClipError as error:
            _stop_at(error, folder)
        except KeyboardInterrupt:
            print(f"interrupted; to go on: python -m a2i.train resume={folder}", file=sys.stderr)
            sys.exit(130)
    trainer.strategy.barrier()
    return values


def monitored(config: dict[str, Any]) -> tuple[str, str]:
    """The logged value by which the best checkpoint is chosen, and whether `max` or `min` of it is best.

    Raises:
        ValueError: nothing of that name is logged at validation.
    """
    modes = {"val/loss": "min", "val/distinct_captions": "max", "val/first_word_valid": "max"}
    if config["bertscore"] is not None:
        modes |= {f"val/bertscore_{name}": "max" for name in ("precision", "recall", "f1")}
    modes |= {f"val/{metric}": "max" for metric in config["training"]["metrics"] or ()}
    name = config["monitor"] or ("val/loss" if config["bertscore"] is None else "val/bertscore_f1")
    if name not in modes:
        raise ValueError(f"got monitor={name}; expected one of {', '.join(modes)}")
    return name, modes[name]


def _stop_at(error: Exception, folder: Path) -> NoReturn:
    """End the program where a sound can't be read any more."""
    print(f"error: {error}. Mend or remove it; to go on: python -m a2i.train resume={folder}", file=sys.stderr)
    sys.exit(2)


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
    config: dict[str, Any], train: list["Clip"], val: list["Clip"], folder: Path, resume: bool
) -> tuple["CaptionModule", "Captioner"]:
    """What is to learn, where nothing is wrong with it, the clips, or what else can be known before the first step.

    Raises:
        ValueError: tells all that is wrong.
    """
    from a2i.metrics.bertscore import BERTScore
    from a2i.training import checks
    from a2i.training.batches import learnt
    from a2i.training.building import build_captioner

    problems, loader, training = checks.Problems(), config["loader"], config["training"]
    checks.check_captions(problems, train, val, loader["captions"])
    worded = not problems.found
    captioner = bertscore = module = None
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the other ranks would find the same
        checks.check_sounds(problems, [*train, *val], loader["cache"])
        with problems.told():
            checks.check_metrics(problems, training["metrics"], monitored(config)[0], len(val), print)
    with problems.told():
        checks.check_precision(config["trainer"]["precision"])
    with problems.told():
        captioner = build_captioner(config["model"], train)
    with problems.told():
        bertscore = None if config["bertscore"] is None else BERTScore(**config["bertscore"])
    if captioner is not None:
        with problems.told():
            captioner.decoding_with(**training["decoding"])
        with problems.told():
            module = _module(config, captioner, train, bertscore)
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


def _module(
    config: dict[str, Any], captioner: "Captioner", clips: list["Clip"], bertscore: "BERTScore | None"
) -> "CaptionModule":
    from a2i.training.labels import label_names
    from a2i.training.module import CaptionModule

    settings, labels = dict(config["training"]), len(label_names(clips))
    if settings["label_loss"] and not labels:
        print("this data has no labels: the encoder learns from the captions alone")
        settings |= {"label_loss": 0.0, "labels_first": 0.0}
    optimizer = dict(settings.pop("optimizer"))
    optimizer_class = target_class(optimizer.pop("_target_"))
    return CaptionModule(
        captioner,
        optimizer=partial(optimizer_class, **optimizer),
        labels=labels,
        augment=build(augment) if (augment := settings.pop("augment")) else None,
        bertscore=bertscore,
        **settings,
    )


def _trainer(config: dict[str, Any], module: "CaptionModule", folder: Path) -> "Trainer":
    """With its loggers, whose runs begin here, and callbacks."""
    from a2i.metrics.provenance import settings_hash
    from a2i.training.callbacks import run_callbacks
    from a2i.training.loggers import begin_runs, logger_settings

    kept = [build(values) for values in logger_settings(config["logger"], folder)]
    callbacks = run_callbacks(folder, *monitored(config), config["patience"], config["table_clips"])
    trainer = build(config["trainer"], logger=kept or False, callbacks=callbacks)
    if trainer.is_global_zero:
        begin_runs(kept, folder)
    found = module.bertscore.settings if module.bertscore else None
    scored_with = found and {**found, "settings_hash": settings_hash(found)}
    for logger in kept:
        logger.log_hyperparams({**config, "bertscore": scored_with})
    return trainer


def _finish(
    config: dict[str, Any], module: "CaptionModule", trainer: "Trainer", folder: Path, values: dict[str, float]
) -> None:
    """Write the captioner folder from the best checkpoint, the values and the curves."""
    import torch

    best = folder / "checkpoints" / "best.ckpt"
    if best.exists():
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    captioner = module.captioner.float().cpu()
    if captioner.keywords is not None:
        from a2i.training.several import learn_several

        captioner.to(trainer.strategy.root_device)
        learn_several(captioner, trainer.datamodule, module.augment, config["seed"])  # type: ignore[attr-defined]
        captioner.cpu()
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()) if name.startswith("best/"))
    card = (
        f"# {config['name']}\n\nA captioner trained by a2i: `python -m a2i.train` with the configuration in `{CONFIG_FILE}`"
        f" of its run.\n\n- data: `{config['data']['_target_']}`\n- epochs: {trainer.current_epoch}\n"
        f"- best validation: {scores or 'none'}\n- weights: of the {'best' if best.exists() else 'last'} checkpoint"
        f" by `{monitored(config)[0]}`\n"
    )
    if captioner.keywords is not None:
        card += "- it was validated before it learnt to tell two sources, with one keyword a clip\n"
    captioner.save(folder / "captioner", card)
    if values:  # none where a run had its epochs, but was interrupted before its captioner was written
        (folder / "values.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    from a2i.training.curves import plot_curves

    plot_curves(folder)
    print(
        f"captioner in {folder / 'captioner'}; try it: python -m a2i.infer audio=FILE captioner={folder / 'captioner'}"
    )


def _check_launch(devices: Any, overrides: list[str]) -> None:
    job = HydraConfig.get()
    launched = "WORLD_SIZE" in os.environ
    several = len(devices) > 1 if isinstance(devices, list) else str(devices) != "1"
    if job.mode == RunMode.MULTIRUN and several and not launched:
        raise ValueError(
            f"got trainer.devices={devices} in a sweep: Lightning would start the whole sweep anew on every other device."
            " Set trainer.devices=1, or start each job's ranks from outside (torchrun)"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ and not any(item.startswith("hydra.run.dir=") for item in overrides):
        raise ValueError(
            "under torchrun every rank would choose a run folder by its own clock; set hydra.run.dir=FOLDER"
        )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> float | None:
    """Entry point. Returns the monitored value at its best, for sweeps."""
    job = HydraConfig.get()
    overrides = list(job.overrides.task)
    folder = Path(job.runtime.output_dir)
    resume = config.resume is not None
    with clear_errors():
        if resume:
            folder = Path(config.resume).expanduser().resolve()
            if not (folder / OVERRIDES_FILE).exists():
                raise FileNotFoundError(
                    f"{folder}: no {OVERRIDES_FILE} there; expected resume=RUN, the folder of a training run"
                )
            overrides = [item for item in overrides if not item.startswith("resume=")]
        _check_launch(plain(config.trainer.devices), [*job.overrides.hydra, *overrides])
        settings = plain(config)
        if not resume:
            # Ranks that Lightning starts come here too, when the first one has begun.
            if (folder / "checkpoints").exists() and "LOCAL_RANK" not in os.environ:
                raise ValueError(
                    f"{folder}: holds a run already; give another hydra.run.dir, or go on: resume={folder}"
                )
            folder.mkdir(parents=True, exist_ok=True)
        (folder / OVERRIDES_FILE).write_text(yaml.safe_dump(overrides), encoding="utf-8")
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    print(f"run folder: {folder}")
    from a2i.tracking import close_wandb

    failed = True
    try:
        values = train(settings, folder, resume)
        failed = False
    finally:
        close_wandb(failed)
    # A trainer and its module know each other: a sweep's next run would find their memory still taken.
    gc.collect()
    return values.get(f"best/{monitored(settings)[0]}")


def _go_on(argv: list[str]) -> list[str]:
    """Resuming a run, what it was given before comes first, and Hydra too writes into its folder and begins no other."""
    folders = [item.partition("=")[2].strip("'") for item in argv if item.startswith("resume=")]
    if not folders or not (file := Path(folders[0]).expanduser() / OVERRIDES_FILE).exists():
        return argv
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not any(item.startswith("hydra.run.dir=") for item in argv):
        before.append(f"hydra.run.dir={quoted(folders[0])}")
    return list({item.partition("=")[0].lstrip("+~"): item for item in [*before, *argv]}.values())


if __name__ == "__main__":
    keep_freed_memory()
    sys.argv[1:] = _go_on(sys.argv[1:])
    use_arguments(paths=("resume", "data.root", "loader.cache"))
    main()
