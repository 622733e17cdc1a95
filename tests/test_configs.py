"""Every configuration composes, and every experiment is its difference and no more."""

from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from a2i.command_line import arguments as use_names
from a2i.compose import ALLOWED, plain
from a2i.paths import CONF

CHOICES = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in sorted(CONF.glob("*/**/*.yaml"))
    if path.parent.name not in ("image", "decoding", "captioner")
]


def compose(name: str, *overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra.compose(name, use_names(overrides, name)))  # type: ignore[no-any-return]


def targets(values: Any) -> list[str]:
    if isinstance(values, dict):
        own = [values["_target_"]] if "_target_" in values else []
        return own + [target for value in values.values() for target in targets(value)]
    return [target for value in values for target in targets(value)] if isinstance(values, list) else []


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_names_what_exists(choice: str) -> None:
    more = ["data.root=somewhere"] if choice == "data=folder" else []
    config = compose("train", choice, *more)
    for target in targets(config):
        assert target.startswith(ALLOWED)
        module, _, name = target.rpartition(".")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("image", sorted(path.stem for path in (CONF / "image").glob("*.yaml")))
def test_every_picture_model_has_the_painters_arguments(image: str) -> None:
    import inspect

    from a2i.diffusion import Painter

    settings = yaml.safe_load((CONF / "image" / f"{image}.yaml").read_text())
    if settings:
        arguments = set(inspect.signature(Painter).parameters) - {"device", "dtype"}
        assert set(settings) == arguments | {"_target_"}


def test_an_audio_language_model_has_the_captioners_arguments() -> None:
    import inspect

    from a2i.captioner.audio_language import AudioLanguageCaptioner

    arguments = set(inspect.signature(AudioLanguageCaptioner).parameters) - {"device"}
    for entry in ("infer", "evaluate"):
        config = compose(entry, "captioner=qwen2_audio", "captioner.dtype=float16")
        assert set(config["captioner"]) == arguments | {"_target_"}
        assert config["captioner"]["dtype"] == "float16"


@pytest.mark.parametrize("entry", ["evaluate", "infer", "prepare"])
def test_every_entry_point_composes(entry: str) -> None:
    assert compose(entry)


def test_the_published_recipe() -> None:
    config = compose("train", "experiment=ast_gpt2")
    assert config["training"]["optimizer"] == {"_target_": "torch.optim.Adam", "lr": 5e-5}
    assert config["trainer"]["max_epochs"] == 50
    assert config["loader"]["batch_size"] == 8
    assert config["loader"]["captions"] == "first"
    assert config["training"]["label_smoothing"] == 0
    assert config["model"]["encoder"]["pretrained"] == "MIT/ast-finetuned-audioset-10-10-0.4593"
    assert config["model"]["decoder"]["pretrained"] == "openai-community/gpt2"


def test_an_experiment_changes_nothing_twice() -> None:
    """A line in an experiment that says what the defaults say already would hide what the experiment is about."""
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        assert path.read_text().startswith("# @package _global_\n"), path
        assert len(path.read_text().splitlines()) < 45, path


def test_configuration_files_are_small() -> None:
    for path in CONF.rglob("*.yaml"):
        assert len(Path(path).read_text().splitlines()) < 90, path
