import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDIMScheduler, DiffusionPipeline

from a2i.diffusion import Painter


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


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
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
    with pytest.raises(ValueError, match=r"got scheduler=PNDMScheduler; expected null .* UniPCMultistep"):
        Painter(str(tmp_path), scheduler="PNDMScheduler")


def test_without_a_scheduler_the_models_own_stays(painter: Painter, painter_folder: Path) -> None:
    own = painter.pipeline.scheduler
    again = Painter(str(painter_folder), steps=2, scheduler=type(own).__name__, device="cpu")
    assert again.pipeline.scheduler.config == own.config
    for painted in (painter, again):
        assert type(painted.pipeline.scheduler) is DDIMScheduler
    with pytest.raises(ValueError, match=r"got scheduler=DPM; expected null .* DPMSolverMultistepScheduler"):
        Painter(str(painter_folder), scheduler="DPM")


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
    with pytest.raises(ValueError, match="multiple of 8"):
        Painter(str(painter_folder), width=100)
    with pytest.raises(ValueError, match=r"no model_index\.json there"):
        Painter(str(tmp_path))
    with pytest.raises(ValueError, match=r"image=mini needs neither"):
        Painter("nobody/nothing")
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]})
    )
    with pytest.raises(ValueError, match="no picture model to be had"):
        Painter(str(tmp_path))
