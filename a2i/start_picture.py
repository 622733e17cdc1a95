"""A picture that others begin as: the picture model's own pipeline for that, and the picture as it takes it."""

import inspect
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from a2i.errors import first_line

STRENGTH = 0.6  # of change, where none is asked for


def read(start: str | Path) -> Image.Image:
    """A picture, RGB, upright, on white where it is transparent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture.
    """
    path = Path(start).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"got start={start}, which is no file; expected a picture (PNG, JPEG …)")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"got start={start}, which can't be read as a picture ({first_line(error)}); expected PNG, JPEG or the like"
        ) from error
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")


def check(strength: float | None, start: str | Path | None, steps: int) -> None:
    """Raise a ValueError where a strength means nothing, or leaves no step to take."""
    if strength is None:
        return
    if start is None:
        raise ValueError(f"got strength={strength} without start=FILE; expected a picture to begin with")
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not number or not 0 < strength <= 1:
        raise ValueError(
            f"got strength={strength!r}; expected a number above 0 (the picture as it is) and up to 1 (new)"
        )
    _check_steps(strength, steps)


def _check_steps(strength: float, steps: int) -> None:
    if int(steps * strength) < 1:
        raise ValueError(
            f"got strength={strength} with steps={steps}, of which that leaves none; expected steps of at least"
            f" {-int(-1 // strength)}"
        )


def pipeline_for(pipeline: Any, strength: float | None, steps: int, dtype: Any) -> Any:
    """The pipeline that begins as a picture, of the same parts: the model's own, or itself where it takes pictures.

    Raises:
        ValueError: diffusers has none, it takes no strength, or no step is left.
    """
    import diffusers
    from diffusers.utils import logging

    kind = type(pipeline).__name__
    if "image" in inspect.signature(type(pipeline).__call__).parameters:  # such as FLUX.2: a picture to go by
        if strength is not None:
            raise ValueError(f"got strength={strength}; expected none: {kind} takes the picture as something to go by")
        return pipeline
    other = getattr(diffusers, f"{kind.removesuffix('Pipeline')}Img2ImgPipeline", None)
    if other is None:
        raise ValueError(f"got start= with a {kind}, for which diffusers has no pipeline that begins with a picture")
    _check_steps(STRENGTH if strength is None else strength, steps)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of a cast to the type that the weights have
    try:
        return other.from_pipe(pipeline, dtype=dtype)
    finally:
        logging.set_verbosity(verbosity)


def fitted(start: Image.Image, pipeline: Any, width: int | None, height: int | None) -> Image.Image:
    """The picture in the size that is drawn, cut at the sides where it has another shape."""
    unet = getattr(pipeline, "unet", None)
    latents = unet.config.sample_size if unet is not None else getattr(pipeline, "default_sample_size", None)
    own = latents * getattr(pipeline, "vae_scale_factor", 8) if isinstance(latents, int) else 1024
    return ImageOps.fit(start, (width or own, height or own), Image.Resampling.LANCZOS)
