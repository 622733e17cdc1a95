"""a2i captions a sound and draws the caption.

from a2i import AudioToImage

a2i = AudioToImage.from_pretrained()
result = a2i("dog.wav")
print(result.caption)
result.image.save("dog.png")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage

__all__ = ["AudioToImage"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing the pipeline takes seconds (torch, transformers, diffusers); `--help` should not.
    if name == "AudioToImage":
        from a2i.pipeline import AudioToImage

        return AudioToImage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
