"""How a picture model is laid out on a small card; what needs a card is marked so."""

import numpy as np
import pytest
import torch

from a2i.diffusion import Painter
from a2i.memory import ROOM_PER_PIXEL, chosen_offload, weights_of

GB = 10**9
WEIGHTS = {"text_encoder": 3 * GB, "transformer": 8 * GB, "vae": GB // 2}


@pytest.mark.parametrize(
    ("free", "offload"),
    [(20 * GB, "none"), (12 * GB, "model"), (9 * GB, "model"), (8 * GB, "sequential"), (GB, "sequential")],
)
def test_auto_takes_the_fastest_for_which_there_is_room(free: int, offload: str) -> None:
    assert chosen_offload("auto", WEIGHTS, 512 * 512, free, "big") == offload


def test_a_larger_picture_needs_more_room() -> None:
    free = sum(WEIGHTS.values()) + 512 * 512 * ROOM_PER_PIXEL
    assert chosen_offload("auto", WEIGHTS, 512 * 512, free, "big") == "none"
    assert chosen_offload("auto", WEIGHTS, 1024 * 1024, free, "big") == "model"


def test_a_card_that_is_too_small_is_said() -> None:
    for asked, free, needed, instead in (("none", 9 * GB, "11.5", "model"), ("model", 4 * GB, "8.0", "sequential")):
        message = (
            rf"^got image.offload={asked} with big, whose weights need {needed} GB, and the card has {free / GB:.1f} GB free;"
            rf" expected image.offload={instead} or auto, or a smaller model \(image=sd15_lcm\)$"
        )
        with pytest.raises(ValueError, match=message):
            chosen_offload(asked, WEIGHTS, 512 * 512, free, "big")
        assert chosen_offload(asked, WEIGHTS, 512 * 512, 12 * GB, "big") == asked  # who asks need not leave room


def test_the_weights_of_a_pipeline(painter_folder: str) -> None:
    painter = Painter(str(painter_folder), device="cpu")
    weights = weights_of(painter.pipeline)
    assert set(weights) == {"vae", "text_encoder", "unet"}
    assert weights["unet"] >= 4 * sum(each.numel() for each in painter.pipeline.unet.parameters())
    half = weights_of(Painter(str(painter_folder), device="cpu", dtype="float16").pipeline)
    assert half["unet"] * 2 == weights["unet"]


def test_what_is_for_cards_alone(painter_folder: str) -> None:
    for offload in ("model", "sequential"):
        with pytest.raises(ValueError, match=f"got offload={offload} on cpu; expected auto or none"):
            Painter(str(painter_folder), device="cpu", offload=offload)
    with pytest.raises(ValueError, match="got offload='half'; expected one of auto, none, model, sequential"):
        Painter(str(painter_folder), device="cpu", offload="half")


def test_a_full_card_is_said(painter_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = Painter(str(painter_folder), steps=1, device="cpu")

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    monkeypatch.setattr(painter.pipeline.vae, "decode", full)
    with pytest.raises(
        ValueError, match=r"too little memory to draw 2 pictures at once .* expected picture_batch=1, image"
    ):
        painter.draw_batch(["rain", "a dog"], [1, 2])
    with pytest.raises(
        ValueError, match=r"draw 1 picture at once .*\(CUDA out of memory\); expected image.offload=model"
    ):
        painter.draw("rain")


def test_tiles_draw_nearly_the_same(painter_folder: str) -> None:
    size = {"width": 64, "height": 64, "steps": 1, "device": "cpu"}
    whole, tiled = (Painter(str(painter_folder), tiling=tiling, **size) for tiling in (False, True))
    assert tiled.pipeline.vae.use_tiling
    assert not whole.pipeline.vae.use_tiling
    first, second = (np.asarray(each.draw("rain", 1).image, int) for each in (whole, tiled))
    assert 0 < np.abs(first - second).mean() < 60


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_an_offloaded_model_draws_the_same(painter_folder: str, offload: str) -> None:
    settings = {"steps": 2, "device": "cuda", "dtype": "float32"}
    whole = np.asarray(Painter(str(painter_folder), offload="none", **settings).draw("rain", 1).image, int)
    painter = Painter(str(painter_folder), offload=offload, **settings)
    assert np.abs(np.asarray(painter.draw("rain", 1).image, int) - whole).max() <= 2
    assert np.abs(np.asarray(painter.to("cuda").draw("rain", 1).image, int) - whole).max() <= 2
