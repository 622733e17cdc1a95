"""Log-mel + mask → encoder states + mask. One encoder is one file here, and adding one touches no other.

Every file offers its class under the name `Encoder`: a module with

* `Encoder(**settings)`: plain values only;
* `settings`: the dictionary, ready for JSON, from which the same encoder without its weights is built again;
* `width`: D, the size of a state;
* `forward(log_mel (B, T, F), mask (B, T)) -> (states (B, S, D), mask (B, S))`.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import nn


def names() -> list[str]:
    """The encoders there are, by the name of their file."""
    return sorted(module.name for module in iter_modules(__path__))


def build(name: str, settings: dict[str, Any]) -> nn.Module:
    """The encoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    if name not in names():
        raise ValueError(f"got encoder {name!r}; expected one of {', '.join(names())}")
    encoder: nn.Module = import_module(f"{__name__}.{name}").Encoder(**settings)
    return encoder
