"""The captioner folder: weights, settings, tokenizer, lexicon and model card.

A folder may come from a stranger: loading it downloads nothing and runs none of its content. Saving replaces it in one step: if
the process is killed, the old captioner or the new one is there.
"""

import json
import math
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

import a2i
from a2i import plugins
from a2i.captioner import decoders, encoders
from a2i.captioner.candidates import Calibration
from a2i.captioner.cleaning import Lexicon
from a2i.captioner.decoding import Decoding
from a2i.captioner.text import CaptionTokenizer
from a2i.errors import one_line, with_kind
from a2i.features import RATE_OF_OLD, FeatureSettings
from a2i.whole import ABANDONED, not_written

FORMAT = 1
SETTINGS_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER, CARD_FILE = (
    "captioner.json",
    "model.safetensors",
    "tokenizer",
    "README.md",
)
LEXICON_FILE = "lexicon.json"  # for the published cleaning step; optional


# Settings with which a configuration makes transformers download or run something: kernels, code, other weights.
REACHING = frozenset(
    {"attn_implementation", "experts_implementation", "pretrained", "revision", "auto_map", "custom_pipelines"}
    | {"trust_remote_code", "quantization_config", "use_kernels", "kernel_config", "code_revision", "adapter_kwargs"}
)
# What settings from a stranger can make of any part: values of another type, too deep a nesting, more memory than there is.
FAILURES = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    StrictDataclassError,  # of transformers' configurations
)
RUSTS = re.compile(r"\(os error (\d+)\)")  # how libraries that write files in Rust tell the system's error


