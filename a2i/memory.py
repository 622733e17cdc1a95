"""How a picture model is laid out where the card is smaller than it."""

from typing import Any

import torch

OFFLOADS = ("auto", "none", "model", "sequential")
# Beside the weights, for each pixel of the picture: what decoding a picture takes. An estimate, nowhere measured: a dozen
# layers' worth of the decoder's 128 channels at two bytes.
ROOM_PER_PIXEL = 3_000


def weights_of(pipeline: Any) -> dict[str, int]:
    """Bytes of each part of a pipeline that has weights."""
    return {
        name: sum(each.numel() * each.element_size() for each in (*part.parameters(), *part.buffers()))
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }


def free_for(pipeline: Any, device: torch.device) -> int:
    """Bytes of a card that a pipeline can have: what is free, what PyTorch keeps in reserve, and what the pipeline has."""
    free, _ = torch.cuda.mem_get_info(device)
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    own = [each for part in parts for each in (*part.parameters(), *part.buffers()) if each.device.type == "cuda"]
    return int(free + reserve + sum(each.numel() * each.element_size() for each in own))


def chosen_offload(asked: str, weights: dict[str, int], pixels: int, free: int, name: str) -> str:
    """How to lay out a model: `none` (all on the card), `model` (a part at a time) or `sequential` (a layer at a time).

    Args:
        asked: `auto` for the fastest one that fits, or one of the three.
        weights: bytes of each part.
        pixels: of a picture.
        free: bytes on the card.
        name: of the model, for messages.

    Raises:
        ValueError: what is asked does not fit on the card.
    """
    room = ROOM_PER_PIXEL * pixels
    needed = {"none": sum(weights.values()), "model": max(weights.values(), default=0), "sequential": 0}
    if asked == "auto":
        return next((each for each, weight in needed.items() if weight + room <= free), "sequential")
    if needed[asked] > free:
        instead = next(each for each, weight in needed.items() if weight <= free)
        raise ValueError(
            f"got image.offload={asked} with {name}, whose weights need {_gigabytes(needed[asked])}, and the card has"
            f" {_gigabytes(free)} free; expected image.offload={instead} or auto, or a smaller model (image=sd15_lcm)"
        )
    return asked


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def lay_out(pipeline: Any, device: torch.device, dtype: torch.dtype, offload: str) -> None:
    """Put a pipeline on a device, whole or as `chosen_offload` says, wherever it was before."""
    pipeline.remove_all_hooks()
    if pipeline.dtype != dtype:
        pipeline.to(dtype=dtype)
    if offload == "none":
        pipeline.to(device)
        return
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    if hasattr(getattr(pipeline, "vae", None), "enable_slicing"):
        pipeline.vae.enable_slicing()  # of several pictures one is decoded at a time


def no_room(name: str, pictures: int, error: torch.OutOfMemoryError) -> ValueError:
    """What to do where the card is full."""
    fewer = "picture_batch=1, " if pictures > 1 else ""
    return ValueError(
        f"the card has too little memory to draw {pictures} picture{'s' if pictures > 1 else ''} at once with {name}"
        f" ({str(error).split('. ')[0]}); expected {fewer}image.offload=model or sequential, image.tiling=true, a smaller"
        " image.width and image.height, or a smaller model (image=sd15_lcm)"
    )
