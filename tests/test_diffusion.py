import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDIMScheduler, DiffusionPipeline

from a2i.diffusion import Painter, _exchanged

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


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_another_scheduler_keeps_what_the_model_was_trained_with(
    painter_folder: Path, tmp_path: Path, name: str
) -> None:
    trained = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline = DiffusionPipeline.from_pretrained(painter_folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **trained)
    pipeline.save_pretrained(tmp_path)
    exchanged = Painter(str(tmp_path), steps=3, scheduler=name, device="cpu")
    scheduler = exchanged.pipeline.scheduler
    assert type(scheduler).__name__ == name
    assert trained.items() <= dict(scheduler.config).items()
    drawing = exchanged.draw("rain", seed=3)
    assert scheduler.timesteps[0] == 999  # trailing: the first step is that without signal
    assert scheduler.alphas_cumprod[-1] < 1e-6
    own = Painter(str(tmp_path), steps=3, device="cpu").draw("rain", seed=3)
    assert not np.array_equal(np.asarray(drawing.image), np.asarray(own.image))
    # PNDM keeps `rescale_betas_zero_snr` in its config and does not heed it.
    with pytest.raises(
        ValueError, match=r"got scheduler=PNDMScheduler with steps=50: .*; expected null .* UniPCMultistep"
    ):
        Painter(str(tmp_path), scheduler="PNDMScheduler")


def test_without_a_scheduler_the_models_own_stays(painter: Painter, painter_folder: Path) -> None:
    own = painter.pipeline.scheduler
    again = Painter(str(painter_folder), steps=2, scheduler=type(own).__name__, device="cpu")
    assert again.pipeline.scheduler.config == own.config
    for painted in (painter, again):
        assert type(painted.pipeline.scheduler) is DDIMScheduler
    with pytest.raises(ValueError, match=r"got scheduler=DPM with .*; expected null .* DPMSolverMultistepScheduler"):
        Painter(str(painter_folder), scheduler="DPM")


def offered(painter: Callable[..., Painter], steps: int) -> list[str]:
    """What the error's message offers."""
    with pytest.raises(ValueError, match="got scheduler=DPM with") as caught:
        painter(scheduler="DPM", steps=steps)
    return str(caught.value).rsplit(": ", 1)[1].split(", ")


def test_every_scheduler_that_is_offered_draws_with_the_embedded_model() -> None:
    """Pictures close to that of the model's own, in few steps and in more."""
    embedded = partial(Painter, "embedded", guidance_scale=3.0, device="cpu")
    for steps, most in ((4, 20.0), (8, 12.0)):
        own = np.asarray(embedded(steps=steps).draw("A dog barks.", seed=1).image, float)
        names = offered(embedded, steps)
        assert len(names) >= 5
        for name in names:
            found = np.asarray(embedded(steps=steps, scheduler=name).draw("A dog barks.", seed=1).image, float)
            assert np.abs(found - own).mean() < most, name


@pytest.mark.parametrize(
    "trained",
    [
        {},
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"prediction_type": "sample"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
    ids=["epsilon", "v", "sample", "cosine"],
)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_every_scheduler_that_is_offered_draws(
    painter_folder: Path, tmp_path: Path, trained: dict[str, str], steps: int
) -> None:
    """Several pictures at once, whatever the model was trained with; what can't is refused when it is loaded."""
    pipeline = DiffusionPipeline.from_pretrained(painter_folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **trained)
    pipeline.save_pretrained(tmp_path)
    small = partial(Painter, str(tmp_path), device="cpu")
    names = offered(small, steps)
    assert "DPMSolverMultistepScheduler" in names
    painter = small(steps=steps)
    own = painter.pipeline.scheduler
    for name in names:
        painter.pipeline.scheduler = _exchanged(own, name, steps)
        drawings = painter.draw_batch(["rain", "a dog"], [1, 2])
        assert all(np.asarray(drawing.image).std() > 5 for drawing in drawings)
    others = {each.__name__ for each in own.compatibles} - {*names, "DDIMScheduler"}
    if steps == 1:
        assert "PNDMScheduler" in others  # its first steps are four
    for name in others:
        with pytest.raises(ValueError, match=f"got scheduler={name} with steps={steps}: .*; expected null"):
            small(steps=steps, scheduler=name)


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
