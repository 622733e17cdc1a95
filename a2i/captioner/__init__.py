"""What writes a caption of a waveform.

A waveform is made a log-mel spectrogram (`a2i.features`), encoded (`encoders`), fitted to the decoder (`bridge`) and put into
words (`decoders`, `text`, `cleaning`). `model` holds these together as one `Captioner`, `folder` keeps it on disk.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2i.captioner.model import Captioner

__all__ = ["Captioner"]


def __getattr__(name: str) -> Any:
    # What only counts words (`cleaning`) should not wait for torch.
    if name == "Captioner":
        from a2i.captioner.model import Captioner

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
