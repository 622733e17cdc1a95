"""Weights, gradients and the optimiser's state divided among the ranks, with PyTorch's `fully_shard` (FSDP2)."""

import copy
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from a2i.captioner import Captioner
from a2i.captioner.bridge import LabelHead


class ShardedStrategy(ModelParallelStrategy):
    """Each rank keeps its part of every weight and puts the parts together where they are used; a part of the captioner at a
    time: encoder, bridge, decoder. A checkpoint is whole, and one process can read it."""

    def __init__(self) -> None:
        """Set up; there are no settings."""
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(captioner: Captioner, heads: list[nn.Module], mesh: Any) -> Captioner:
    """Divide a captioner, and heads beside it, among the ranks of a mesh; returns a copy that is whole, to be written."""
    whole = copy.deepcopy(captioner)
    parts: list[Any] = [captioner.encoder, captioner.decoder, captioner.bridge, *heads]
    for part in captioner.bridge.modules():
        if isinstance(part, LabelHead):  # is asked from outside the bridge too
            parts.insert(0, part)
    for part in parts:
        fully_shard(part, mesh=mesh)
        for method in ("generate", "told", "estimate"):
            if hasattr(part, method):
                register_fsdp_forward_method(part, method)
    return whole


def own_part(gradient: Tensor) -> Tensor:
    """Of a gradient that is divided, the part that this rank has; of another all."""
    found: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return found
