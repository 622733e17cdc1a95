"""Log-mel + mask → encoder states + mask. `a2i.captioner.protocols.Encoder` says what an encoder is and how to add one.

Here are the registry of encoders, and what several of them need.
"""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from a2i.captioner.protocols import Encoder
from a2i.captioner.registry import Registry
from a2i.errors import first_line

_encoders = Registry("encoder", __name__)
register, names, find, name_of = _encoders.register, _encoders.names, _encoders.find, _encoders.name_of


def build(name: str, settings: dict[str, Any]) -> Encoder:
    """The encoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    encoder: Encoder = find(name)(**settings)
    return encoder


def zero_padding(hidden: Tensor, frames: Tensor, time: int = 2) -> Tensor:
    """(B, C, T, F) with zeros after each clip's `frames` (B,), as a convolution pads a clip that is alone.

    `time` is the dimension that T is: 3 for (B, C, F, T).
    """
    real = torch.arange(hidden.shape[time], device=hidden.device) < frames[:, None]
    shape = [len(frames), 1, 1, 1]
    shape[time] = -1
    return hidden * real.view(shape).to(hidden.dtype)


class ConvBlock(nn.Module):
    """Two 3 × 3 convolutions, each normalised and rectified; padding is held at zero."""

    def __init__(self, before: int, after: int) -> None:
        """Build with random weights.

        Args:
            before: channels of what comes in.
            after: channels of what comes out.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        for convolution in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(convolution.weight)

    def forward(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """(B, before, T, F), of which a clip's first `frames` (B,) are real → (B, after, T, F)."""
        hidden = zero_padding(relu(self.bn1(self.conv1(hidden))), frames)
        return zero_padding(relu(self.bn2(self.conv2(hidden))), frames)


class BidirectionalGRU(nn.Module):
    """A bidirectional GRU whose backward direction begins at each clip's own end.

    As `nn.GRU(batch_first=True, bidirectional=True)` on packed sequences, whose gradients take time by the square of the frames
    on a CPU: each frame's fills one for all of them. Five times as fast on clips of 5 s (experiments/benchmarks/tried.py).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        """Build with random weights.

        Args:
            inputs: size of what comes in.
            hidden: units in each direction.
        """
        super().__init__()
        self.forwards = nn.GRU(inputs, hidden, batch_first=True)
        self.backwards = nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, states: Tensor, frames: Tensor) -> Tensor:
        """(B, T, inputs), of which a clip's first `frames` (B,) are real → (B, T, 2 × hidden), zero in the padding."""
        places = torch.arange(states.shape[1], device=states.device)
        real = places < frames[:, None]
        turned = torch.where(real, frames[:, None] - 1 - places, places)[:, :, None]
        back, _ = self.backwards(states.gather(1, turned.expand_as(states)))
        there, _ = self.forwards(states)
        states = torch.cat((there, back.gather(1, turned.expand_as(back))), dim=2)
        return states.masked_fill(~real[:, :, None], 0.0)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read pretrained weights by name: a published `.pth` file, or the encoder of a captioner folder.

    Of a `.pth` file only tensors are read, by PyTorch's restricted unpickler: nothing in it can run.

    Raises:
        ValueError: no weights could be loaded from there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    expected = (
        "expected a checkpoint file such as Cnn14_16k_mAP=0.438.pth, or a captioner folder with model.safetensors"
    )
    try:
        if path.is_dir():
            weights = load_file(path / "model.safetensors")
            return {name.removeprefix("encoder."): weights[name] for name in weights if name.startswith("encoder.")}
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = found.get("model", found)
        return {name.removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
    except (OSError, RuntimeError, AttributeError, EOFError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f"could not load weights from {path} ({first_line(error)}); {expected}") from error


def load_weights(
    encoder: nn.Module,
    path: str | Path,
    passed_over: tuple[str, ...] = (),
    read: Callable[[str | Path], dict[str, Tensor]] = read_weights,
) -> None:
    """Load pretrained weights into an encoder.

    Args:
        encoder: to load into.
        path: of a file or a folder that `read` reads.
        passed_over: prefixes of the names of weights that the encoder does not have.
        read: reads them by name.

    Raises:
        ValueError: weights are missing, have another shape, or are not the encoder's.
    """
    weights = {name: value for name, value in read(path).items() if not name.startswith(passed_over)}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()
        raise ValueError(
            f"{path}: its weights are not those of this encoder ({problem[:200]}); expected the same kind and sizes"
        ) from error
