"""NaN and infinity in a loss, gradient or weight: the run stops, or the step is skipped."""

import math
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from a2i.training.batches import Batch
from a2i.training.sharding import own_part

OnNan = Literal["stop", "skip"]
IN_A_ROW = 10  # steps left out one after another, after which it is no longer the batches' fault


class NotFiniteError(ValueError):
    """A loss, gradient or weight is NaN or infinite."""


def not_finite(weights: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that hold NaN or an infinity."""
    return [
        name
        for name, weight in weights.items()
        if isinstance(weight, Tensor) and weight.is_floating_point() and not bool(torch.isfinite(weight).all())
    ]


class FiniteSteps(Callback):
    """Looks at the loss and the gradient of every step before the optimiser does.

    Under mixed precision with a gradient scaler only at the loss: there infinite gradients are how it finds its scale, and it
    leaves their steps out itself. All ranks decide alike.
    """

    def __init__(self, on_nan: OnNan = "stop") -> None:
        """Set up.

        Args:
            on_nan: `stop` ends training at the first; `skip` leaves the step out: weights, statistics of normalisation and
                optimiser stay as they were, the learning rate's schedule goes on. After `IN_A_ROW` of them it stops.

        Raises:
            ValueError: `on_nan` is neither.
        """
        if on_nan not in get_args(OnNan):
            raise ValueError(f"got training.on_nan={on_nan}; expected one of {', '.join(get_args(OnNan))}")
        self.on_nan = on_nan
        self.left_out = self.in_a_row = 0
        self._names: list[str] = []
        self._seen: list[tuple[list[str], Tensor]] = []  # names and loss of the batches since the last step
        self._statistics: dict[Tensor, Tensor] = {}
        self._waiting: tuple[Tensor, torch.cuda.Event, list[list[str]], str] | None = None

    def state_dict(self) -> dict[str, int]:
        return {"left_out": self.left_out}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.left_out = state_dict["left_out"]

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_index: int) -> None:
        self._names = batch.names
        if self.on_nan == "skip" and not self._seen:
            # A batch that is not finite spoils running means as it is heard, long before the optimiser's step.
            norms = [part for part in module.modules() if isinstance(part, _NormBase) and part.training]
            self._statistics = {own: own.clone() for norm in norms for own in norm.buffers()}

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        self._seen.append((self._names, loss.detach()))

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        seen, self._seen = self._seen, []
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        numbers = torch.stack([loss.float() for _, loss in seen])
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            # A sum is finite where all its terms are, and takes a seventh of the time of the largest value.
            gradients = [own_part(each.grad) for each in parameters if each.grad is not None]
            sums = [gradient.sum(dtype=torch.float32) for gradient in gradients]
            numbers = torch.cat([numbers, torch.stack([numbers.new_zeros(()), *sums]).sum().reshape(1)])
        fine = torch.isfinite(numbers).all().float().reshape(1)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(fine, torch.distributed.ReduceOp.MIN)
        numbers = torch.cat([numbers, fine])
        names, where = [batch for batch, _ in seen], f"step {trainer.global_step + 1} (epoch {trainer.current_epoch})"
        if self.on_nan == "stop" and numbers.is_cuda:
            # Asking now would have the processor wait for the device at every step; it is asked a step later. The step
            # that spoils the weights is taken then, but they are never saved.
            self._look_back()
            told = numbers.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._waiting = (told, event, names, where)
            return
        if self.on_nan == "skip":
            module.log("train/left_out", float(self.left_out))
        if message := self._wrong(numbers.tolist(), names, where):
            if self.on_nan == "stop":
                raise NotFiniteError(message)
            self._leave_out(parameters, message)
        else:
            self.in_a_row = 0

    def _leave_out(self, parameters: list[Tensor], message: str) -> None:
        for parameter in parameters:
            parameter.grad = None  # such a parameter every optimiser leaves as it is
        with torch.no_grad():
            for own, before in self._statistics.items():
                own.copy_(before)
        self.left_out += 1
        self.in_a_row += 1
        if self.in_a_row >= IN_A_ROW:
            raise NotFiniteError(f"{IN_A_ROW} steps in a row had to be left out, the last: {message}")
        _tell(f"{message}. This step is left out, the {self.left_out}. of this run")

    def _look_back(self) -> None:
        """Judge the step that is waiting."""
        if self._waiting is not None:
            told, event, names, where = self._waiting
            self._waiting = None
            event.synchronize()
            if message := self._wrong(told.tolist(), names, where):
                raise NotFiniteError(message)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._look_back()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._look_back()

    @staticmethod
    def _wrong(numbers: list[float], names: list[list[str]], where: str) -> str | None:
        """What is not finite, with the batch's names; None where all is well. All ranks come here with the same verdict."""
        *numbers, fine = numbers
        if fine:
            return None
        losses, gradient = numbers[: len(names)], numbers[len(names) :]
        bad = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
        found = [("loss", losses[index], names[index]) for index in bad]
        if not found and gradient and not math.isfinite(gradient[0]):
            found = [("gradient", gradient[0], [name for some in names for name in some])]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(ranks, found)
            found = [one for rank in ranks for one in rank]
            # The gradient is the sum of all ranks', and bad on each where one has a bad loss.
            found = [one for one in found if one[0] == "loss"] or found
        kind, value, _ = found[0]
        return f"{where}: the {kind} is {value} for the batch of {', '.join(name for one in found for name in one[2])}"


@rank_zero_only
def _tell(message: str) -> None:
    print(message, file=sys.stderr)
