"""The command line: what its arguments mean, and how an entry point runs and ends."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from a2i import plugins, trials
from a2i.compose import EXPECTED_ERRORS, at_home, clear_errors, plain, say_error, traceback_wanted
from a2i.errors import one_line
from a2i.explain import OVERRIDE, explained, flat, groups_of, meant, near_misses, no_setting, settings_of
from a2i.extras import require
from a2i.names import EMBEDDED, MINI, PLACE, chosen_settings, folder_or_hub_id, is_place, offered
from a2i.paths import CONF
from a2i.plugins import choices

INTERRUPTED, TERMINATED = 130, 143  # exit statuses, as a shell gives them after Ctrl-C and SIGTERM
_DELETION = re.compile(r"~[\w$./@-]+(=.*)?", re.DOTALL)
_MISSING = "???"  # as a bare value, OmegaConf's mark of a setting that has no value yet
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\|\\\\\w")


def entry_point(name: str, bare: str | None = None) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """What makes a program of a function that takes the configuration which `conf/<name>.yaml` composes.

    Errors of the input end it with one line and the exit status 2, Ctrl-C with 130. Of a sweep each job that fails is told
    when it fails, with its overrides; the others go on, and at the end a summary says which failed, with the exit status 1.

    Args:
        name: of the file, and of the module.
        bare: the setting that arguments without a key are values of; None for none.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failed: list[str] = []
            shown, explain = os.environ.get("HYDRA_FULL_ERROR"), partial(explained, name=name)

            @wraps(task)
            def job(config: DictConfig) -> Any:
                with _full_errors(shown):
                    if HydraConfig.get().mode == RunMode.MULTIRUN:
                        return _swept(task, name, config, failed)
                    with clear_errors(explain):
                        return _checked(task, name, config)

            try:
                with clear_errors(explain):
                    sys.argv[1:] = arguments(plugins.take(sys.argv[1:]), name, bare)
                    # Hydra prints a wall, or half a traceback, unless it is told to let errors through.
                    with _full_errors("1"):
                        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
                sys.exit(INTERRUPTED)
            finally:  # however the sweep ended
                if failed:
                    print(f"\n{len(failed)} of the sweep's jobs failed:\n" + "\n".join(failed), file=sys.stderr)
            if failed:
                sys.exit(1)

        return main

    return decorate


@contextmanager
def _full_errors(value: str | None) -> Iterator[None]:
    """Have Hydra's variable a value for a while; None for unset."""
    before = os.environ.pop("HYDRA_FULL_ERROR", None)
    try:
        if value is not None:
            os.environ["HYDRA_FULL_ERROR"] = value
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _checked(task: Callable[[DictConfig], Any], name: str, config: DictConfig) -> Any:
    require(name)
    _refuse_missing(config, name)
    return task(config)


def _refuse_missing(config: DictConfig, name: str) -> None:
    """Raise a ValueError where a group that the program needs was taken out, as by ~data."""
    for group, choice in groups_of(name).items():
        if choice is not None and config.get(group) is None:
            raise ValueError(f"got no {group}; expected {group}={'|'.join(offered(group))}")


def _swept(task: Callable[[DictConfig], Any], name: str, config: DictConfig, failed: list[str]) -> Any:
    """Run a job of a sweep; one that fails is told at once, and the others go on where that is ours to decide."""
    hydra_settings = HydraConfig.get()
    every = list(hydra_settings.overrides.task)
    overrides = " ".join(
        [item for item in every if _key(item) not in _given_once()] or every
    )  # what this job alone was given
    launcher, sweeper = (part._target_.rpartition(".")[2] for part in (hydra_settings.launcher, hydra_settings.sweeper))
    trial = trials.here()
    try:
        if trial is not None:
            trial.began(hydra_settings.runtime.output_dir)
        value = _checked(task, name, config)
        if trial is not None:
            trial.ended("finished", value)
        return value
    except SystemExit as error:
        if trial is not None and error.code in (INTERRUPTED, TERMINATED):
            trial.ended("stopped", reason="interrupted")
        if error.code in (None, 0, INTERRUPTED, TERMINATED) and launcher == "BasicLauncher":
            raise
        problem, cause = f"ended with the exit status {error.code}", RuntimeError(f"exit status {error.code}")
    except EXPECTED_ERRORS as error:
        problem, cause = explained(error, name), error  # type: ignore[assignment]
        if traceback_wanted():
            traceback.print_exc()
    except Exception as error:
        problem, cause = f"{type(error).__name__}: {one_line(error)}", error  # type: ignore[assignment]
        traceback.print_exc()
    line = f"job {hydra_settings.job.num} ({overrides}): {problem}"
    say_error(line)
    if trial is not None:
        trial.ended("failed", reason=problem)
        raise cause
    failed.append(line)
    if launcher == "BasicLauncher" and sweeper in ("BasicSweeper", "StudySweeper"):
        return None
    raise cause  # other launchers and sweepers, in other processes perhaps, have to know


