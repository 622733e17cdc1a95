"""What an encoder, a decoder and a whole captioner must have: how to write one, and the types that the code checks.

To add an encoder or a decoder, write a class that fits its protocol here, give it a `name` and register it:

    @encoders.register
    class MyEncoder(nn.Module):
        name = "mine"

A file in `a2i/captioner/encoders/` or `a2i/captioner/decoders/` is found by itself; a package of your own must be imported
before the name is used. `encoders/gru.py` is a short one to begin from. Choose it with a file `conf/model/encoder/mine.yaml`,
whose `_target_` is the class, and `model/encoder=mine`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from a2i.captioner.candidates import Candidate
from a2i.captioner.decoding import Decoding


class Part(Protocol):
    """What encoders and decoders have in common: an `nn.Module` that plain values build.

    Attributes:
        name: under which the part is registered and saved; folders name it, so it must never change.
        settings: ready for JSON. The class called with them builds the same part with random weights: they must not name
            `pretrained` weights, because the captioner folder has its own.
        width: D, the size of a state: of those that an encoder returns, of those that a decoder attends to.
    """

    name: ClassVar[str]

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def width(self) -> int: ...

    # Of `nn.Module`, what is called of a part.
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def requires_grad_(self, requires_grad: bool = True) -> Any: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def get_parameter(self, target: str) -> nn.Parameter: ...
    def state_dict(self) -> dict[str, Any]: ...


class Encoder(Part, Protocol):
    """Log-mel → encoder states: `MyEncoder(**settings)`.

    Padding must change nothing: in eval mode a clip has the same states alone and in a batch with longer ones.
    `encoders.zero_padding` and `encoders.BidirectionalGRU` help with that, `encoders.load_weights` loads pretrained weights.
    `tests/test_encoders.py` tests every registered encoder.
    """

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, F), as `a2i.features.LogMel` returns it.
            mask: (B, T) bool, True for real frames, at least one per clip, all before the padding.

        Returns:
            states (B, S, D) and mask (B, S) bool.
        """
        ...

    def __call__(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]: ...


class Decoder(Part, Protocol):
    """States + token ids → logits, and token ids by generation: `MyDecoder(vocab_size, **settings)`.

    A decoder whose layers are a `transformers` model with `generate` need not search itself: `decoders.search` does.

    Attributes:
        vocab_size: size of the vocabulary, in tokens.
    """

    @property
    def vocab_size(self) -> int: ...

    def forward(
        self, inputs: Tensor, mask: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None = None
    ) -> Tensor:
        """Teacher forcing.

        Args:
            inputs: (C, L) token ids, BOS first.
            mask: (C, L) bool, True for real tokens; padding stands at the end.
            states: (B, S, D), which the decoder attends to.
            states_mask: (B, S) bool, True for real states.
            clip_index: (C,) the clip that each caption belongs to; None where B = C.

        Returns:
            logits (C, L, vocabulary); those at position i depend on `inputs[:, : i + 1]` and on all real states.
        """
        ...

    def __call__(
        self, inputs: Tensor, mask: Tensor, states: Tensor, states_mask: Tensor, clip_index: Tensor | None = None
    ) -> Tensor: ...

    def generate(
        self,
        states: Tensor,
        states_mask: Tensor,
        bos_id: int,
        eos_id: int,
        decoding: Decoding,
        use_cache: bool = True,
    ) -> Tensor:
        """Find captions; several threads may call this at once.

        Args:
            states: (B, S, D).
            states_mask: (B, S) bool.
            bos_id: id of the token that begins captions.
            eos_id: id of the token that ends captions.
            decoding: beams, sampling, lengths.
            use_cache: keep keys and values of the tokens so far.

        Returns:
            token ids (B × num_candidates, L), BOS first, filled up with EOS; a clip's candidates stand together.
        """
        ...

    def new_parameters(self) -> list[str]:
        """Names of the weights that no pretraining has trained."""
        ...


class CaptionModel(Protocol):
    """What captions a batch of waveforms: all that inference and evaluation ask of a captioner.

    Attributes:
        name: for results and messages.
        licence: of the weights; None where it is not known.
        decoding: the settings used where a call changes none.
        sampling_rate: Hz of the waveforms that it hears; sounds are brought to it before.
        longest: seconds of the longest clip that it captions as one; a longer recording is captioned part by part.
    """

    name: str
    licence: str | None
    decoding: Decoding

    @property
    def sampling_rate(self) -> int: ...

    @property
    def longest(self) -> float: ...

    @property
    def device(self) -> torch.device: ...

    def to(self, device: Any) -> Any:
        """Move the weights to a device."""
        ...

    def decoding_with(self, **changes: Any) -> Decoding:
        """`decoding` with some values changed; None leaves a value as it is.

        Raises:
            ValueError: a name is unknown, or this captioner cannot use the value.
        """
        ...

    def caption(self, waveforms: Sequence[np.ndarray], **changes: Any) -> list[list[Candidate]]:
        """Caption a batch of clips.

        Args:
            waveforms: each (samples,) float32 in [-1, 1], at `sampling_rate`.
            **changes: of the decoding settings, by name.

        Returns:
            the candidates of each clip, best first, no two alike: at least one, at most `num_candidates`.

        Raises:
            ValueError: a waveform or a decoding setting does not fit.
        """
        ...
