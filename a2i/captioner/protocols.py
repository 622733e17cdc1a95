"""What every captioner offers."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from a2i.captioner.candidates import Candidate
from a2i.captioner.decoders import Decoding


class CaptionModel(Protocol):
    """Waveforms → candidate captions, by an own `Captioner` or by an audio-language model."""

    name: str  # a name, folder or Hub id
    licence: str | None
    decoding: Decoding

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    def to(self, device: Any) -> Any:
        """Move the weights to a device."""

    def decoding_with(self, **changes: Any) -> Decoding:
        """The decoding settings with some of them changed; None leaves one as it is.

        Raises:
            ValueError: a name is unknown, or a value does not fit this captioner.
        """

    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> list[list[Candidate]]:
        """Caption a batch of clips.

        Args:
            waveforms: each (samples,) float32 in [-1, 1] at 16 kHz.
            **changes: of the decoding settings, by name.

        Returns:
            for each clip its candidates, the best first, no two alike, at least one.

        Raises:
            ValueError: a waveform or a decoding setting does not fit.
        """