def _key(override: str) -> str:
    found = OVERRIDE.fullmatch(override)
    return found[2] if found else override


def _given_once() -> set[str]:
    """The keys that the command line gives one value, the same for all jobs; Hydra spells values its own way."""
    given = [found for item in sys.argv[1:] if (found := OVERRIDE.fullmatch(item))]
    return {found[2] for found in given if (read := _read(found[3])) is None or not read.is_sweep_override()}


def arguments(argv: Sequence[str], name: str, bare: str | None = None) -> list[str]:
    """Command-line arguments that Hydra reads as the user meant them.

    File names hold blanks, commas, parentheses and equal signs, which mean something in Hydra's grammar. One rule holds for
    the values of all keys:

    1. What the grammar reads as null, a boolean, a quoted string, a list, a dictionary or an interpolation is Hydra's, and
       so is a choice between several in a sweep.
    2. But what exists on disk under that name, and would not come through letter by letter, is that path, unless it is null,
       a boolean, quoted or an interpolation as a whole.
    3. What the grammar can't read, or reads as a choice where there is no sweep, is the text itself.

    `captioner=` and `image=` take a name in the configuration, a folder or a Hub id, and what ends in `revision` takes text.

    Args:
        argv: without the program's name.
        name: of the entry point.
        bare: the setting that arguments without a key are values of; None for none.

    Raises:
        ValueError: an argument has no key, where none may.
    """
    parser = get_args_parser()
    # Hydra itself stops at `a=1 --multirun b=2`.
    options = vars(parser.parse_intermixed_args([no_option(argument) for argument in argv]))
    given = options.pop("overrides")
    if options["shell_completion"]:
        return list(argv)
    sweeping = options["multirun"] or "hydra.mode=MULTIRUN" in given
    result = [
        f"--{option.replace('_', '-')}" + ("" if value is True else f"={value}")
        for option, value in options.items()
        if value not in (False, None)
    ]
    values = []
    for argument in given:
        if is_bare(argument, name):
            values.append(argument)
        elif found := OVERRIDE.fullmatch(argument):
            result += _override(found[1], found[2], found[3], name, sweeping)
        else:
            result.append(argument)
    if not values:
        return result
    if wrong := values if bare is None else [value for value in values if _forgotten(value, name)]:
        raise ValueError(meant(wrong[0], name))
    if any(item.startswith(f"{bare}=") for item in result):
        raise ValueError(f"got {values[0]} beside {bare}=; expected one of the two")
    texts = [quoted(at_home(value)) for value in values]
    return [*result, f"{bare}={texts[0]}" if len(texts) == 1 else f"{bare}=[{','.join(texts)}]"]


def no_option(argument: str) -> str:
    """A file that is called `-1.wav`, as a shell's pattern may find it, by a name that is no option."""
    return f"./{argument}" if re.match("-[^-].", argument) and os.path.lexists(argument) else argument


def is_bare(argument: str, name: str) -> bool:
    """Whether an argument is a value alone; a file may be called `a=b.wav`."""
    found = OVERRIDE.fullmatch(argument)
    if found is None:
        return not (_DELETION.fullmatch(argument) and not os.path.lexists(argument))
    first = re.split("[./@]", found[2])[0]
    return first not in {*settings_of(name), *groups_of(name), "hydra"} and os.path.lexists(argument)


def _forgotten(value: str, name: str) -> bool:
    """Whether a bare value is a setting that lacks its own, such as `seed`, and no file."""
    return value in {*settings_of(name), *groups_of(name)} and not os.path.lexists(value)


def _override(prefix: str, key: str, value: str, name: str, sweeping: bool) -> list[str]:
    if key.partition(".")[0] == "audio_language":
        raise ValueError(
            f"got {key}=; that is a captioner's own setting now: {key.replace('audio_language', 'captioner', 1)}="
        )
    if key in PLACE and key in groups_of(name) and not value.strip(" '\""):
        folder_or_hub_id("", key)  # says what is expected
    if key in PLACE and key in groups_of(name) and (place := _place(key, value, sweeping)):
        return [f"{key}=folder", f"{key}.{PLACE[key]}={place}"]
    default = groups_of(name).get(key)
    if value.lower() == "null" and key == "captioner":
        return [] if default is None else [f"{key}={default}"]
    if value.lower() == "null" and default:
        if "none" not in choices(key):
            raise ValueError(f"got {key}=null; expected {key}={'|'.join(offered(key))}")
        value = "none"
    if key.endswith("revision"):
        value = _as_text(value, sweeping)
    return [f"{prefix}{key}={_value(value, sweeping)}"]


