"""The captioner: waveform → caption.

`model.py` reads as the whole story: log-mel (`a2i.features`) → encoder states (`encoders`) → what the decoder attends to
(`bridge`) → token ids (`decoders`) → text (`text`, `cleaning`) → `candidates`. `protocols` says what each part must have and
how to add one; `folder` saves and loads a captioner.
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
