"""Schedulers that take a picture model's steps in place of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler

from a2i.diffusion import Painter
from a2i.schedulers import exchanged

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers with numpy 2


@pytest.fixture(scope="module")
def painter(painter_folder: Path) -> Painter:
    return Painter(str(painter_folder), steps=2, device="cpu")


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


def offered(own: Any, steps: int) -> list[str]:
    """What the error's message offers."""
    with pytest.raises(ValueError, match="got scheduler=DPM with") as caught:
        exchanged(own, "DPM", steps)
    return str(caught.value).rsplit(": ", 1)[1].split(", ")


@pytest.mark.long
def test_every_scheduler_that_is_offered_draws_with_the_embedded_model() -> None:
    """Pictures close to that of the model's own, in few steps and in more."""
    embedded = Painter("embedded", guidance_scale=3.0, device="cpu")
    own = embedded.pipeline.scheduler
    for steps, most in ((4, 20.0), (8, 12.0)):
        names = offered(own, steps)
        assert len(names) >= 5
        embedded.steps = steps
        pictures = {}
        for name in (type(own).__name__, *names):
            embedded.pipeline.scheduler = exchanged(own, name, steps)
            pictures[name] = np.asarray(embedded.draw("A dog barks.", seed=1).image, float)
        for name, found in pictures.items():
            assert np.abs(found - pictures[type(own).__name__]).mean() < most, name


@pytest.mark.long
@pytest.mark.parametrize(
    ("trained", "steps"),
    [
        ({}, 1),
        ({}, 5),
        ({"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 5),
        ({"prediction_type": "sample"}, 5),
        ({"beta_schedule": "squaredcos_cap_v2"}, 5),
    ],
    ids=["epsilon, one step", "epsilon", "v", "sample", "cosine"],
)
def test_every_scheduler_that_is_offered_draws(
    painter_folder: Path, trained: dict[str, str], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several pictures at once, whatever the model was trained with; what can't is refused when it is loaded."""
    painter = Painter(str(painter_folder), steps=steps, device="cpu")
    own = DDIMScheduler.from_config(painter.pipeline.scheduler.config, **trained)
    names = offered(own, steps)
    assert "DPMSolverMultistepScheduler" in names
    for name in names:
        painter.pipeline.scheduler = exchanged(own, name, steps)
        drawings = painter.draw_batch(["rain", "a dog"], [1, 2])
        assert all(np.asarray(drawing.image).std() > 5 for drawing in drawings)
    others = {each.__name__ for each in own.compatibles} - {*names, "DDIMScheduler"}
    if steps == 1:
        assert "PNDMScheduler" in others  # its first steps are four
    monkeypatch.setattr("a2i.schedulers._draws", lambda *_: True)  # what else is offered takes a second to find out
    for name in others:
        with pytest.raises(ValueError, match=f"got scheduler={name} with steps={steps}: .*; expected null"):
            exchanged(own, name, steps)


@pytest.mark.long
def test_what_a_model_is_distilled_for_is_taken_and_not_offered(painter_folder: Path) -> None:
    own = DDIMScheduler(beta_schedule="scaled_linear")
    for name in ("LCMScheduler", "TCDScheduler"):
        assert name not in offered(own, 4)
        painter = Painter(str(painter_folder), steps=4, scheduler=name, device="cpu")
        assert type(painter.pipeline.scheduler).__name__ == name
        assert np.asarray(painter.draw("rain").image).std() > 5
    with pytest.raises(ValueError, match="got scheduler=LCMScheduler with steps=51: it can't take these steps"):
        exchanged(own, "LCMScheduler", 51)


def test_a_model_whose_scheduler_can_not_be_exchanged() -> None:
    own = FlowMatchEulerDiscreteScheduler()
    assert exchanged(own, "FlowMatchEulerDiscreteScheduler", 4) is own
    with pytest.raises(
        ValueError, match=r"expected null for the model's own, FlowMatch.*, the only one that draws with"
    ):
        exchanged(own, "LCMScheduler", 4)
