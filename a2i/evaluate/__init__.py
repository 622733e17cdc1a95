"""How good captions are: a captioner folder's on a data set, or any system's from a file; and one system's against another's.

`python -m a2i.evaluate` is the entry point, and the package itself can be called: `a2i.evaluate(captioner=…)` is
`a2i.evaluate.call.evaluate`.
"""

import sys
from types import ModuleType
from typing import Any

from a2i.evaluate.captioning import predict
from a2i.evaluate.pages import show, write, write_comparison, write_page
from a2i.evaluate.systems import Scorer, System

__all__ = ["Scorer", "System", "predict", "show", "write", "write_comparison", "write_page"]


class _Callable(ModuleType):
    """The package as a function."""

    def __call__(self, *arguments: Any, **settings: Any) -> dict[str, Any]:
        """Score captions; see `a2i.evaluate.call.evaluate`."""
        from a2i.evaluate.call import evaluate  # composes the configuration: whoever only reads scores need not wait

        return evaluate(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
