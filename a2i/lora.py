"""A LoRA, added to the weights of a picture model."""

from pathlib import Path
from typing import Any

from a2i import hub

FILE = "pytorch_lora_weights.safetensors"  # as diffusers calls it


def add_lora(pipeline: Any, lora: str, revision: str | None, scale: float) -> None:
    """Add a LoRA to a pipeline's weights, for good.

    Raises:
        ValueError: the model takes none, the LoRA can't be had, or it is for another model.
    """
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"got lora={lora}; expected none: {kind} takes no LoRA")
    from diffusers.utils import logging

    place, file = _place(lora)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of each part of the model that the LoRA leaves as it is
    expected = "expected a safetensors file, a folder with one, or a Hub id, of a LoRA for this model"
    try:
        hub.look_up(place, revision, file)
        pipeline.load_lora_weights(place, weight_name=file, revision=revision, use_safetensors=True, adapter_name="a2i")
    # A LoRA of another model fails in many ways.
    except Exception as error:
        raise ValueError(f"got lora={lora}, which {kind} can't load ({hub.why(error)}); {expected}") from error
    finally:
        logging.set_verbosity(verbosity)
    if not any(pipeline.get_list_adapters().values()):
        raise ValueError(f"got lora={lora}, which holds nothing for a {kind}; {expected}")
    pipeline.fuse_lora(lora_scale=scale)  # as fast as without it
    pipeline.unload_lora_weights()


def _place(lora: str) -> tuple[str, str]:
    """Folder or Hub id of a LoRA, and the file there."""
    path = Path(lora).expanduser()
    if path.is_file():
        return str(path.parent), path.name
    if path.is_dir():
        files = sorted(each.name for each in path.glob("*.safetensors"))
        if FILE in files or len(files) == 1:
            return str(path), FILE if FILE in files else files[0]
        raise ValueError(
            f"got lora={lora} with {', '.join(files) or 'no safetensors file'}; expected the file's own path, or a folder with"
            " one"
        )
    owner, _, rest = lora.partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name or path.parent.is_dir():
        raise ValueError(f"got lora={lora}; expected a safetensors file, a folder with one, or a Hub id (OWNER/NAME)")
    return f"{owner}/{name}", file or FILE
