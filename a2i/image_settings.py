"""Settings of a picture model before it is loaded: a style laid over them, and what of them decides a picture."""

import inspect
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any

from a2i.names import EMBEDDED, PAINTER, named_settings
from a2i.plugins import choices

# Settings that came later: at these values they change nothing, and what was drawn before them still counts as drawn.
LATER: dict[str, Any] = {
    "variant": None,
    "call": {},
    "lora": None,
    "lora_revision": None,
    "lora_scale": 1.0,
    "start": None,
    "strength": None,
    "dtype": None,
    "tiling": False,
}
WHERE = ("offload",)  # where a model lies changes no picture
FILES = ("lora", "start")  # count by what is in them
TEMPLATE, NEGATIVE = "prompt_template", "negative_prompt"
NO_STYLE = "the small embedded painter knows bare captions alone, and draws them without the style"
MOST_STEPS = 1_000  # that diffusion models are trained with
MOST_GUIDANCE = 1_000
MOST_LORA = 10


def check_painter(
    steps: Any = 50,
    guidance_scale: Any = 7.5,
    width: Any = None,
    height: Any = None,
    prompt_template: Any = "{caption}",
    lora_scale: Any = 1.0,
    prefix: str = "",
) -> None:
    """Check settings of `a2i.diffusion.Painter` that need no model to be checked.

    Args:
        steps: to `lora_scale`, as the painter takes them.
        prefix: of their names, for the message.

    Raises:
        ValueError: one is of another type or out of range.
    """
    if not _whole(steps) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"got {prefix}steps={steps!r}; expected a whole number from 1 to {MOST_STEPS:,}")
    if not isinstance(prompt_template, str) or "{caption}" not in prompt_template:
        raise ValueError(f"got {prefix}{TEMPLATE}={prompt_template!r}; expected a template with {{caption}}")
    for name, value, least, most in (
        ("guidance_scale", guidance_scale, 0, MOST_GUIDANCE),
        ("lora_scale", lora_scale, -MOST_LORA, MOST_LORA),
    ):
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"got {prefix}{name}={value!r}; expected a number from {least} to {most}")
    for name, size in (("width", width), ("height", height)):
        if size is not None and (not _whole(size) or size < 8 or size % 8):
            raise ValueError(f"got {prefix}{name}={size!r}; expected a multiple of 8 pixels")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def named_style(style: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a style: those that `conf/style` has under its name, or those that are given; none for None.

    Raises:
        ValueError: there is none of that name.
    """
    if not isinstance(style, str):
        return dict(style or {})
    settings = named_settings("style", style)
    if settings is None:
        raise ValueError(f"got style={style}; expected one of {', '.join(choices('style'))}")
    return settings


def is_mini_painter(image: Mapping[str, Any] | None) -> bool:
    """Whether settings are those of the picture model that comes with a2i."""
    return is_painter(image or {}) and (image or {}).get("model") == EMBEDDED


def is_painter(image: Mapping[str, Any]) -> bool:
    """Whether settings are for a2i's own class, not a plug-in's."""
    return image.get("_target_", PAINTER) == PAINTER


def styled(image: Mapping[str, Any] | None, style: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of a picture model with a style's prompts laid around its own.

    The embedded model stays as it is (see `NO_STYLE`), and a model without guidance has no use for a negative prompt.

    Args:
        image: as `conf/image` has them; empty or None for no pictures.
        style: `prompt_template`, with `{caption}`, and `negative_prompt`; empty or None for none.

    Raises:
        ValueError: the style has no template, or the picture model takes none.
    """
    for name, given in (("image", image), ("style", style)):
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"got {name}={given!r}; expected settings, such as {name}.NAME=VALUE, or none")
    settings = dict(image or {})
    if settings and is_painter(settings):
        checked = inspect.signature(check_painter).parameters
        check_painter(**{name: value for name, value in settings.items() if name in checked}, prefix="image.")
    if not style:
        return settings
    template = style.get(TEMPLATE)
    if not isinstance(template, str) or "{caption}" not in template or set(style) - {TEMPLATE, NEGATIVE}:
        raise ValueError(
            f"got a style with {dict(style)}; expected style.{TEMPLATE} with {{caption}}, and at most a {NEGATIVE} beside it"
        )
    if not isinstance(style.get(NEGATIVE), str | None):
        raise ValueError(f"got style.{NEGATIVE}={style[NEGATIVE]!r}; expected text or null")
    if not settings or is_mini_painter(settings):
        return settings
    if not is_painter(settings) and TEMPLATE not in settings:
        raise ValueError(f"got a style with {settings['_target_']}, which has no {TEMPLATE}; expected style=none")
    settings[TEMPLATE] = template.replace("{caption}", settings.get(TEMPLATE) or "{caption}")
    scale = settings.get("guidance_scale", 2.0)  # what is no number the painter refuses
    if style.get(NEGATIVE) and isinstance(scale, int | float) and scale > 1:
        settings[NEGATIVE] = ", ".join(filter(None, (style[NEGATIVE], settings.get(NEGATIVE))))
    return settings


def deciding(image: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what a picture looks like; a file among them by what is in it, wherever it lies."""
    settings = {
        name: value
        for name, value in image.items()
        if name not in WHERE and (name not in LATER or value != LATER[name])
    }
    for name in FILES:
        if isinstance(place := settings.get(name), str) and Path(place).expanduser().is_file():
            with Path(place).expanduser().open("rb") as file:
                settings[name] = file_digest(file, "sha256").hexdigest()
    return settings
