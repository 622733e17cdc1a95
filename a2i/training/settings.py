"""Checks of a run's settings before any work begins."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from a2i.audio.addresses import refuse_secrets
from a2i.bounds import number, switch
from a2i.captioner.text import CaptionTokenizer
from a2i.compose import build, check_decoding, check_targets, target_class
from a2i.features import FeatureSettings
from a2i.fitting import fitting
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.registry import registered
from a2i.training.batches import InputKind
from a2i.training.datamodule import CaptionDataModule
from a2i.training.finite import FiniteSteps
from a2i.training.module import CaptionModule


def check(config: dict[str, Any]) -> None:
    """Hold each value against the annotations of what takes it, and against its range.

    Args:
        config: composed from `conf/train.yaml`, as plain containers.

    Raises:
        ValueError: with the setting's full name, what was got, and what was expected.
    """
    for name in ("data", "model", "trainer", "loader", "training"):
        _section(config[name], name)
    refuse_secrets(config["data"], "data")
    for name, logger in _section(config.get("logger") or {}, "logger").items():
        _section(logger, f"logger.{name}")
    _check_run(**fitting(_check_run, config))
    _check_model(config["model"])
    check_targets(config)
    _check_loader(config["loader"])
    _check_training(config["training"])
    _check_length(config["trainer"])
    if config["bertscore"] is not None:
        fitting(BERTScore, _section(config["bertscore"], "bertscore"), "bertscore.")


def _check_run(
    *,
    name: str,
    seed: int,
    resume: str | None,
    monitor: str | None,
    patience: int | None,
    table_clips: int,
    matmul_precision: Literal["highest", "high", "medium"],
    **others: Any,
) -> None:
    # Of two seeds the same bits would be left, and NumPy refuses what has more.
    if not 0 <= seed < 2**32:
        raise ValueError(f"got seed={seed}; expected a whole number from 0 to {2**32 - 1}")
    _at_least({"patience": patience, "table_clips": table_clips}, "", patience=1, table_clips=0)


def _check_loader(loader: dict[str, Any]) -> None:
    if isinstance(loader["cache"], bool) or loader["cache"] == "":
        got = "''" if loader["cache"] == "" else str(loader["cache"]).lower()
        raise ValueError(f"got loader.cache={got}; expected null (none), memory or a folder")
    fitting(CaptionDataModule, {name: value for name, value in loader.items() if name != "inputs"}, "loader.")
    _at_least(loader, "loader.", batch_size=1, val_batch_size=1, num_workers=0)
    if loader["inputs"] not in get_args(InputKind):
        raise ValueError(f"got loader.inputs={loader['inputs']!r}; expected one of {', '.join(get_args(InputKind))}")


def _check_training(training: dict[str, Any]) -> None:
    taken = {
        name: value
        for name, value in training.items()
        if name not in ("optimizer", "on_nan", "probe_epochs", "label_balance")
    }
    fitting(CaptionModule, taken, "training.")
    fitting(FiniteSteps, {"on_nan": training["on_nan"]}, "training.")
    known = [metric.name for metric in registered() if metric.at_validation]
    if any(name not in known for name in training["metrics"] or ()):
        raise ValueError(
            f"got training.metrics={training['metrics']}; expected some of {', '.join(known)}, or [] for none"
        )
    number("training.label_balance", training["label_balance"], 0, most=1)
    number("training.probe_epochs", training["probe_epochs"], 0, whole=True)
    _at_least(training, "training.", new_layers_rate=0, encoder_rate=0, label_loss=0, tag_loss=0)
    for name in ("warmup", "label_smoothing"):
        if not 0 <= training[name] < 1:
            raise ValueError(f"got training.{name}={training[name]}; expected a share from 0 to below 1")
    check_decoding(_section(training["decoding"], "training.decoding"), "training.decoding.")
    optimizer = _section(training["optimizer"], "training.optimizer")
    made = target_class(optimizer.get("_target_"))
    if not issubclass(made, Optimizer):  # type: ignore[arg-type]
        raise ValueError(f"got training.optimizer._target_={optimizer['_target_']}; expected one of torch.optim")
    number("training.optimizer.lr", optimizer.get("lr", 1), above=0)
    try:
        build(optimizer, params=[nn.Parameter(torch.zeros(1))])
    except ValueError as error:
        raise ValueError(f"got training.optimizer={optimizer}; expected other values ({error})") from error


def _check_length(trainer: dict[str, Any]) -> None:
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    _at_least(trainer, "trainer.", accumulate_grad_batches=1, check_val_every_n_epoch=1, log_every_n_steps=0)
    if steps == 0 or steps < -1:
        raise ValueError(f"got trainer.max_steps={steps}; expected at least 1, or -1 for no limit")
    if epochs is not None and epochs != -1 and epochs < 1:
        raise ValueError(f"got trainer.max_epochs={epochs}; expected at least 1, or -1 with trainer.max_steps")


def _check_model(model: dict[str, Any]) -> None:
    for name in ("encoder", "decoder"):
        _section(model[name], f"model.{name}")
    fitting(FeatureSettings, _section(model["features"], "model.features"), "model.features.")
    _at_least(model["features"], "model.features.", num_mel_bins=1)
    check_decoding(_section(model["decoding"], "model.decoding"), "model.decoding.")
    tokenizer = _section(model["tokenizer"], "model.tokenizer")
    learnt = {name: tokenizer[name] for name in ("vocab_size", "max_tokens", "bos", "kind")}
    fitting(CaptionTokenizer.train, learnt, "model.tokenizer.")
    _at_least(tokenizer, "model.tokenizer.", max_tokens=1, vocab_size=1)
    if not isinstance(model["keywords"], bool) and model["keywords"] != "kinds":
        raise ValueError(f"got model.keywords={model['keywords']!r}; expected true, false or kinds")
    for name in ("categories", "halves"):  # which runs from before do not have
        switch(f"model.{name}", model.get(name, False))
    if model.get("keyword_window") is not None:  # nor this
        number("model.keyword_window", model["keyword_window"], 1, whole=True)


def _section(settings: Any, key: str) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise ValueError(f"got {key}={settings!r}; expected settings, such as {key}.NAME=VALUE")
    return settings


def _at_least(settings: Mapping[str, Any], prefix: str, **lowest: int) -> None:
    for name, bound in lowest.items():
        value = settings.get(name)
        if value is not None and value < bound:
            raise ValueError(f"got {prefix}{name}={value}; expected at least {bound}")
