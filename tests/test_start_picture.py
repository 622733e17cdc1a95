"""Pictures that begin as a picture."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import painters
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from a2i.diffusion import Painter
from a2i.start_picture import read

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers with numpy 2
SMALL = {"width": painters.SIDE, "height": painters.SIDE, "device": "cpu"}
CLASSES = {
    "stable_diffusion": "StableDiffusionImg2ImgPipeline",
    "sdxl_turbo": "StableDiffusionXLImg2ImgPipeline",
    "sd35_turbo": "StableDiffusion3Img2ImgPipeline",
    "flux_schnell": "FluxImg2ImgPipeline",
    "z_image_turbo": "ZImageImg2ImgPipeline",
    "sana_sprint": "SanaSprintImg2ImgPipeline",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("painters")


@pytest.fixture(scope="module")
def start(folder: Path) -> Path:
    """Half dark, half bright, and as large as what is drawn."""
    values = np.full((painters.SIDE, painters.SIDE, 3), 40, np.uint8)
    values[:, painters.SIDE // 2 :] = 220
    Image.fromarray(values).save(folder / "start.png")
    return folder / "start.png"


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_begins_with_a_picture_as_its_pipeline_does(folder: Path, start: Path, name: str) -> None:
    model = painters.make(name, folder / name)
    call: dict[str, Any] = {"use_resolution_binning": False, "intermediate_timesteps": None}
    call = call if name == "sana_sprint" else {}
    settings: dict[str, Any] = {"steps": 4, "guidance_scale": 0.0, "call": call, **SMALL}
    painter = Painter(str(model), start=str(start), strength=0.5, **settings)
    assert type(painter.pipeline).__name__ == CLASSES[name]
    (first, other), again = painter.draw_batch(["rain", "a dog"], [3, 4]), painter.draw("rain", 3)
    assert np.abs(pixels(first.image) - pixels(again.image)).max() <= 1
    assert np.abs(pixels(other.image) - pixels(again.image)).max() > 5
    without = Painter(str(model), **settings).draw("rain", 3)
    assert np.abs(pixels(without.image) - pixels(again.image)).max() > 5

    kind = getattr(diffusers, CLASSES[name])
    pipeline = kind.from_pipe(DiffusionPipeline.from_pretrained(model))
    pipeline.set_progress_bar_config(disable=True)
    sizes = {} if name in ("stable_diffusion", "sdxl_turbo") else {"width": painters.SIDE, "height": painters.SIDE}
    by_hand = pipeline(
        prompt="rain",
        image=Image.open(start).convert("RGB"),
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(3),
        **sizes,
        **call,
    )
    assert np.abs(pixels(by_hand.images[0]) - pixels(again.image)).max() == 0


def test_a_model_that_goes_by_a_picture(folder: Path, start: Path) -> None:
    model = str(painters.make("flux2_klein", folder / "flux2_klein"))
    large = SMALL | {"width": 64, "height": 64}  # it takes no smaller ones
    painter = Painter(model, steps=1, guidance_scale=1.0, start=str(start), **large)
    (first, _), again = painter.draw_batch(["rain", "a dog"], [3, 4]), painter.draw("rain", 3)
    assert np.abs(pixels(first.image) - pixels(again.image)).max() <= 1
    without = Painter(model, steps=1, guidance_scale=1.0, **large).draw("rain", 3)
    assert np.abs(pixels(without.image) - pixels(again.image)).max() > 0
    with pytest.raises(ValueError, match=r"got strength=0.5; expected none: Flux2KleinPipeline takes the picture as"):
        Painter(model, steps=4, start=str(start), strength=0.5, **SMALL)


def test_the_more_strength_the_less_is_left_of_the_picture(painter_folder: Path, start: Path) -> None:
    far = []
    for strength in (0.1, 0.5, 1.0):
        painter = Painter(
            str(painter_folder), steps=10, guidance_scale=1.0, start=str(start), strength=strength, **SMALL
        )
        far.append(painter.pipeline.get_timesteps(10, strength, "cpu")[1])
        assert painter.draw("rain").image.size == (painters.SIDE, painters.SIDE)
    assert far == [1, 5, 10]


def test_a_picture_is_cut_to_what_is_drawn(painter_folder: Path, tmp_path: Path) -> None:
    values = np.zeros((20, 100, 4), np.uint8)  # transparent
    values[:, 40:60] = (10, 200, 10, 255)
    Image.fromarray(values).save(tmp_path / "wide.png")
    assert np.unique(pixels(read(tmp_path / "wide.png"))[:, 0]).tolist() == [255]
    painter = Painter(str(painter_folder), steps=2, start=str(tmp_path / "wide.png"), device="cpu")
    assert painter._begin is not None
    assert painter._begin.size == (32, 32)  # the model's own
    assert pixels(painter._begin)[16, 16].tolist() == [10, 200, 10]
    assert painter.draw("rain").image.size == (32, 32)
    turned = Image.new("RGB", (10, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read(tmp_path / "turned.jpg").size == (30, 10)


def test_what_is_wrong_is_said(painter_folder: Path, start: Path, tmp_path: Path) -> None:
    model = str(painter_folder)
    with pytest.raises(FileNotFoundError, match=r"got start=gone.png, which is no file; expected a picture"):
        Painter(model, start="gone.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text.png, which can't be read as a picture"):
        Painter(model, start=str(tmp_path / "text.png"))
    for bad in (0, 1.5, -0.1, True, "much"):
        with pytest.raises(ValueError, match=r"got strength=.*; expected a number above 0"):
            Painter(model, start=str(start), strength=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got strength=0.5 without start=FILE"):
        Painter(model, strength=0.5)
    with pytest.raises(
        ValueError, match=r"got strength=0.3 with steps=2, of which that leaves none; expected .* least 4"
    ):
        Painter(model, start=str(start), strength=0.3, steps=2)
    with pytest.raises(ValueError, match=r"got strength=0.6 with steps=1"):
        Painter(model, start=str(start), steps=1)
