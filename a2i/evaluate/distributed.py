"""The processes that evaluate together, as torchrun starts them: each has its share, all know what all have found.

`accelerate`'s state would do this in as many lines: it is one for the whole process, and its shares are no strides.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = timedelta(hours=24)  # one rank may draw for hours while another is done


@dataclass(frozen=True)
class Ranks:
    """This process among several; one alone by default.

    Attributes:
        rank: from 0, which scores and writes.
        size: how many there are.
        local: among those on this machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every `size`-th item, so that what is sorted by length is spread evenly."""
        return items[self.rank :: self.size]

    def check_same(self, names: Sequence[str]) -> None:
        """Check that all ranks have the same clips to share, in the same order.

        Raises:
            ValueError: they have not, each rank the same error.
        """
        text = "\n".join(names).encode(errors="backslashreplace")
        found = self.gathered([f"{len(names)} clips of hash {hashlib.sha256(text).hexdigest()[:8]}"])
        if len(set(found)) > 1:
            raise ValueError(
                f"the processes have different clips to caption ({'; '.join(found)}): a sound that one can read is missing for"
                " another, or differs; mend that, and start again"
            )

    def gathered(self, items: list[T]) -> list[T]:
        """What all ranks have, in the order of the ranks."""
        if self.size == 1:
            return items
        from torch import distributed

        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, items)
        return [item for each in found for item in each]

    def device(self, name: str | None) -> str | None:
        """The device of that name for this rank: where it says CUDA, or nothing and there is CUDA, a GPU of its own."""
        import torch

        if self.size > 1 and name in (None, "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among those that torchrun started; alone without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    from torch import distributed

    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
