"""Log-mel + mask → encoder states + mask. One encoder is one file here, and adding one touches no other.

Every file offers its class under the name `Encoder`: a module with

* `Encoder(**settings)`: plain values only;
* `settings`: the dictionary, ready for JSON, from which the same encoder without its weights is built again;
* `width`: D, the size of a state;
* `forward(log_mel (B, T, F), mask (B, T)) -> (states (B, S, D), mask (B, S))`.

To add one, write such a file, `a2i/captioner/encoders/mine.py` (`gru.py` is a short one to begin from), and choose it with
a file `conf/model/encoder/mine.yaml` whose `_target_` names the class: `model/encoder=mine`. Two things are easy to get wrong:

* padding must change nothing: in eval mode a clip has the same states alone and in a batch with longer ones;
* `settings` must not name `pretrained` weights: a captioner folder has its own. `load_weights` loads those to begin from.

`zero_padding` and `BidirectionalGRU` help with the first; `tests/test_encoders.py` holds every encoder that is found here to
both.
"""

from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from pkgutil import iter_modules
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_registered: dict[str, type[nn.Module]] = {}
Registered = TypeVar("Registered", bound=type[nn.Module])


def register(encoder: Registered) -> Registered:
    """Make a plug-in's encoder known by its `name`, which captioner folders keep; a decorator of its class.

    Raises:
        ValueError: another encoder has that name.
    """
    name: str = encoder.name  # type: ignore[attr-defined]
    if name in names():
        raise ValueError(f"got a second encoder with the name {name!r}; expected another than {', '.join(names())}")
    _registered[name] = encoder
    return encoder


def names() -> list[str]:
    """The encoders there are: a2i's own by the name of their file, and those that plug-ins registered."""
    return sorted({*(module.name for module in iter_modules(__path__)), *_registered})


def build(name: str, settings: dict[str, Any]) -> nn.Module:
    """The encoder of that name, with random weights.

    Raises:
        ValueError: there is none of that name, or the settings don't fit.
    """
    if name not in names():
        raise ValueError(f"got encoder {name!r}; expected one of {', '.join(names())}")
    made = _registered[name] if name in _registered else import_module(f"{__name__}.{name}").Encoder
    encoder: nn.Module = made(**settings)
    return encoder


def zero_padding(hidden: Tensor, frames: Tensor) -> Tensor:
    """(B, C, T, F) with zeros where a clip's `frames` (B,) are over, as a convolution pads a clip that stands alone."""
    real = torch.arange(hidden.shape[2], device=hidden.device) < frames[:, None]
    return hidden * real[:, None, :, None].to(hidden.dtype)


class BidirectionalGRU(nn.Module):
    """Gated recurrent units in both directions, where the way back begins at each clip's own end.

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
        heard = torch.cat((there, back.gather(1, turned.expand_as(back))), dim=2)
        return heard.masked_fill(~real[:, :, None], 0.0)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights to begin from, by name: of a published `.pth` file, or of the encoder in a captioner folder.

    Of a `.pth` file only tensors are read, by PyTorch's restricted unpickler: nothing in it can run.

    Raises:
        ValueError: there are none to be had there.
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
        raise ValueError(f"{path}: no weights to be read there ({str(error).splitlines()[0]}); {expected}") from error


def load_weights(encoder: nn.Module, path: str | Path, passed_over: tuple[str, ...] = ()) -> None:
    """Begin from the weights that `read_weights` finds.

    Args:
        encoder: that learns on from them.
        path: see `read_weights`.
        passed_over: beginnings of the names of weights that the encoder has no use for.

    Raises:
        ValueError: weights are missing, are of another shape, or too many.
    """
    weights = {name: value for name, value in read_weights(path).items() if not name.startswith(passed_over)}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()
        raise ValueError(
            f"{path}: its weights are not those of this encoder ({problem[:200]}); expected the same kind and sizes"
        ) from error