def write(captioner: Any, folder: str | Path, card: str, dtype: torch.dtype) -> Path:
    """Write a `Captioner`; see its `save`."""
    folder = Path(folder)
    place = folder.resolve()  # of a link, the target is replaced
    _restore(place)
    if place.exists() and any(place.iterdir()) and not (place / SETTINGS_FILE).exists():
        raise ValueError(f"{folder}: holds something other than a captioner; expected an empty or new folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    part = Path(tempfile.mkdtemp(prefix=_new(place), dir=place.parent))
    try:
        _write(captioner, part, card, dtype)
        part.chmod(0o755)
        exchange(part, place)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if not isinstance(error, OSError) and (told := RUSTS.search(str(error))):
            raise not_written(folder, OSError(int(told[1]), os.strerror(int(told[1])))) from error
        raise
    return folder


def standing(folder: str | Path) -> Path:
    """Where the captioner of a folder is: there, or, if a process was killed between the two renamings, where it moved the old
    one."""
    folder = Path(folder)
    aside = _aside(folder.resolve())
    return aside if not folder.exists() and aside.is_dir() else folder


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _new(folder: Path) -> str:
    return f".{folder.name}.new-"


def exchange(part: Path, folder: Path) -> None:
    """Replace the folder by `part`. This takes two renamings, and between them the old folder has another name."""
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
    try:
        os.rename(part, folder)
    except BaseException:
        _restore(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Move the old folder back, where a killed process left it under the other name."""
    aside = _aside(folder)
    if not folder.exists() and aside.is_dir():
        os.rename(aside, folder)


def _sweep(folder: Path) -> None:
    """Remove unfinished folders of killed processes."""
    for left in folder.parent.iterdir():
        with suppress(FileNotFoundError):  # it got its name in the meantime
            if left.name.startswith(_new(folder)) and abs(time.time() - left.stat().st_mtime) > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _write(captioner: Any, folder: Path, card: str, dtype: torch.dtype) -> None:
    from copy import deepcopy

    from safetensors.torch import save_model

    weights = captioner if dtype == torch.float32 else deepcopy(captioner).to(dtype)
    check_finite(weights, f"can't be saved as {str(dtype).removeprefix('torch.')}")
    save_model(weights, str(folder / WEIGHTS_FILE))
    captioner.tokenizer.save(folder / TOKENIZER_FOLDER)
    settings = {
        "format": FORMAT,
        "features": asdict(captioner.log_mel.settings),
        "encoder": {**_named(captioner.encoder, encoders), "settings": captioner.encoder.settings},
        "bridge": captioner.bridge.settings,
        "decoder": {
            **_named(captioner.decoder, decoders),
            "vocab_size": captioner.decoder.vocab_size,
            "settings": captioner.decoder.settings,
        },
        "max_tokens": captioner.tokenizer.max_tokens,
        "bos": captioner.tokenizer.bos,
        "decoding": asdict(captioner.decoding),
        "calibration": asdict(captioner.calibration) if captioner.calibration else None,
        "versions": {name: _version(name) for name in ("a2i", "torch", "transformers")},
    }
    try:
        text = json.dumps(settings, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the captioner's settings can't be saved: {error}; expected finite numbers") from error
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
    if captioner.lexicon is not None:
        captioner.lexicon.save(folder / LEXICON_FILE)
    (folder / CARD_FILE).write_text(card or "# An a2i captioner\n", encoding="utf-8")


def check_finite(captioner: nn.Module, otherwise: str) -> None:
    """Check all weights and statistics.

    Raises:
        ValueError: one of them is NaN or infinite.
    """
    for name, values in captioner.state_dict().items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).sum())
            raise ValueError(
                f"{name}: {bad} of {values.numel()} numbers are NaN or infinite; the captioner {otherwise}: expected finite"
                " weights, such as those of an earlier checkpoint"
            )


def read(folder: str | Path) -> tuple[dict[str, Any], Calibration | None, Lexicon | None]:
    """Read all but the weights: `Captioner`'s arguments, with random weights, its calibration and its lexicon.

    Raises:
        FileNotFoundError: the folder has no captioner.
        ValueError: a newer version wrote it, or its settings can't be read.
    """
    plugins.load()
    folder = Path(folder)
    for file in (SETTINGS_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder}: no {file} there; expected a captioner folder, such as the one that training writes at its"
                " end (RUN/captioner)"
            )
    try:
        settings = json.loads(
            (folder / SETTINGS_FILE).read_text(encoding="utf-8"), parse_constant=_number, parse_float=_number
        )
        if settings["format"] != FORMAT:
            by = settings["versions"].get("a2i") if isinstance(settings.get("versions"), dict) else None
            raise ValueError(
                f"a captioner of format {settings['format']}, of a2i {by or 'of an unknown version'}; a2i {a2i.__version__}"
                f" reads format {FORMAT}: get the newer a2i, or another captioner"
            )
        _check_tokenizer(folder / TOKENIZER_FOLDER)
        encoder, decoder = settings["encoder"], settings["decoder"]
        _check_known(encoder, "encoder", encoders)
        _check_known(decoder, "decoder", decoders)
        parts = {
            "encoder": encoders.build(encoder["name"], _local(encoder["settings"], encoders.find(encoder["name"]))),
            "decoder": decoders.build(
                decoder["name"],
                decoder["vocab_size"],
                _local(decoder["settings"], decoders.find(decoder["name"])),
            ),
            "tokenizer": CaptionTokenizer.load(
                # Absolute: a relative path with one slash could be the name of a repository.
                (folder / TOKENIZER_FOLDER).resolve(),
                settings["max_tokens"],
                settings.get("bos", True),
            ),
            "bridge": _bridge(settings),
            "features": FeatureSettings(**{"sampling_rate": RATE_OF_OLD, **settings["features"]}),
            "decoding": Decoding(**settings["decoding"]),
        }
        calibration = Calibration(**settings["calibration"]) if settings.get("calibration") else None
        lexicon = Lexicon.load(folder / LEXICON_FILE) if (folder / LEXICON_FILE).is_file() else None
        return parts, calibration, lexicon
    except FAILURES as error:
        raise unfit(folder, error) from error


def licence(folder: Path) -> str | None:
    """The licence of the weights that the model card names at its head, as on the Hub; None where it names none."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        card = metadata_load(folder / CARD_FILE)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    found = card.get("license") if isinstance(card, dict) else None
    return " ".join(found.split()) if isinstance(found, str) else None


def unfit(folder: Path, error: BaseException) -> ValueError:
    """The error to raise where a folder's settings can't be read or build no captioner."""
    if isinstance(error, KeyError):
        said = f"no {error} in {SETTINGS_FILE}"
    else:
        said = one_line(error) if isinstance(error, TypeError | ValueError) else with_kind(error)
    return ValueError(f"{folder}: {said}. Expected a captioner folder as a2i writes it")


def _number(text: str) -> float:
    """A number of a JSON file. Python reads `NaN`, `Infinity` and 1e999 too."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"holds {text}, which is no finite number")
    return value


def _bridge(settings: dict[str, Any]) -> Any:
    """The bridge's settings; older folders have the keywords beside it."""
    if keywords := settings.get("keywords"):
        return {"kind": "keywords", "inner": settings["bridge"], **keywords}
    return settings["bridge"]


def _local(settings: dict[str, Any], part: type[Any]) -> dict[str, Any]:
    """The settings of an encoder or decoder class, without what its `config_class` of transformers does not declare.

    The rest is either left over from a checkpoint, without effect, or added by a stranger, and would take effect.

    Raises:
        ValueError: one names code, kernels or other weights.
    """
    if foreign := sorted(_reaching(settings)):
        raise ValueError(f"names {foreign[0]!r}; expected settings that need no code and no other weights than its own")
    declares = getattr(part, "config_class", None)
    if declares is None or (config := settings.get("config")) is None:
        return settings
    from transformers import PreTrainedConfig

    known = declares().to_dict().keys() - PreTrainedConfig().to_dict().keys()
    return {**settings, "config": {key: config[key] for key in config if key in known}}


def _reaching(settings: Any) -> set[str]:
    """The names among `REACHING` that settings hold, at any depth."""
    if isinstance(settings, dict):
        own = {str(name) for name in settings if str(name).strip("_").removesuffix("_internal") in REACHING}
        return own.union(*map(_reaching, settings.values()))
    return set().union(*map(_reaching, settings)) if isinstance(settings, list) else set()


def _check_tokenizer(folder: Path) -> None:
    """Check that a tokenizer is local and only data.

    Raises:
        ValueError: it is not there, so that its path could be taken for a Hub id, or it names code.
    """
    if not folder.is_dir():
        raise ValueError(f"no {TOKENIZER_FOLDER} folder there")
    for file in sorted(folder.glob("*config.json")):
        if "auto_map" in json.loads(file.read_text(encoding="utf-8")):
            raise ValueError(f"{TOKENIZER_FOLDER}/{file.name} names 'auto_map', code; expected a tokenizer without")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a2i itself, when it runs from a checkout that is not installed
        return None


def _check_known(part: dict[str, Any], kind: str, room: Any) -> None:
    """Raise a ValueError where there is no part of that name: its plug-in may not be allowed, or the name is wrong."""
    try:
        room.find(part["name"])
    except ValueError as error:
        raise ValueError(plugins.refusal(kind, part["name"], part.get("plugin"), room.names())) from error


def _named(part: nn.Module, room: Any) -> dict[str, str]:
    """The name of a part; of a plug-in's also whose it is, for those who lack the plug-in."""
    plugin = plugins.origin(type(part))
    return {"name": room.name_of(part), **({} if plugin is None else {"plugin": plugin})}
