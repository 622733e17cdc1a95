"""How good captions are: a captioner folder's on a data set, or any system's from a file; and one system's against another's.

`python -m a2i.evaluate` is the entry point.
"""

from a2i.evaluate.pages import show, write, write_comparison, write_page
from a2i.evaluate.systems import Scorer, System, predict

__all__ = ["Scorer", "System", "predict", "show", "write", "write_comparison", "write_page"]
