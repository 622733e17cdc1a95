"""Metrics of captions and pictures: pure functions, thin classes that hold a model or a cache, and the registry of all."""

from a2i.metrics import builtin as _builtin  # noqa: F401  registers ours, in their order
from a2i.metrics.inputs import Inputs as Inputs
from a2i.metrics.parts import MissingError as MissingError
from a2i.metrics.parts import Score as Score
from a2i.metrics.registry import Metric as Metric
from a2i.metrics.registry import Value as Value
from a2i.metrics.registry import register as register
