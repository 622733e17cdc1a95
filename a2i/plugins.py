"""Parts from outside the tree: packages and folders whose code the user allows.

A plug-in is a Python package. Importing it registers its encoders, decoders and metrics; `_target_` may name the classes that
it defines; and the folder `conf` beside its `__init__.py` adds to Hydra's groups: data sets, painters, experiments.

Only the user allows one: `plugins=NAME` on a command line, the variable `A2I_PLUGINS`, or `use` in Python. What comes with
weights or with a saved configuration allows none, and a package that is merely installed is not imported.
"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from a2i.errors import one_line
from a2i.paths import CONF

VARIABLE = "A2I_PLUGINS"  # names and folders, separated as those of PATH
GROUP = "a2i.plugins"  # entry points by which an installed package says that it is a plug-in
KEY = "plugins"  # of the command line

_allowed: dict[str, ModuleType] = {}  # by the name or the absolute folder that allowed it
_importing: set[str] = set()
_registries: list[dict[str, Any]] = []


def watched(registry: dict[str, Any]) -> dict[str, Any]:
    """A registry, from which the parts of a plug-in are taken again where importing that fails half-way."""
    _registries.append(registry)
    return registry


def use(*names: str) -> None:
    """Allow plug-ins, import them, and let the processes that this one starts have them too (by `A2I_PLUGINS`).

    Args:
        *names: of packages that can be imported, or folders that hold an `__init__.py`.

    Raises:
        ValueError: there is no such package or folder, its path holds what separates paths in `A2I_PLUGINS`, or importing it
            fails.
    """
    for name in names:
        folder = _folder(name)
        key = name if folder is None else str(folder)
        if os.pathsep in key:
            raise ValueError(
                f"got {KEY}={key}, which holds {os.pathsep!r}, which separates the names in {VARIABLE}; expected a folder"
                " whose path has none"
            )
        if key in _allowed or key in _importing:
            continue
        _importing.add(key)
        try:
            _allowed[key] = _imported(name) if folder is None else _imported_from(folder)
        finally:
            _importing.discard(key)
    listed = _listed()
    os.environ[VARIABLE] = os.pathsep.join([*listed, *(key for key in _allowed if key not in listed)])


def load() -> None:
    """Import the plug-ins that `A2I_PLUGINS` names.

    Raises:
        ValueError: as `use`.
    """
    if missing := [name for name in _listed() if name not in _allowed]:
        use(*missing)


def take(arguments: Sequence[str]) -> list[str]:
    """Use the plug-ins that a command line allows (`plugins=NAME`, `plugins=FOLDER`, `plugins=[NAME,FOLDER]`) and those of
    the environment.

    Returns:
        the other arguments.

    Raises:
        ValueError: as `use`, or the value can't be read.
    """
    load()
    ours = [
        argument for argument in arguments if argument.lstrip("+").startswith(f"{KEY}=")
    ]  # `+`: Hydra's for a new key
    use(*(name for argument in ours for name in _names(argument.partition("=")[2])))
    return [argument for argument in arguments if argument not in ours]


def _names(value: str) -> list[str]:
    if not value.startswith("["):
        return [] if value in ("", "null") else [value.strip("'\"")]
    try:
        names = yaml.safe_load(value)
    except yaml.YAMLError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"got {KEY}={value}; expected a name, a folder, or a list such as {KEY}=[my_package,folder]")
    return names


def names() -> list[str]:
    """The plug-ins that are allowed, as they were named; folders absolute."""
    load()
    return list(_allowed)


def prefixes() -> tuple[str, ...]:
    """What a `_target_` of an allowed plug-in begins with."""
    load()
    return tuple(f"{module.__name__}." for module in _allowed.values())


def part(target: object) -> type | None:
    """The class that a `_target_` names, where an allowed plug-in defines it; None where it is not below a plug-in.

    Raises:
        ValueError: it is below a plug-in, which defines no such class.
    """
    if not isinstance(target, str) or not target.startswith(prefixes()):
        return None
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"got _target_ {target!r}, which can't be found: {error}") from error
    if not isinstance(found, type) or origin(found) is None:  # what it imports could be anything
        raise ValueError(f"got _target_ {target!r}; expected a class that the plug-in defines")
    return found


def configurations() -> list[Path]:
    """The `conf` folders, a2i's own first."""
    load()
    inside = [Path(place) / "conf" for module in _allowed.values() for place in getattr(module, "__path__", ())]
    return [CONF, *(folder for folder in inside if folder.is_dir())]


def choices(group: str) -> list[str]:
    """The names that a configuration group takes, a2i's own and the plug-ins'; none where there is no such group."""
    return sorted({file.stem for folder in configurations() for file in (folder / group).glob("*.yaml")})


def chosen(group: str, choice: str) -> Path | None:
    """The file of a choice; None where there is none."""
    found = (folder / group / f"{choice}.yaml" for folder in configurations())
    return next((file for file in found if file.is_file()), None)


def origin(kind: type) -> str | None:
    """The allowed plug-in that defines a class, by its package's name; None for a2i's own and what was made by hand."""
    packages = {module.__name__ for module in _allowed.values()}
    return next((name for name in packages if _is_of(name, kind.__module__)), None)


