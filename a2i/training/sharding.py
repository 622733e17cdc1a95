"""Weights, gradients and the optimiser's state divided among the ranks, with PyTorch's `fully_shard` (FSDP2)."""

import copy
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from a2i.captioner import Captioner
from a2i.captioner.label_head import LabelHead


class ShardedStrategy(ModelParallelStrategy):
    """Each rank keeps its part of every weight and puts the parts together where they are used; a part of the captioner at a
    time: encoder, bridge, decoder. A checkpoint is whole, and one process can read it."""

    def __init__(self) -> None:
        """Set up; there are no settings."""
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint of a run whose weights were divided too.

        Raises:
            ValueError: they were not: its optimiser's state stands in another order, which Lightning would not see.
        """
        path = self.broadcast(checkpoint_path)
        saved = torch.load(path, mmap=True, map_location="cpu", weights_only=weights_only)["optimizer_states"]
        places = [place for state in saved for group in state["param_groups"] for place in group["params"]]
        learnt = [
            id(each) for optimizer in self.optimizers for group in optimizer.param_groups for each in group["params"]
        ]
        assert self.lightning_module is not None
        own = [id(parameter) for parameter in self.lightning_module.parameters()]
        if places == list(range(len(places))) and learnt != own[: len(learnt)]:
            raise ValueError(
                f"{path}: was written by a run whose weights were not divided among the devices (trainer=fsdp); go on with the"
                " trainer.strategy that it had"
            )
        return super().load_checkpoint(path, weights_only)


def shard(captioner: Captioner, heads: list[nn.Module], mesh: Any) -> Captioner:
    """Divide a captioner, and heads beside it, among the ranks of a mesh; returns a copy that is whole, to be written."""
    whole = copy.deepcopy(captioner)
    parts: list[Any] = [captioner.encoder, captioner.decoder, captioner.bridge, *heads]
    for part in captioner.bridge.modules():
        if isinstance(part, LabelHead):  # is asked from outside the bridge too
            parts.insert(0, part)
    for part in parts:
        for parameter in part.parameters():
            parameter.data = parameter.data.contiguous()  # convolutions lie channels last, which FSDP2 does not take
        fully_shard(part, mesh=mesh)
        for method in ("generate", "told", "estimate"):
            if hasattr(part, method):
                register_fsdp_forward_method(part, method)
    return whole


def own_part(gradient: Tensor) -> Tensor:
    """Of a gradient that is divided, the part that this rank has; of another all."""
    found: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return found
