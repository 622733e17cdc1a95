"""What the processes that train together, the ranks, tell each other: so that a step is that of one process with all clips.

`DistributedDataParallel` takes the mean of the ranks' gradients. Each rank's loss is a mean too: over its own tokens, of which
another may have more. Hence the weights here; and batch normalisation that takes its statistics from the clips of all ranks.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import pad
from torch.nn.modules.batchnorm import _BatchNorm


def ranks() -> int:
    """How many there are; 1 for a process alone."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Of this process, from 0."""
    return distributed.get_rank() if ranks() > 1 else 0


def weights(counts: Tensor) -> tuple[Tensor, Tensor]:
    """By what each rank multiplies its means, so that the ranks' mean of them is the mean over all that all ranks have.

    Args:
        counts: (…) of what this rank's means are over; 0 where it has none.

    Returns:
        (…) float32 weights, 0 where no rank has any; and (…) float32, how many all ranks have.
    """
    counts = counts.float()
    total = counts.clone()
    distributed.all_reduce(total)
    return ranks() * counts / total.clamp_min(1), total


def on_any(value: bool | int, device: torch.device | str = "cpu") -> int:
    """The largest value of all ranks, which all have to ask for."""
    if ranks() == 1:
        return int(value)
    found = torch.tensor(int(value), device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def of_each(value: Any) -> list[Any]:
    """The values of all ranks, in their order; all have to ask for them."""
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    distributed.all_gather_object(found, value)
    return found


def as_long(log_mel: Tensor, mask: Tensor, padding: float) -> tuple[Tensor, Tensor]:
    """Log-mel (B, T, F) and mask (B, T) → with as many frames as the longest clip of all ranks has.

    Batch normalisation counts padding in, so that it has to be as in one process.
    """
    missing = on_any(log_mel.shape[1], log_mel.device) - log_mel.shape[1]
    if missing == 0:
        return log_mel, mask
    return pad(log_mel, (0, 0, 0, missing), value=padding), pad(mask, (0, missing), value=False)


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over the clips of all ranks, with the parameters and statistics of the layer that it stands for.

    As `torch.nn.SyncBatchNorm`, which works on GPUs alone and would count stand-ins (`LengthBatchSampler`) in.
    """

    counts = True  # whether what this rank hears is in the statistics

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, …) → as many."""
        if not self.training or ranks() == 1:
            return super().forward(values)
        own = values.float()
        others = [axis for axis in range(own.ndim) if axis != 1]
        count = own.new_tensor([own.numel() / own.shape[1] if self.counts else 0.0])
        variance, mean = torch.var_mean(own, dim=others, correction=0)
        # Each rank fills a row; their sum has all. Means of squares would lose digits.
        row = torch.cat((count, mean, variance))
        rows = torch.zeros(ranks(), len(row), device=row.device).index_copy(
            0, torch.tensor([rank()], device=row.device), row[None]
        )
        counts, means, variances = all_reduce(rows).split((1, self.num_features, self.num_features), dim=1)
        shares = counts / counts.sum()
        mean = (shares * means).sum(dim=0)
        variance = (shares * (variances + (means - mean).square())).sum(dim=0)
        self._remember(mean.detach(), variance.detach(), counts.detach().sum())
        shape = [1, -1, *[1] * (own.ndim - 2)]
        scale = (variance + self.eps).rsqrt() * self.weight
        result = (own - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        return result.to(values.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        unbiased = variance * count / (count - 1).clamp_min(1)
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)

    def _check_input_dim(self, values: Tensor) -> None:
        """As torch's own layers: (B, C, …)."""
        if values.ndim < 2:
            raise ValueError(f"got {tuple(values.shape)}; expected (B, C, …)")


def share_norms(module: nn.Module) -> list[SharedBatchNorm]:
    """Put a `SharedBatchNorm` in the place of each batch normalisation within a module; names and weights stay."""
    found: list[SharedBatchNorm] = []
    for name, part in module.named_children():
        if isinstance(part, _BatchNorm) and not isinstance(part, SharedBatchNorm):
            shared = SharedBatchNorm(part.num_features, part.eps, part.momentum)
            shared.weight, shared.bias = part.weight, part.bias
            shared.running_mean, shared.running_var = part.running_mean, part.running_var
            shared.num_batches_tracked = part.num_batches_tracked
            shared.train(part.training)
            setattr(module, name, shared)
            found.append(shared)
        else:
            found += share_norms(part)
    return found