def _as_text(value: str, sweeping: bool) -> str:
    """A value, or several of a sweep, that would be read as a number: a commit such as 12e4567 is none."""
    parts = value.split(",") if sweeping else [value]
    read = [found.value() if (found := _read(part)) and not found.is_sweep_override() else None for part in parts]
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in read]
    return ",".join(quoted(part) if number else part for part, number in zip(parts, numbers, strict=True))


def _place(group: str, value: str, sweeping: bool) -> str | None:
    """The folder or Hub id that stands where a group's choice could, in Hydra's grammar; of a sweep several."""
    read = _read(value)
    text = value if read is None or read.is_sweep_override() else read.value()
    if not isinstance(text, str) or text in choices(group):
        return None
    if text.startswith("${"):
        return value
    parts = value.split(",") if sweeping and not is_place(text) else [text]
    if group == "captioner" and len(parts) > 1:
        parts = [EMBEDDED if part == MINI else part for part in parts]
    if not all(is_place(part) for part in parts if part != EMBEDDED) or set(parts) == {EMBEDDED}:
        return None
    return ",".join(quoted(at_home(part)) for part in parts)


def _value(value: str, sweeping: bool) -> str:
    """A value by the rule of `arguments`."""
    read = _read(value)
    if not value or (read is not None and _is_hydras(value, read)):
        return value
    is_text = "${" not in value and value != _MISSING
    if read is not None and not read.is_sweep_override() and is_text and str(read.value()) == value:
        return value  # comes through letter by letter
    path = at_home(value)
    if os.path.exists(path):
        return quoted(path)
    if read is not None and (sweeping if read.is_sweep_override() else not _WINDOWS_PATH.match(value)):
        return value
    parts = [at_home(part) for part in value.split(",")]
    if sweeping and read is None and len(parts) > 1 and any(map(os.path.exists, parts)):
        return ",".join(map(quoted, parts))
    return quoted(path)


def _read(value: str) -> Override | None:
    """What Hydra's grammar makes of a value; None where it can't read it."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def _is_hydras(value: str, read: Override) -> bool:
    """Whether a value is null, a boolean, a quoted string or an interpolation as a whole, whatever exists on disk."""
    if read.is_sweep_override():
        return False
    meant = read.value()
    is_interpolation = value.startswith("${") and value.endswith("}")
    return meant is None or isinstance(meant, bool) or value[0] in "'\"" or is_interpolation


def quoted(value: str) -> str:
    """A path as a quoted string in Hydra's grammar."""
    if value == _MISSING:
        value = f"./{value}"
    # In Hydra's quoted strings a backslash escapes only before a quote, so that those before one are doubled.
    value = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", _literal(value))
    return "'" + re.sub(r"(\\+)$", lambda found: found[1] * 2, value) + "'"


def _literal(value: Any) -> Any:
    """A plain value in which OmegaConf finds no interpolation: ${…} in a file's name is none."""
    if isinstance(value, Mapping):
        return {name: _literal(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(each) for each in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    # OmegaConf halves the backslashes before one.
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value) if isinstance(value, str) else value


def composed(name: str, values: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain settings that `conf/<name>.yaml` composes, with values that never pass through Hydra's grammar.

    Args:
        name: of the entry point.
        values: by dotted key: numbers, text, paths, lists and dictionaries as they are. That of a group is one of its
            choices, or a dictionary of settings; a folder or Hub id too for `captioner` and `image`.
        overrides: `key=value` as on the command line.

    Raises:
        ValueError: there is no such key or choice.
        FileNotFoundError: there is no such captioner or picture model.
    """
    groups, chosen, rest = groups_of(name), [], {}
    for key, value in values.items():
        if key in groups and isinstance(value, str) and value in choices(key):
            chosen.append(f"{key}={value}")
        elif key in PLACE and isinstance(value, str | os.PathLike):
            rest[key] = chosen_settings(key, value if isinstance(value, str) else Path(value))
        elif key in groups and isinstance(value, str):
            raise ValueError(
                f"got {key}={value}; expected one of {', '.join(offered(key))}{near_misses(value, choices(key))}"
            )
        else:
            rest[key] = value
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(name, [*arguments(overrides, name), *chosen])
    _refuse_missing(config, name)
    OmegaConf.set_struct(config, False)
    known = {*groups, *flat(OmegaConf.to_container(config, resolve=False))}
    for key, value in rest.items():
        if key not in known:
            raise ValueError(no_setting(key, name, sorted(known)))
        OmegaConf.update(config, key, _literal(value), merge=False, force_add=True)
    settings: dict[str, Any] = plain(config)
    return settings
