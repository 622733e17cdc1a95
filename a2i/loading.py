"""What a program's settings choose → both models, loaded; and what the user should know of them is told."""

from collections.abc import Callable
from typing import Any, Protocol

from a2i.image_settings import NO_STYLE, is_mini_painter
from a2i.models import licence_line
from a2i.names import MINI, is_mini
from a2i.pipeline import AudioToImage


class Chosen(Protocol):
    """The settings of a program, as far as they choose models.

    Attributes:
        captioner: settings as `conf/captioner` has them.
        image: settings as `conf/image` has them, with the style's prompts; empty or None for captions alone.
        style: settings as `conf/style` has them; empty or None for none.
        decoding: changes of the captioner's decoding settings, by name.
        device: None for the best one there is.
    """

    @property
    def captioner(self) -> dict[str, Any]: ...
    @property
    def image(self) -> dict[str, Any] | None: ...
    @property
    def style(self) -> dict[str, Any] | None: ...
    @property
    def decoding(self) -> dict[str, Any]: ...
    @property
    def device(self) -> str | None: ...


def load(chosen: Chosen, tell: Callable[[str], None]) -> AudioToImage:
    """Load both models.

    Args:
        chosen: which.
        tell: is called with each line: that the small models are used, licences, what a model ignores.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a model or a decoding setting does not fit, or can't be loaded.
    """
    is_small, paints_small = is_mini(chosen.captioner), is_mini_painter(chosen.image)
    small = [("captioner", "captioner=FOLDER")] if is_small else []
    small += [("painter", "image=stable_diffusion")] if paints_small else []
    if small:
        names, full = (" and ".join(words) for words in zip(*small, strict=True))
        tell(f"using the small embedded {names}; for full ones: {full}")
    heard, drawn = licence_line("captioner", chosen.captioner), licence_line("image", chosen.image or {})
    for line in filter(None, (heard, drawn)):
        tell(line)
    a2i = AudioToImage.load(MINI if is_small else chosen.captioner, chosen.image or None, chosen.device)
    a2i.captioner.decoding_with(**chosen.decoding)
    if a2i.captioner.licence and not heard:
        tell(f"captions by {a2i.name}, licence: {a2i.captioner.licence}")
    if a2i.painter is not None and a2i.painter.licence and not drawn:
        tell(f"pictures by {a2i.painter.name}, licence: {a2i.painter.licence}")
    for remark in (NO_STYLE,) if chosen.style and paints_small else getattr(a2i.painter, "remarks", ()):
        tell(f"note: {remark}")
    return a2i
