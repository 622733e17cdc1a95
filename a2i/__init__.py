"""a2i captions a sound and draws the caption.

from a2i import AudioToImage

a2i = AudioToImage.from_pretrained()
result = a2i("dog.wav")
print(result.caption)
result.image.save("dog.png")

Captions are scored by a call too, of which `a2i.evaluate.call.evaluate` tells more:

from a2i import evaluate

scores = evaluate(captioner="mini", data="foley", split="test")
print(scores["bertscore"]["f1"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2i.evaluate.call import evaluate
    from a2i.pipeline import AudioToImage

__all__ = ["AudioToImage", "evaluate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing the pipeline takes seconds (torch, transformers, diffusers); `--help` should not.
    if name == "AudioToImage":
        from a2i.pipeline import AudioToImage

        return AudioToImage
    if name == "evaluate":  # the package, which can be called
        from importlib import import_module

        return import_module("a2i.evaluate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
