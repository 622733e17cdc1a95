"""A configuration becomes plain values, checked against what they are for, and what its targets name is built."""

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from a2i import plugins
from a2i.audio.addresses import is_address
from a2i.captioner.decoding import Decoding, check_changes
from a2i.data import DataSet
from a2i.errors import one_line
from a2i.fitting import annotations, fitting
from a2i.locks import acquire
from a2i.names import is_folder

OWN_ERRORS = ("lightning", "huggingface_hub.errors")
ALLOWED = ("a2i.", "lightning.pytorch.", "torch.optim.")  # what a configuration may build, beside the user's plug-ins


class PluginConfigurations(SearchPathPlugin):
    """Has Hydra find the `conf` folders of the plug-ins, however it composes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them behind a2i's own, which none of them can replace."""
        for folder in plugins.configurations()[1:]:
            search_path.append("a2i-plugin", folder.as_uri())


Plugins.instance().register(PluginConfigurations)
OmegaConf.register_new_resolver("a2i.times", lambda *factors: float(f"{math.prod(factors):.6g}"), replace=True)


def plain(config: Any) -> Any:
    """The configuration as plain, resolved containers, `~` expanded: past the entry points nothing knows Hydra.

    Raises:
        ValueError: a setting that has to be given was not.
    """
    if not OmegaConf.is_config(config):
        return config
    if missing := sorted(OmegaConf.missing_keys(config)):
        given = " ".join(f"{key}=VALUE" for key in missing)
        raise ValueError(
            f"{' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value yet; give it: {given}"
        )
    return _at_home(OmegaConf.to_container(config, resolve=True))


def at_home(path: str) -> str:
    """A path with the home folder in place of `~`; as it is where a file is called that, or no user."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def _at_home(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _at_home(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return at_home(value) if isinstance(value, str) and value.startswith("~") else value


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
    made = target_class(values.get("_target_"))
    arguments = {name: _built(value) for name, value in values.items() if name != "_target_"}
    try:
        return made(**fitting(made, arguments))
    except Exception as error:
        # Lightning and transformers' configurations have errors of their own for settings that don't fit: no ValueErrors.
        if isinstance(error, ValueError | TypeError) or type(error).__module__.startswith(OWN_ERRORS):
            raise ValueError(f"{values['_target_']}: {one_line(error)}") from error
        raise


def check_targets(settings: Any, key: str = "") -> None:
    """Hold all that is to be built against what it is to be built with, before any of it is.

    Args:
        settings: plain containers, with a `_target_` here and there.
        key: where they stand in the configuration.

    Raises:
        ValueError: with the full key of a value that does not fit; or a target is none of the allow-list.
    """
    if isinstance(settings, list):
        settings = dict(enumerate(settings))
    if not isinstance(settings, dict):
        return
    if "_target_" in settings:
        arguments = {name: value for name, value in settings.items() if name != "_target_"}
        fitting(target_class(settings["_target_"]), arguments, f"{key}.")
    for name, value in settings.items():
        check_targets(value, f"{key}.{name}" if key else str(name))


Kind = TypeVar("Kind")


def checked(kind: type[Kind], settings: dict[str, Any]) -> Kind:
    """The settings of an entry point as a dataclass, before anything is loaded.

    Args:
        kind: the dataclass, which checks in `__post_init__` what its annotations can't say.
        settings: plain containers; what the dataclass has no field for is left out.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
    """
    made = kind(**fitting(kind, {name: value for name, value in settings.items() if name in annotations(kind)}))
    others = dict(settings)
    captioner = others.pop("captioner", None) or {}
    if is_folder(captioner):  # a folder is loaded, not built
        given = {name: value for name, value in captioner.items() if name != "_target_"}
        fitting(_captioner_folder, {"folder": None, **given}, "captioner.")
    else:
        check_targets(captioner, "captioner")
    check_targets(others)
    return made


def _captioner_folder(folder: str, revision: str | None = None) -> None: ...


def check_decoding(changes: dict[str, Any], prefix: str = "decoding.") -> None:
    """Check changes of a captioner's decoding settings before it is loaded; None leaves one as it is.

    Args:
        changes: values by name.
        prefix: of their names in the configuration.

    Raises:
        ValueError: there is no setting of a name, or its value is of another type or out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    check_changes(fitting(Decoding, given, prefix), prefix)


