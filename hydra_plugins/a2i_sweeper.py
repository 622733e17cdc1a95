"""Where Hydra looks for plug-ins, and it takes them from nowhere else: the sweeper that `a2i/sweep` has.

Hydra imports this for every program that uses it, so that nothing is loaded before a sweep begins.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """Hands all over to `a2i.sweep.sweeper.StudySweeper`."""

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        from a2i.sweep.sweeper import StudySweeper as Own

        self.own = Own(max_batch_size, params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.own.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        return self.own.sweep(arguments)
