"""The programs of a2i, run in the process that tests: no interpreter has to start, and no library is loaded anew.

What tells a process of its own apart (how it is killed, what it has loaded, where its output goes, its ranks) is tested in one.
"""

import contextlib
import gc
import io
import logging
import os
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from subprocess import CompletedProcess
from unittest.mock import patch

import torch
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from a2i.compose import PluginConfigurations


def run(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> "CompletedProcess[str]":
    """What `python -m a2i.NAME ARGUMENTS` gives and prints.

    Args:
        name: of the program's module below `a2i`.
        environment: variables in place of those that are there.
    """
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status = 0
    with (
        _left_as_it_was(),
        patch.dict(os.environ, environment or {}, clear=environment is not None),
        patch.object(sys, "argv", [f"a2i.{name}", *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the suite's own filter makes errors of them
        try:
            runpy.run_module(f"a2i.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException as error:
            traceback.print_exc()
            status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    said = [stream.buffer.getvalue().decode() for stream in (output, errors)]  # type: ignore[attr-defined]
    return CompletedProcess([name, *arguments], status, *said)


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Put back what a program leaves to those that run after it in this process."""
    root, hydras = logging.getLogger(), Singleton.get_state()
    handlers, level, collects = list(root.handlers), root.level, gc.isenabled()
    stops, ends = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    told = [each for each in logging.root.manager.loggerDict.values() if not getattr(each, "disabled", True)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
    try:
        yield
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()  # it reads the environment once
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger in told:
            logger.disabled = False  # type: ignore[union-attr]
        Singleton.set_state(hydras)  # makes Hydra's list of plug-ins anew
        Plugins.instance().register(PluginConfigurations)
        signal.signal(signal.SIGINT, stops)
        signal.signal(signal.SIGTERM, ends)
        if collects:
            gc.enable()
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
        gc.collect()
