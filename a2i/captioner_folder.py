"""The folder in which a captioner is kept: weights, settings, tokenizer, lexicon and model card."""

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from a2i import decoders, encoders
from a2i.cleaning import Lexicon
from a2i.confidence import Calibration
from a2i.decoders import Decoding
from a2i.features import FeatureSettings
from a2i.text import CaptionTokenizer

FORMAT = 1
SETTINGS_FILE, WEIGHTS_FILE, TOKENIZER_FOLDER, CARD_FILE = (
    "captioner.json",
    "model.safetensors",
    "tokenizer",
    "README.md",
)
LEXICON_FILE = "lexicon.json"  # for the published cleaning step; a folder may be without


def write(captioner: Any, folder: str | Path, card: str, dtype: torch.dtype) -> Path:
    """Write a `Captioner`; see its `save`."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / SETTINGS_FILE).exists():
        raise ValueError(f"{folder}: holds something that is no captioner; expected an empty or new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(captioner, part, card, dtype)
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def _write(captioner: Any, folder: Path, card: str, dtype: torch.dtype) -> None:
    from copy import deepcopy

    from safetensors.torch import save_model

    weights = captioner if dtype == torch.float32 else deepcopy(captioner).to(dtype)
    save_model(weights, str(folder / WEIGHTS_FILE))
    captioner.tokenizer.save(folder / TOKENIZER_FOLDER)
    settings = {
        "format": FORMAT,
        "features": asdict(captioner.log_mel.settings),
        "encoder": {"name": _file_name(captioner.encoder), "settings": captioner.encoder.settings},
        "bridge": captioner.bridge.settings,
        "keywords": captioner.keywords.settings if captioner.keywords else None,
        "decoder": {
            "name": _file_name(captioner.decoder),
            "vocab_size": captioner.decoder.vocab_size,
            "settings": captioner.decoder.settings,
        },
        "max_tokens": captioner.tokenizer.max_tokens,
        "bos": captioner.tokenizer.bos,
        "decoding": asdict(captioner.decoding),
        "calibration": asdict(captioner.calibration) if captioner.calibration else None,
        "versions": {name: _version(name) for name in ("a2i", "torch", "transformers")},
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if captioner.lexicon is not None:
        captioner.lexicon.save(folder / LEXICON_FILE)
    (folder / CARD_FILE).write_text(card or "# An a2i captioner\n", encoding="utf-8")


def read(folder: str | Path) -> tuple[dict[str, Any], Calibration | None, Lexicon | None]:
    """What a captioner is built of, its arguments, with random weights: nothing that a folder names is downloaded or run.

    Raises:
        FileNotFoundError: there is no captioner there.
        ValueError: it was written by a newer version, or its settings can't be read.
    """
    folder = Path(folder)
    for file in (SETTINGS_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder}: no {file} there; expected a captioner folder, such as the one that training writes at its"
                " end (RUN/captioner)"
            )
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        if settings["format"] != FORMAT:
            raise ValueError(f"captioner format {settings['format']}; this version of a2i reads {FORMAT}")
        encoder, decoder = settings["encoder"], settings["decoder"]
        foreign = [
            name for part in (encoder, decoder) for name in part["settings"] if name in ("pretrained", "revision")
        ]
        if foreign:
            raise ValueError(f"names {foreign[0]!r}; expected settings that need no other weights than its own")
        parts = {
            "encoder": encoders.build(encoder["name"], encoder["settings"]),
            "decoder": decoders.build(decoder["name"], decoder["vocab_size"], decoder["settings"]),
            "tokenizer": CaptionTokenizer.load(
                folder / TOKENIZER_FOLDER, settings["max_tokens"], settings.get("bos", True)
            ),
            "bridge": settings["bridge"],
            "features": FeatureSettings(**settings["features"]),
            "decoding": Decoding(**settings["decoding"]),
            "keywords": settings.get("keywords"),
        }
        calibration = Calibration(**settings["calibration"]) if settings.get("calibration") else None
        lexicon = Lexicon.load(folder / LEXICON_FILE) if (folder / LEXICON_FILE).is_file() else None
        return parts, calibration, lexicon
    except (KeyError, TypeError, ValueError) as error:
        said = f"no {error} in {SETTINGS_FILE}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{folder}: {said}. Expected a captioner folder as a2i writes it") from error


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a2i itself, when it runs from a checkout that is not installed
        return None


def _file_name(part: nn.Module) -> str:
    """`ast` for `a2i.encoders.ast.ASTEncoder`."""
    return type(part).__module__.rsplit(".", 1)[-1]