def offered() -> list[str]:
    """Installed packages that say they are plug-ins and are not allowed. None of them is imported."""
    packages = {module.__name__ for module in _allowed.values()}
    return sorted({point.module for point in entry_points(group=GROUP)} - packages)


def offer(group: str, choice: str) -> str:
    """The end of a message about a choice that is not there: which installed plug-in has it; empty where none does."""
    for package in offered():
        if any((conf / group / f"{choice}.yaml").is_file() for conf in _unimported(package)):
            return f"; {group}={choice} is offered by the installed package {package}: allow it with {KEY}={package}"
    return ""


def refusal(kind: str, name: str, package: str | None, known: Sequence[str]) -> str:
    """What is said of a part that is not there.

    Args:
        kind: `encoder`, `decoder`, …
        name: of the part.
        package: the plug-in that it is of, as far as a captioner folder says; None where it does not.
        known: the parts that there are.
    """
    if isinstance(package, str) and all(part.isidentifier() for part in package.split(".")):
        return (
            f"{kind} {name!r} is of the plug-in {package}, which is not allowed here or has none of that name. Where you"
            f" trust it: {KEY}={package} on the command line, {VARIABLE}={package} in the environment, or"
            f" a2i.plugins.use({package!r})"
        )
    return f"got {kind} {name!r}; expected one of {', '.join(known)}{offer(f'model/{kind}', name)}"


def not_allowed(target: str) -> str:
    """The end of a message about a `_target_` that is refused: how to allow the installed plug-in that it is of."""
    package = next((name for name in offered() if target.startswith(f"{name}.")), None)
    if package is None:
        return f", or of a plug-in that you allow ({KEY}=NAME)"
    return f"; it is of the installed package {package}: allow it with {KEY}={package}"


def check_again(wanted: Sequence[str]) -> None:
    """Raise a ValueError where a saved run's plug-ins (as `names` gave them) are not allowed anew: its configuration can't
    allow them. A folder may lie elsewhere now."""
    load()
    packages = {module.__name__ for module in _allowed.values()}
    if missing := [name for name in wanted if (Path(name).name if os.sep in name else name) not in packages]:
        given = missing[0] if len(missing) == 1 else f"[{','.join(missing)}]"
        raise ValueError(
            f"this run uses the plug-ins {', '.join(missing)}; where you trust them allow them again: {KEY}={given}"
        )


def _listed() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def _folder(name: str) -> Path | None:
    """The folder that a name means, absolute; None for a package."""
    path = Path(name).expanduser()
    is_path = "/" in name or os.sep in name or name.startswith((".", "~"))
    return path.resolve() if is_path or (_spec(name) is None and path.is_dir()) else None


def _spec(name: str) -> object:
    try:
        return sys.modules.get(name) or find_spec(name)
    except (ImportError, ValueError):  # a parent that is no package, or a name that is none
        return None


def _imported(name: str) -> ModuleType:
    if _spec(name) is None:
        near = get_close_matches(name, offered(), 1)
        hint = f"; did you mean {near[0]}?" if near else f"; installed ones: {', '.join(offered()) or 'none'}"
        raise ValueError(
            f"got {KEY}={name}; expected a package that can be imported, or a folder with an __init__.py{hint}"
        )
    try:
        return import_module(name)
    except Exception as error:  # whatever its code does
        _forget(name)
        raise ValueError(_failed(name, error)) from error


def _imported_from(folder: Path) -> ModuleType:
    """Import a folder as the package of its name. Nothing beside it can be imported."""
    name, file = folder.name, folder / "__init__.py"
    if not file.is_file() or not name.isidentifier():
        wrong = "holds no __init__.py" if not file.is_file() else "whose name is no Python name"
        raise ValueError(f"got {KEY}={folder}, which {wrong}; expected the folder of a Python package")
    found = sys.modules.get(name) or find_spec(name)
    if found is not None:
        place = getattr(found, "origin", None) or getattr(found, "__file__", None)
        if place is None or Path(place).resolve() != file:
            raise ValueError(f"got {KEY}={folder}, but {name} is another package ({place}); expected another name")
        return _imported(name)
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _forget(name)
        raise ValueError(_failed(str(folder), error)) from error
    return module


def _forget(package: str) -> None:
    """Undo an import that failed half-way, so that a mended plug-in can be imported."""
    for registry in _registries:
        for name in [name for name, part in registry.items() if _is_of(package, _module(part))]:
            del registry[name]
    for name in [name for name in sys.modules if _is_of(package, name)]:
        del sys.modules[name]


def _is_of(package: str, module: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _module(part: Any) -> str:
    """Where a registered part is defined: a class, or a record of a function that computes."""
    return str(getattr(getattr(part, "compute", part), "__module__", ""))


def _failed(name: str, error: Exception) -> str:
    return f"the plug-in {name} can't be imported ({type(error).__name__}: {one_line(error)})"


def _unimported(package: str) -> list[Path]:
    """The `conf` folders of an installed package, found without importing it."""
    first, *rest = package.split(".")  # to find what is below a package would import that
    found = find_spec(first)
    places = (found.submodule_search_locations or ()) if found else ()
    return [Path(place, *rest, "conf") for place in places]
