"""What a sweep varies: values in Hydra's grammar, as the command line and `sweep.params` give them → Optuna's distributions."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | int | float


@dataclass(frozen=True)
class Interval:
    """All numbers from low to high, both among them; whole numbers only, or evenly on a logarithmic scale, if so."""

    low: float
    high: float
    whole: bool = False
    log: bool = False

    def first(self) -> int | float:
        """The lower end."""
        return int(self.low) if self.whole else self.low


@dataclass(frozen=True)
class Space:
    """What a sweep varies, and what all of its jobs have.

    Attributes:
        fixed: overrides that every job is given.
        varied: by key, the values, in Hydra's grammar as text, or an interval.
    """

    fixed: tuple[str, ...]
    varied: Mapping[str, tuple[str, ...] | Interval]

    def combinations(self) -> list[dict[str, Value]]:
        """All combinations of values; the last key's vary fastest, as Hydra's own sweeps do.

        Raises:
            ValueError: an interval has no end of values.
        """
        lists: list[tuple[str, ...]] = []
        for key, values in self.varied.items():
            if isinstance(values, Interval):
                raise ValueError(
                    f"got an interval for {key} in a sweep over all combinations; expected values: a,b,c or range(…), or a"
                    " search: sweep=optuna or sweep=random"
                )
            lists.append(values)
        return [dict(zip(self.varied, chosen, strict=True)) for chosen in itertools.product(*lists)]

    def distributions(self) -> "dict[str, BaseDistribution]":
        """As Optuna draws from them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        def one(values: tuple[str, ...] | Interval) -> "BaseDistribution":
            if not isinstance(values, Interval):
                return CategoricalDistribution(values)
            if values.whole:
                return IntDistribution(int(values.low), int(values.high), log=values.log)
            return FloatDistribution(values.low, values.high, log=values.log)

        return {key: one(values) for key, values in self.varied.items()}

    def overrides(self, chosen: Mapping[str, Value]) -> list[str]:
        """What the job of one combination is given."""
        return [*self.fixed, *(f"{key}={value}" for key, value in chosen.items())]

    def each_value(self) -> list[list[str]]:
        """Overrides of a few jobs, in which every value is had once: what composes in them composes everywhere, mostly."""
        first = {
            key: values.first() if isinstance(values, Interval) else values[0] for key, values in self.varied.items()
        }
        others = [
            first | {key: value}
            for key, values in self.varied.items()
            if not isinstance(values, Interval)
            for value in values[1:]
        ]
        return [self.overrides(chosen) for chosen in (first, *others)]

    def described(self) -> dict[str, Any]:
        """As plain values, by which a sweep that goes on is held against the one that began."""
        varied = {key: str(each) if isinstance(each, Interval) else list(each) for key, each in self.varied.items()}
        return {"fixed": list(self.fixed), "varied": varied}


def read_space(params: Mapping[str, Any], given: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space of a sweep.

    Args:
        params: by key, values in Hydra's grammar: those of the configuration.
        given: overrides of the command line, which stand in place of params of the same key: one value takes a key out of
            what is varied.
        loader: by which `glob(…)` finds a group's choices.

    Raises:
        HydraException: the grammar can't read one.
        ValueError: an interval has no two ends in their order, or no logarithm where one is wanted.
    """
    parser = OverridesParser.create(config_loader=loader)
    read = {override.get_key_element(): override for override in parser.parse_overrides([*_texts(params), *given])}
    fixed: list[str] = []
    varied: dict[str, tuple[str, ...] | Interval] = {}
    for key, override in read.items():
        if not override.is_sweep_override():
            fixed.append(_as_given(override))
        elif override.is_interval_sweep():
            varied[key] = _interval(override)
        else:
            texts = override.sweep_string_iterator()
            varied[key] = tuple(dict.fromkeys(map(_rounded if override.is_range_sweep() else str, texts)))
            if not varied[key]:
                raise ValueError(f"got {key}={override.value()} without a value; expected one at least")
    return Space(tuple(fixed), varied)


def _texts(params: Mapping[str, Any]) -> list[str]:
    """As overrides; what is a list in YAML is a choice, and what is null is left out."""
    given = {key: value for key, value in params.items() if value is not None}
    return [f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}" for key, value in given.items()]


def _as_given(override: Override) -> str:
    key = override.get_key_element()
    return key if override.is_delete() else f"{key}={override.get_value_element_as_str()}"


def _rounded(text: str) -> str:
    """Of a range: steps of 0.05 come to 0.15000000000000002."""
    return text if text.lstrip("-").isdigit() else repr(float(f"{float(text):.12g}"))


def _interval(override: Override) -> Interval:
    value: Any = override.value()
    low, high, log = value.start, value.end, "log" in value.tags
    whole = isinstance(low, int) and isinstance(high, int)
    key = override.get_key_element()
    if not low <= high:
        raise ValueError(f"got {key}=interval({low}, {high}); expected the lower end first")
    if log and low <= 0:
        raise ValueError(f"got {key}=tag(log, interval({low}, {high})); expected ends above 0 for a logarithmic scale")
    return Interval(low, high, whole, log)
