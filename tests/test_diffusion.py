import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import painters
import pytest
import torch
from diffusers import DiffusionPipeline

from a2i.diffusion import Painter
from a2i.models import load_painter
from a2i.names import named_settings

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers with numpy 2


@pytest.fixture(scope="module")
def painter(painter_folder: Path) -> Painter:
    return Painter(str(painter_folder), steps=2, device="cpu")


def test_a_drawing_follows_its_seed_and_caption(painter: Painter) -> None:
    first, again = painter.draw("a dog barks", seed=3), painter.draw("a dog barks", seed=3)
    assert first.image.size == (32, 32)
    assert first.image.mode == "RGB"
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(painter.draw("a dog barks", seed=4).image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(painter.draw("rain", seed=3).image))


def test_settings_reach_the_pipeline(painter_folder: Path) -> None:
    painter = Painter(
        str(painter_folder),
        steps=1,
        width=48,
        height=24,
        prompt_template="a drawing of {caption}",
        negative_prompt="blurred",
    )
    drawing = painter.draw("rain")
    assert drawing.image.size == (48, 24)
    assert drawing.prompt == "a drawing of rain"
    assert drawing.flagged is None
    unguided = Painter(str(painter_folder), steps=1, guidance_scale=1.0).draw("rain")
    guided = Painter(str(painter_folder), steps=1, guidance_scale=9.0).draw("rain")
    assert not np.array_equal(np.asarray(unguided.image), np.asarray(guided.image))


def test_the_safety_checkers_verdict_is_reported(painter_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(vision_config=vision, text_config=small, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(-2.0)  # no picture is that unlike a concept: everything is flagged
    pipeline = StableDiffusionPipeline.from_pretrained(painter_folder)
    pipeline.register_modules(
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )
    pipeline.save_pretrained(tmp_path / "checked")
    drawing = Painter(str(tmp_path / "checked"), steps=1).draw("rain")
    assert drawing.flagged is True
    assert not np.asarray(drawing.image).any()
    assert Painter(str(tmp_path / "checked"), steps=1, safety_checker=False).draw("rain").flagged is None


def test_tokens_that_will_not_be_seen_are_counted(painter: Painter) -> None:
    assert painter.tokens_over("a dog") == 0
    assert painter.tokens_over("a" * 40) == 42 - 24


def test_bad_settings(tmp_path: Path, painter_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"a template with \{caption\}"):
        Painter(str(painter_folder), prompt_template="a dog")
    for bad in (100, 16.0, True, 0, -8):
        with pytest.raises(ValueError, match="multiple of 8"):
            Painter(str(painter_folder), width=bad)  # type: ignore[arg-type]
    for bad in (0, 2.5, True, math.nan, 10**6, "8"):
        with pytest.raises(ValueError, match=r"got steps=.*; expected a whole number from 1 to 1,000"):
            Painter(str(painter_folder), steps=bad)  # type: ignore[arg-type]
    for bad in (math.nan, math.inf, -1.0, True, "7"):
        with pytest.raises(ValueError, match=r"got guidance_scale=.*; expected a number from 0"):
            Painter(str(painter_folder), guidance_scale=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no model_index\.json there"):
        Painter(str(tmp_path))
    with pytest.raises(ValueError, match=r"image=mini needs neither"):
        Painter("nobody/nothing")
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]})
    )
    with pytest.raises(ValueError, match="could not load a picture model"):
        Painter(str(tmp_path))