def check_out(out: str, key: str = "out") -> None:
    """Make sure that a folder can be written to, or made, before anything long begins.

    Args:
        out: the folder.
        key: the setting that names it.

    Raises:
        ValueError: it is the name of something else.
        OSError: it can't be made, or nothing can be written there.
    """
    if not out or (os.path.lexists(out) and not os.path.isdir(out)):
        what = f"{out}, which is a file" if out else "'', which is no name"
        raise ValueError(f"got {key}={what}; expected a folder, or a name that is free")
    there = next(folder for folder in (Path(out), *Path(out).absolute().parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"a")
            file.flush()
    except OSError as error:
        raise OSError(
            error.errno, f"can't be written to ({error.strerror}); expected another {key}=FOLDER", out
        ) from error


def check_seed(seed: int) -> None:
    """Raise a ValueError where PyTorch takes no such seed: before a model is loaded, not once for each sound."""
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"got seed={seed}; expected a whole number from -2^63 to 2^64 - 1")


def target_class(target: Any) -> Callable[..., Any]:
    """The class that a `_target_` names.

    Raises:
        ValueError: it is no class, or was not defined below one of `ALLOWED` or in a plug-in that the user allows, wherever it
            can be reached.
    """
    if (part := plugins.part(target)) is not None:
        return part
    allowed = (*ALLOWED, *plugins.prefixes())
    if not isinstance(target, str) or not target.startswith(allowed):
        raise ValueError(
            f"got _target_ {target!r}; expected one that begins with {', '.join(allowed)}{plugins.not_allowed(str(target))}"
        )
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


def prepared_data_set(data: dict[str, Any]) -> DataSet:
    """Build and prepare a source, one process at a time: ranks and jobs of a sweep all come here, and may come together."""
    source: DataSet = build(data)
    with ExitStack() as stack:
        for root in sorted(_roots(data)):
            stack.enter_context(_alone(Path(root)))
        source.prepare()
    return source


def _roots(data: Any) -> set[str]:
    """The folders of a source, and of those that it is made of."""
    if not isinstance(data, dict):
        return set()
    root = data.get("root")
    own = {os.path.abspath(root)} if isinstance(root, str) and not is_address(root) else set()
    return own.union(*map(_roots, data.values()))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold a lock beside a folder, which every machine that has the folder sees; nothing is left of it.

    Where none can be had nothing can be written either, and all that is left to do is to look.
    """
    from filelock import FileLock

    path = root.parent / f".{root.name}.lock"
    missing = [folder for folder in path.parents if not folder.exists()]
    lock = FileLock(path)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        acquire(lock, f"preparing {root}")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        # Before others can have it: who waits for a file that is gone takes a new one. Windows removes it when released.
        with suppress(OSError):
            path.unlink()
        lock.release()
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()


EXPECTED_ERRORS = (
    ValueError,
    OSError,
    ImportError,
    HydraException,
    OmegaConfBaseException,
)  # where the input is at fault


def traceback_wanted() -> bool:
    """Whether the user asks to see where an error arose."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def say_error(message: str) -> None:
    """Print an error's line, on a line of its own where a progress bar stands."""
    text = f"error: {message}\n(HYDRA_FULL_ERROR=1 shows where)"
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def clear_errors(explained: Callable[[BaseException], str] = one_line) -> Iterator[None]:
    """End the program with one line, not with a traceback, where the input is at fault.

    HYDRA_FULL_ERROR=1 shows the traceback.

    Args:
        explained: what that line is.
    """
    try:
        yield
    except EXPECTED_ERRORS as error:
        sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        # A sweep's other jobs go on; ending the program would end them all.
        if sweeping or traceback_wanted():
            raise
        say_error(explained(error))
        sys.exit(2)
