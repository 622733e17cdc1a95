"""Hydra at the entry points: where the configuration lies, which targets may be built, file names on the command line."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from a2i.data import Source
from a2i.places import CONF

ALLOWED = ("a2i.", "lightning.pytorch.", "torch.optim.")  # what a configuration may build


def plain(config: Any) -> Any:
    """The configuration as plain, resolved containers: past the entry points nothing knows Hydra."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def build(config: DictConfig | dict[str, Any], **more: Any) -> Any:
    """Build what a configuration's `_target_` names, and all targets within.

    Args:
        config: with a `_target_`.
        **more: further arguments for the outermost target.

    Raises:
        ValueError: a target lies outside the allow-list; building it could run anything.
    """
    values = plain(config)
    for target in _targets(values):
        if not isinstance(target, str) or not target.startswith(ALLOWED):
            raise ValueError(f"got _target_ {target!r}; expected one that begins with {', '.join(ALLOWED)}")
    return instantiate(values, _convert_="all", **more)


def prepared(data: dict[str, Any]) -> Source:
    """Build and prepare a source, one process at a time: ranks and jobs of a sweep all come here, and may come together."""
    from filelock import FileLock

    source: Source = build(data)
    key = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"a2i-prepare-{os.getuid()}-{key}.lock"):
        source.prepare()
    return source


def _targets(values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        if "_target_" in values:
            yield values["_target_"]
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _targets(value)


def image_names() -> list[str]:
    """The picture models that `image=` knows by name."""
    return sorted(file.stem for file in (CONF / "image").glob("*.yaml"))


def arguments(argv: Sequence[str], paths: Sequence[str] = ()) -> list[str]:
    """Command-line arguments that Hydra reads as the user meant them.

    File names hold blanks, commas, parentheses and equal signs, which mean something in Hydra's grammar: the values of
    `paths` are quoted, unless they are quoted, interpolated or a list already. `image=FOLDER` chooses that folder.

    Args:
        argv: without the program's name.
        paths: keys whose values are paths.
    """
    result: list[str] = []
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key == "image" and equals and value not in image_names() and Path(value).is_dir():
            result += ["image=folder", f"image.model={_quoted(value)}"]
        elif key in paths and equals and value and not _is_grammar(value):
            result.append(f"{key}={_quoted(value)}")
        else:
            result.append(argument)
    return result


def _quoted(value: str) -> str:
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
    except (ValueError, FileNotFoundError, ImportError) as error:
        if os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0"):
            raise
        print(f"error: {error}\n(HYDRA_FULL_ERROR=1 shows where)", file=sys.stderr)
        sys.exit(2)
