"""Styles, and what of a picture model's settings decides a picture."""

from pathlib import Path

import pytest
import torch

from a2i.image_settings import LATER, WHERE, deciding, is_mini_painter, named_style, styled
from a2i.models import load_painter
from a2i.names import named_settings
from a2i.plugins import choices

INK = {"prompt_template": "ink drawing of {caption}", "negative_prompt": "colour"}
STYLES = ["photo", "watercolour", "ink", "picture_book", "pictogram"]
IMAGES = [name for name in choices("image") if name not in ("none", "folder")]


@pytest.mark.parametrize("name", STYLES)
def test_every_style_has_both_prompts(name: str) -> None:
    style = named_style(name)
    assert set(style) == {"prompt_template", "negative_prompt"}
    assert style["prompt_template"].endswith(": {caption}")  # a sentence, with its full stop
    # CLIP reads 75 tokens beside its own two, and a caption takes about 15 of them.
    assert len(style["prompt_template"].split()) < 20
    assert set(choices("style")) == {*STYLES, "none"}


def test_a_style_is_laid_around_the_models_own_prompts() -> None:
    image = {"model": "a/b", "guidance_scale": 7.5, "prompt_template": "big {caption}", "negative_prompt": "text"}
    found = styled(image, INK)
    assert found == image | {"prompt_template": "ink drawing of big {caption}", "negative_prompt": "colour, text"}
    assert image["prompt_template"] == "big {caption}"
    assert styled({"model": "a/b"}, INK) == {"model": "a/b"} | INK
    assert styled(image, {}) == styled(image, None) == image
    assert styled({}, INK) == styled(None, INK) == {}


@pytest.mark.parametrize("name", IMAGES)
def test_a_model_without_guidance_gets_no_negative_prompt(name: str) -> None:
    image = named_settings("image", name) or {}
    found = styled(image, INK)
    if is_mini_painter(image):
        assert found == image
    else:
        assert found["prompt_template"] == INK["prompt_template"]
        assert found["negative_prompt"] == (INK["negative_prompt"] if image["guidance_scale"] > 1 else None)


def test_a_style_that_does_not_fit() -> None:
    for bad in ({"prompt_template": "no place"}, {"negative_prompt": "x"}, {**INK, "colour": "red"}):
        with pytest.raises(ValueError, match=r"got a style with .*; expected style\.prompt_template with \{caption\}"):
            styled({"model": "a/b"}, bad)
    with pytest.raises(
        ValueError, match=r"got a style with mine.Painter, which has no prompt_template; expected style=none"
    ):
        styled({"_target_": "mine.Painter"}, INK)
    with pytest.raises(ValueError, match=r"got style=inc; expected one of ink, none, photo, pictogram, picture_book"):
        named_style("inc")


def test_a_style_in_python(painter_folder: Path) -> None:
    for style in ("ink", INK):
        painter = load_painter({"model": str(painter_folder), "steps": 1}, torch.device("cpu"), style=style)
        assert painter is not None
        (drawing,) = painter.draw_batch(["Rain falls."], [1])
        assert drawing.prompt == named_style(style)["prompt_template"].replace("{caption}", "Rain falls.")
    with pytest.raises(ValueError, match="got style=ink with a picture model that is loaded already"):
        load_painter(painter, torch.device("cpu"), style="ink")
    mini = load_painter("mini", torch.device("cpu"), style="ink")
    assert mini is not None
    assert mini.prompt_template == "{caption}"  # type: ignore[attr-defined]


def test_settings_that_came_later_count_where_they_change_something(tmp_path: Path) -> None:
    old = {"model": "a/b", "steps": 3}
    assert deciding(old | LATER | dict.fromkeys(WHERE, "model")) == old
    for name in LATER:
        assert deciding(old | LATER | {name: "another"}) == old | {name: "another"}
    found = []
    for content in ("one", "two"):
        for file in (tmp_path / "a.png", tmp_path / "b.png"):
            file.write_text(content)
            found.append(deciding(old | {"start": str(file)})["start"])
    assert found[0] == found[1] != found[2] == found[3]


def test_the_defaults_of_what_came_later_are_those_of_the_painter() -> None:
    import inspect

    from a2i.diffusion import Painter

    takes = inspect.signature(Painter).parameters
    for name, value in LATER.items():
        assert (takes[name].default or {} if name == "call" else takes[name].default) == value
    assert set(WHERE) <= set(takes)
