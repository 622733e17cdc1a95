"""What there is to choose and to set, and what is said of an argument that asks for something else."""

import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from a2i import plugins
from a2i.compose import at_home
from a2i.errors import one_line
from a2i.names import PLACE, lacking, offered
from a2i.paths import CONF
from a2i.plugins import choices

# The names that choices had before, by group. None of them names another part now.
RENAMED = {
    "model/encoder": {"cnn": "panns_cnn10", "cnn14": "panns_cnn14", "cnn10_mini": "panns_cnn10_mini"},
    "model": {"cnn_transformer": "cnn10_transformer", "small_cnn_transformer": "small_cnn10_transformer"},
    "experiment": {
        "cnn_transformer": "cnn10_transformer",
        **{name: f"study/{name}" for name in ("comparison", "first_words", "late_events", "open_ends", "small_ast")},
    },
    "trainer": {"auto": "default"},
}
# The keys that have another name now.
RENAMED_KEYS = {"loader.prepared": "loader.inputs"}
OVERRIDE = re.compile(r"(\+{0,2})([\w$./@-]*)=(.*)", re.DOTALL)


@cache
def _composed_from(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))


def settings_of(name: str) -> list[str]:
    """The settings of an entry point that stand in its own file."""
    return [key for key in _composed_from(name) if key not in ("defaults", "hydra")]


def groups_of(name: str) -> dict[str, str | None]:
    """The groups that an entry point chooses from, each with what it chooses."""
    pairs = [pair for item in _composed_from(name)["defaults"] if isinstance(item, dict) for pair in item.items()]
    return {key: choice for key, choice in pairs if "@" not in key and not key.startswith("override ")}


def meant(argument: str, name: str) -> str:
    """What a bare argument was probably meant as."""
    path, groups = Path(at_home(argument)), groups_of(name)
    likely = [
        f"{group}={argument}" for group in ("experiment", *groups) if group in groups and argument in choices(group)
    ]
    if not likely and path.is_dir():
        finished = (path / "overrides.yaml").exists()
        likely = {
            "train": [f"resume={argument}"] if finished else [f"data=folder data.root={argument}"],
            "evaluate": [f"captioner={argument}"],
        }.get(name, [f"data=folder data.root={argument}"])
    elif not likely and path.is_file() and name == "evaluate":
        likely = [f"captions={argument}"]
    elif not likely:
        known = {*settings_of(name), *groups}
        likely = [
            f"{key}=VALUE" for key in ([argument] if argument in known else get_close_matches(argument, known, 1))
        ]
    hint = f"; did you mean {' or '.join(dict.fromkeys(likely))}?" if likely else " (--help shows what there is)"
    return f"got {argument!r} without a key; expected key=value{hint}"


def explained(error: BaseException, name: str) -> str:
    """An error in one line; where Hydra can't compose what was asked for, with what was probably meant."""
    message, cause = one_line(error), error.__cause__
    if isinstance(error, OverrideParseException):
        return f"got {error.override}; expected key=value"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        wanted = str(error.missing_cfg_file)
        places = [
            index
            for index, sign in enumerate(wanted)
            if sign == "/" and os.path.normpath(wanted[:index]) == wanted[:index] and choices(wanted[:index])
        ]
        group, choice = (wanted[: places[-1]], wanted[places[-1] + 1 :]) if places else ("", wanted)
        if now := RENAMED.get(group, {}).get(choice):
            return f"got {group}={choice}, which is called {group}={now} now"
        several = "; for several, a sweep: -m" if "," in choice else ""
        names = offered(group) if group in PLACE else error.options or choices(group)
        expected = ", ".join(names) + (", a folder, or a Hub id (OWNER/NAME)" if group in PLACE else "")
        missing = lacking(choice) if group in PLACE else ""
        hints = f"{near_misses(choice, names)}{plugins.offer(group, choice)}{several}"
        return f"got {group}={choice}{missing}; expected one of {expected}{hints}"
    if found := re.match(r"Could not (override|delete|append) [^']*'([^']+)'", message):
        key = found[2]
        if found[1] == "append":
            return f"got +{key}, but {key} is there already; change it with {key}=VALUE"
        return no_setting(key, name, _known_keys(name))
    if isinstance(error, HydraException) and cause is not None and one_line(cause) not in message:
        message += f": {one_line(cause)}"
    if message.startswith("Unable to configure handler") and cause is not None:  # of a log that can't be written
        message = one_line(cause)
    return message


def no_setting(key: str, name: str, known: Sequence[str]) -> str:
    """What is said of a key that a program does not have."""
    if now := RENAMED_KEYS.get(key):
        return f"got {key}, which is called {now} now"
    near = near_misses(key, known)
    if choices(key):
        return f"got {key}=; {name} has no such group; its groups are {', '.join(groups_of(name))}{near}"
    return f"there is no setting {key} here{near or ' (--help shows all)'}"


def near_misses(word: str, known: Sequence[str]) -> str:
    """What a misspelt word may have meant, as the end of a message."""
    known = [key for key in known if key != word]
    ends = [key for key in known if re.split("[./]", key)[-1] == re.split("[./]", word)[-1]]
    alike = ends or get_close_matches(word, known, 3) or _alike_at_the_end(word, known)
    return f"; did you mean {' or '.join(dict.fromkeys(alike[:3]))}?" if alike else ""


def _alike_at_the_end(word: str, known: Sequence[str]) -> list[str]:
    by_end: dict[str, list[str]] = {}
    for key in known:
        by_end.setdefault(key.rpartition(".")[2], []).append(key)
    return [key for end in get_close_matches(word.rpartition(".")[2], by_end, 1, 0.75) for key in by_end[end]]


def _known_keys(name: str) -> list[str]:
    """All settings and groups that there are with the groups that were chosen."""
    chosen = [item for item in sys.argv[1:] if (found := OVERRIDE.fullmatch(item)) and choices(found[2])]
    groups = [
        folder.relative_to(conf).as_posix()
        for conf in plugins.configurations()
        for folder in conf.rglob("*")
        if folder.is_dir() and folder.relative_to(conf).parts[0] in groups_of(name)
    ]
    for overrides in (chosen, []):
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                return [*groups, *flat(OmegaConf.to_container(hydra.compose(name, overrides), resolve=False))]
        except (HydraException, OmegaConfBaseException):
            continue
    return groups


def flat(settings: Any, prefix: str = "") -> list[str]:
    """Dotted keys of all settings, those of sections too."""
    if not isinstance(settings, dict):
        return []
    return [key for name, value in settings.items() for key in (f"{prefix}{name}", *flat(value, f"{prefix}{name}."))]
