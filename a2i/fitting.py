"""Values of a configuration, held against the annotations of what they are for."""

import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict


def fitting(made: Callable[..., Any], arguments: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Arguments as the annotations of a class or function want them.

    Numbers become text where text alone is wanted (a folder may be called 2024), and lists tuples; nothing else changes.

    Args:
        made: that takes them.
        arguments: some of its arguments, by name; what is yet to be built is left alone.
        prefix: of their names in the configuration.

    Raises:
        ValueError: a value is of another type, or there is no argument of that name.
    """
    takes, hints = inspect.signature(made).parameters, annotations(made)
    result = dict(arguments)
    for name, value in arguments.items():
        if name not in takes:
            if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values()):
                continue
            alike = get_close_matches(name, takes, 1)
            hint = f"; did you mean {prefix}{alike[0]}?" if alike else ""
            raise ValueError(f"got {prefix}{name}; expected one of {', '.join(takes)}{hint}")
        wanted = hints.get(name, Any)
        if value is None and takes[name].default is None:
            continue
        try:
            result[name] = _fitted(value, wanted)
        except TypeError as error:
            several = isinstance(value, str) and "," in value
            hint = "; several values need a list [a,b], or -m for a sweep" if several else ""
            raise ValueError(f"got {prefix}{name}={_shown(value)}; expected {_described(wanted)}{hint}") from error
    return result


def annotations(made: Callable[..., Any]) -> dict[str, Any]:
    """What the arguments of a class or function are said to be; nothing of what only a type checker imports."""
    function = inspect.unwrap(inspect.getattr_static(made, "__init__") if isinstance(made, type) else made)
    found: dict[str, Any] = {}
    for name, wanted in inspect.get_annotations(function).items():
        with suppress(NameError):
            # One at a time: of all at once there would be none if one can't be had.
            one = type("One", (), {"__annotations__": {name: wanted}})
            found |= get_type_hints(one, getattr(function, "__globals__", {}))
    return found


def _fitted(value: Any, wanted: Any, numbers_are_text: bool = True) -> Any:
    """A value as an annotation wants it.

    Raises:
        TypeError: it does not fit.
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    container = origin or wanted
    if wanted is Any or (isinstance(value, dict) and "_target_" in value):
        return value
    if origin in (Union, UnionType):
        numbers = {int, float} & set(inner)  # a number is text only where no number is wanted
        for text in (False,) if numbers else (False, True):
            for each in inner:
                with suppress(TypeError):
                    return _fitted(value, each, numbers_are_text and text)
        raise TypeError
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = True
    if wanted in (None, NoneType):
        fits = value is None
    elif origin is Literal:
        fits = any(value == each and type(value) is type(each) for each in inner)
    elif wanted is bool:
        fits = isinstance(value, bool)
    elif wanted is int:
        fits = number and isinstance(value, int)
    elif wanted is float:
        fits = number and math.isfinite(value)
    elif wanted in (str, Path) or container is os.PathLike:
        value = str(value) if number and numbers_are_text else value
        fits = isinstance(value, str | Path)
    elif getattr(container, "_is_protocol", False):
        fits = not isinstance(value, str | int | float | list | tuple | dict | None)
    elif not isinstance(container, type) or isinstance(wanted, TypeVar):
        pass  # what can't be told from a value
    elif is_typeddict(container):
        members = get_type_hints(container)
        fits = isinstance(value, Mapping) and set(value) == set(members)
        value = {name: _fitted(each, members[name]) for name, each in value.items()} if fits else value
    elif issubclass(container, Mapping):
        fits = isinstance(value, Mapping)
        if fits and len(inner) == 2:
            value = {name: _fitted(each, inner[1]) for name, each in value.items()}
    elif issubclass(container, Collection):
        if not isinstance(value, list | tuple):
            fits = isinstance(value, container) and not isinstance(value, str | Mapping)
        elif container is tuple:
            kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner or (Any,) * len(value)
            fits = len(kinds) == len(value)
            value = tuple(_fitted(each, kind) for each, kind in zip(value, kinds, strict=True)) if fits else value
        else:
            value = [_fitted(each, inner[0] if inner else Any) for each in value]
    elif container is not object:
        fits = isinstance(value, container)
    if not fits:
        raise TypeError
    return value


def _described(wanted: Any) -> str:
    """What an annotation wants, in words."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        # Objects can't be given on a command line.
        words = [
            _described(each) for each in inner if each is not NoneType and not _described(each).startswith("an object")
        ]
        return " or ".join(dict.fromkeys([*words, *(["null"] if NoneType in inner else [])])) or _described(inner[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    container = origin or wanted
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if container in names or not isinstance(container, type):
        return names.get(container, str(wanted))
    if is_typeddict(container):
        each = ", ".join(f"{name}: {_described(kind)}" for name, kind in get_type_hints(container).items())
        return f"{{{each}}}"
    if issubclass(container, Mapping):
        of = inner[1] if len(inner) == 2 else Any
        if getattr(of, "_is_protocol", False):
            return f"a dictionary of {of.__name__}s, each with its _target_"
        return f"a dictionary of {_described(of)} each" if of in names else "a dictionary"
    if issubclass(container, Collection):
        return f"a list of {_described(inner[0])} each" if inner and inner[0] in names else "a list"
    return f"an object of {container.__name__}"


def _shown(value: Any) -> str:
    """A value as one writes it on the command line, text in quotes."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
