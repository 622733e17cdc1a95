"""Numbers among settings: what is none, or lies out of bounds, is refused by name."""

import math
from numbers import Integral, Real
from typing import Any


def number(
    name: str,
    value: Any,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Check a setting.

    Args:
        name: as the user gives it.
        value: to be checked. Neither `True` nor NaN nor an infinity is a number here.
        least: that it may be.
        above: which it has to lie.
        most: that it may be.
        below: which it has to lie.
        whole: only 1, 2 and so on.

    Raises:
        ValueError: it is no such number; says what was expected.
    """
    fits = isinstance(value, Integral if whole else Real) and not isinstance(value, bool) and math.isfinite(value)
    bounds = {
        "of at least": (least, lambda bound: value >= bound),
        "above": (above, lambda bound: value > bound),
        "at most": (most, lambda bound: value <= bound),
        "below": (below, lambda bound: value < bound),
    }
    wanted = {word: (bound, holds) for word, (bound, holds) in bounds.items() if bound is not None}
    if not (fits and all(holds(bound) for bound, holds in wanted.values())):
        told = " and ".join(f"{word} {bound:g}" for word, (bound, _) in wanted.items())
        raise ValueError(f"got {name}={value!r}; expected a {'whole ' if whole else ''}number {told}".rstrip())


def switch(name: str, value: Any) -> None:
    """Check a setting that is on or off.

    Raises:
        ValueError: it is neither `True` nor `False`.
    """
    if not isinstance(value, bool):
        raise ValueError(f"got {name}={value!r}; expected true or false")