NAMES = sorted(painters.MAKERS)
SMALL = {"width": painters.SIDE, "height": painters.SIDE, "steps": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Settings of a configuration, whose model is one of its class with tiny random weights on disk."""
    root = tmp_path_factory.mktemp("painters")

    def settings(name: str) -> dict[str, Any]:
        named = named_settings("image", name) or {}
        if not (root / name).exists():
            painters.make(name, root / name, named["variant"])
        if named["lora"]:
            painters.make_lora(root / "lora.safetensors")
            named |= {"lora": str(root / "lora.safetensors"), "lora_revision": None}
        if name == "sana_sprint":  # else it draws a square of 1024 pixels, and makes that small
            named["call"] |= {"use_resolution_binning": False}
        return named | SMALL | {"model": str(root / name), "_target_": "a2i.diffusion.Painter"}

    return settings


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize("name", NAMES)
def test_every_class_draws_as_its_pipeline_does(made: Callable[[str], dict[str, Any]], name: str) -> None:
    settings = made(name)
    painter = load_painter(settings, torch.device("cpu"))
    assert isinstance(painter, Painter)
    (first, other), again = painter.draw_batch(["rain", "a dog"], [3, 4]), painter.draw("rain", 3)
    assert first.image.size == (painters.SIDE, painters.SIDE)
    assert first.prompt == again.prompt == "rain"
    assert np.array_equal(pixels(painter.draw("rain", 3).image), pixels(again.image))
    assert np.abs(pixels(first.image) - pixels(again.image)).max() <= 1
    assert np.abs(pixels(painter.draw("rain", 4).image) - pixels(again.image)).max() > 20
    assert np.abs(pixels(other.image) - pixels(again.image)).max() > 20
    assert painter.remarks == ()

    pipeline = DiffusionPipeline.from_pretrained(settings["model"], variant=settings["variant"])
    if settings["lora"]:
        pipeline.load_lora_weights(settings["lora"], adapter_name="by_hand")
        pipeline.set_adapters(["by_hand"], [settings["lora_scale"]])
    if settings["scheduler"]:
        pipeline.scheduler = getattr(diffusers, settings["scheduler"]).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    by_hand = pipeline(
        prompt="rain",
        num_inference_steps=2,
        guidance_scale=settings["guidance_scale"],
        generator=torch.Generator().manual_seed(3),
        **({"max_sequence_length": 256} if name == "flux_schnell" else {}),
        **({"use_resolution_binning": False} if name == "sana_sprint" else {}),
        width=painters.SIDE,
        height=painters.SIDE,
    )
    assert np.abs(pixels(by_hand.images[0]) - pixels(again.image)).max() <= (1 if settings["lora"] else 0)


def test_further_arguments_of_the_call(made: Callable[[str], dict[str, Any]]) -> None:
    model = made("flux_schnell")["model"]
    plain = Painter(model, **SMALL, device="cpu", negative_prompt="a dog")
    assert not plain.is_guided  # its `guidance_scale` is another thing
    assert "so that image.negative_prompt has no effect" in plain.remarks[0]
    guided = Painter(model, **SMALL, device="cpu", negative_prompt="a dog", call={"true_cfg_scale": 5.0})
    assert guided.is_guided
    assert guided.remarks == ()
    assert np.abs(pixels(plain.draw("rain", 1).image) - pixels(guided.draw("rain", 1).image)).max() > 5
    with pytest.raises(ValueError, match=r"got call.colour; expected what FluxPipeline takes: .*true_cfg_scale"):
        Painter(model, call={"colour": 1})
    with pytest.raises(ValueError, match=r"got call.generator; .*, and what has a setting of its own: prompt,"):
        Painter(model, call={"generator": 1})


def test_what_no_text_model_reads_is_counted(made: Callable[[str], dict[str, Any]]) -> None:
    flux, klein = (load_painter(made(name), torch.device("cpu")) for name in ("flux_schnell", "flux2_klein"))
    assert flux is not None
    assert klein is not None
    assert flux.tokens_over("a" * 200) == 0  # CLIP reads 77 of them, T5 256
    assert flux.tokens_over("a" * 300) == 300 + 2 - 256  # a space before, an end behind
    assert klein.tokens_over("a" * 500) == 0
    assert klein.tokens_over("a" * 520) == 8


def test_a_lora_is_added_as_far_as_asked(made: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    settings = made("sd15_lcm") | {"device": "cpu"}
    settings.pop("_target_")
    drawn = {
        scale: pixels(Painter(**settings | {"lora_scale": scale}).draw("rain", 1).image) for scale in (0.0, 0.5, 1.0)
    }
    without = pixels(Painter(**settings | {"lora": None}).draw("rain", 1).image)
    assert np.array_equal(drawn[0.0], without)
    assert np.abs(drawn[0.5] - without).max() > 0
    assert np.abs(drawn[0.5] - drawn[1.0]).max() > 0
    folder = tmp_path / "loras"
    folder.mkdir()
    painters.make_lora(folder / "one.safetensors")
    assert np.array_equal(pixels(Painter(**settings | {"lora": str(folder)}).draw("rain", 1).image), drawn[1.0])
    painters.make_lora(folder / "two.safetensors")
    with pytest.raises(ValueError, match=r"with one.safetensors, two.safetensors; expected the file's own path"):
        Painter(**settings | {"lora": str(folder)})


def test_a_lora_that_can_not_be_added(
    made: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made("sd15_lcm") | {"device": "cpu"}
    settings.pop("_target_")
    xl = made("sdxl_turbo")["model"]
    (tmp_path / "text.safetensors").write_text("no weights")
    for bad, message in (
        (str(tmp_path / "text.safetensors"), "which StableDiffusionPipeline can't load"),
        (
            str(tmp_path / "gone.safetensors"),
            r"expected a safetensors file, a folder with one, or a Hub id \(OWNER/NAME\)",
        ),
        ("lora", r"expected a safetensors file, a folder with one, or a Hub id \(OWNER/NAME\)"),
        ("nobody/nothing", "got lora=nobody/nothing, which StableDiffusionPipeline can't load"),
    ):
        with pytest.raises(ValueError, match=message):
            Painter(**settings | {"lora": bad})
    with pytest.raises(ValueError, match="for this model"):
        Painter(xl, variant="fp16", lora=settings["lora"])
    for bad_scale in (math.nan, True, "1", 11):
        with pytest.raises(ValueError, match=r"got lora_scale=.*; expected a number from -10 to 10"):
            Painter(**settings | {"lora_scale": bad_scale})
    monkeypatch.setattr("a2i.diffusion.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"peft is not installed, .*: pip install 'a2i\[lora\]'"):
        Painter(**settings)


def test_numbers_are_those_that_model_and_device_want(made: Callable[[str], dict[str, Any]]) -> None:
    unet, transformer = (load_painter(made(name), torch.device("cpu")) for name in ("stable_diffusion", "flux_schnell"))
    for painter, on_cuda in ((unet, torch.float16), (transformer, torch.bfloat16)):
        assert isinstance(painter, Painter)
        assert painter._dtype_on(torch.device("cuda")) == on_cuda
        assert painter._dtype_on(torch.device("cpu")) == torch.float32
    half = load_painter(made("flux_schnell"), torch.device("cpu"), "bfloat16")
    assert isinstance(half, Painter)
    assert half._dtype_on(torch.device("cuda")) == half.pipeline.transformer.dtype == torch.bfloat16
    assert half.draw("rain").image.size == (painters.SIDE, painters.SIDE)


def test_terms_that_are_not_accepted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub.errors import GatedRepoError

    def refused(*_: object, **__: object) -> None:
        raise GatedRepoError(
            "403 Client Error.", response=httpx.Response(403, request=httpx.Request("GET", "http://a"))
        )

    monkeypatch.setattr("a2i.hub.look_up", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    with pytest.raises(ValueError, match=r"^a/b: could not load .*owner has to give access: ask for it at .*hf auth"):
        Painter("a/b", device="cpu")


def test_each_step_is_told_and_an_exception_there_ends_the_drawing(painter_folder: Path) -> None:
    class EnoughError(Exception):
        pass

    steps: list[int] = []

    def enough(step: int) -> None:
        if step == 2:
            raise EnoughError

    painter = Painter(str(painter_folder), steps=3, device="cpu")
    (told,) = painter.draw_batch(["a dog barks."], [0], on_step=steps.append)
    assert steps == [1, 2, 3]
    with pytest.raises(EnoughError):
        painter.draw_batch(["a dog barks."], [0], on_step=enough)
    (again,) = painter.draw_batch(["a dog barks."], [0])  # nothing is left locked
    assert np.array_equal(told.image, again.image)
