"""Hydra at the entry points: where the configuration lies, which targets may be built, file names on the command line."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from a2i.data import Source
from a2i.places import AUDIO_LANGUAGE_MODELS, CONF

PATHS = ("model.encoder.pretrained", "audio_language.model")  # keys whose values are paths, wherever they stand
ALLOWED = ("a2i.", "lightning.pytorch.", "torch.optim.")  # what a configuration may build


def plain(config: Any) -> Any:
    """The configuration as plain, resolved containers: past the entry points nothing knows Hydra."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def build(config: DictConfig | dict[str, Any], **more: Any) -> Any:
    """Build what a configuration's `_target_` names, and all targets within.

    Not Hydra's `instantiate`, which calls whatever can be imported and resolves what was resolved already.

    Args:
        config: with a `_target_`; everything else are its arguments.
        **more: further arguments for the outermost target.

    Raises:
        ValueError: a target is no class of the allow-list (building it could run anything), or refuses its arguments.
    """
    values = {**plain(config), **more}
    arguments = {name: _built(value) for name, value in values.items() if name != "_target_"}
    try:
        return target_class(values.get("_target_"))(**arguments)
    except TypeError as error:
        raise ValueError(f"{values['_target_']}: {error}") from error


def target_class(target: Any) -> Callable[..., Any]:
    """The class that a `_target_` names.

    Raises:
        ValueError: it is no class, or was not defined below one of `ALLOWED`, wherever it can be reached.
    """
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise ValueError(f"got _target_ {target!r}; expected one that begins with {', '.join(ALLOWED)}")
    try:
        found = get_object(target)
    except (ImportError, ValueError, HydraException) as error:
        raise ValueError(f"got _target_ {target!r}, which can't be found: {error}") from error
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(ALLOWED):
        raise ValueError(f"got _target_ {target!r}; expected a class that is defined below {', '.join(ALLOWED)}")
    return found


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [_built(item) for item in value]
    if isinstance(value, dict):
        return build(value) if "_target_" in value else {name: _built(item) for name, item in value.items()}
    return value


def prepared(data: dict[str, Any]) -> Source:
    """Build and prepare a source, one process at a time: ranks and jobs of a sweep all come here, and may come together."""
    from filelock import FileLock

    source: Source = build(data)
    key = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"a2i-prepare-{os.getuid()}-{key}.lock"):
        source.prepare()
    return source


def image_names() -> list[str]:
    """The picture models that `image=` knows by name."""
    return sorted(file.stem for file in (CONF / "image").glob("*.yaml"))


def arguments(argv: Sequence[str], paths: Sequence[str] = ()) -> list[str]:
    """Command-line arguments that Hydra reads as the user meant them.

    File names hold blanks, commas, parentheses and equal signs, which mean something in Hydra's grammar: the values of
    `paths` are quoted, unless they are quoted, interpolated or a list already. `image=FOLDER` chooses that folder, and
    `captioner=NAME` the settings of an audio-language model.

    Args:
        argv: without the program's name.
        paths: keys whose values are paths, beside `PATHS`.
    """
    result: list[str] = []
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key == "image" and equals and value not in image_names() and Path(value).is_dir():
            result += ["image=folder", f"image.model={quoted(value)}"]
        elif key in ("captioner", "against") and value in AUDIO_LANGUAGE_MODELS:
            result += [argument, f"audio_language={value}"]
        elif key in (*paths, *PATHS) and equals and value and not _is_grammar(value):
            result.append(f"{key}={quoted(value)}")
        else:
            result.append(argument)
    return result


def quoted(value: str) -> str:
    """A value as a quoted string in Hydra's grammar."""
    # In Hydra's quoted strings a backslash escapes only before a quote, so that those before one are doubled.
    escaped = re.sub(r"(\\*)'", lambda found: found.group(1) * 2 + r"\'", value)
    escaped = re.sub(r"(\\+)$", lambda found: found.group(1) * 2, escaped)
    # ${…} in a file's name is no interpolation.
    return "'" + escaped.replace("${", r"\${") + "'"


def _is_grammar(value: str) -> bool:
    """Whether a value is Hydra's own: null, a quoted string, a list or an interpolation."""
    if value == "null" or (value.startswith("${") and value.endswith("}")):
        return True
    if value[0] not in "'\"[" or Path(value).exists():
        return False
    try:
        return OverridesParser.create().parse_override(f"key={value}").value() is not None
    except HydraException:
        return False


def use_arguments(paths: Sequence[str] = ()) -> None:
    """Replace the program's own arguments with `arguments`'."""
    sys.argv[1:] = arguments(sys.argv[1:], paths)


@contextmanager
def clear_errors() -> Iterator[None]:
    """End the program with one line, not with a traceback, where the input is at fault.

    HYDRA_FULL_ERROR=1 shows the traceback.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException) as error:
        sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        # A sweep's other jobs are Hydra's to decide on; ending the program would end them all.
        if sweeping or os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0"):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {message}\n(HYDRA_FULL_ERROR=1 shows where)", file=sys.stderr)
        sys.exit(2)
