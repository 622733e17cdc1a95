"""Every configuration composes and builds, and every experiment is its difference and no more."""

from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from a2i.command_line import arguments as use_names
from a2i.compose import ALLOWED, build, check_targets, plain
from a2i.evaluate.settings import check
from a2i.explain import RENAMED
from a2i.paths import CONF
from a2i.plugins import choices
from a2i.training.loggers import logger_settings

ENTRIES = sorted(path.stem for path in CONF.glob("*.yaml"))
MODELS = choices("model")
EXPERIMENTS = [*choices("experiment"), *(f"study/{name}" for name in choices("experiment/study"))]
# What has to be given with a choice that leaves it open.
WITHOUT_DEFAULT = {
    "data=folder": ("data.root=somewhere",),
    "data=shards": ("data.root=somewhere",),
    "data=huggingface": ("data.name=somewhere",),
    "image=folder": ("image.model=somewhere",),
    "captioner=folder": ("captioner.folder=somewhere",),
    "model=default": ("model/encoder=cnn_mini", "model/decoder=gru_mini"),
}
NO_GPU = ("trainer=gpu", "trainer=ddp", "trainer=fsdp")  # are not built here


def group_choice(path: Path) -> tuple[str, str]:
    """The group and the choice that a file is on the command line: a study is an experiment."""
    group, choice = path.parent.relative_to(CONF).as_posix(), path.stem
    return ("experiment", f"study/{choice}") if group == "experiment/study" else (group, choice)


CHOICES = [group_choice(path) for path in sorted(CONF.glob("*/**/*.yaml"))]


def entry_of(group: str) -> str:
    """An entry point that chooses from a group."""
    for entry in ("train", "evaluate", *ENTRIES):
        for line in yaml.safe_load((CONF / f"{entry}.yaml").read_text())["defaults"]:
            if isinstance(line, dict) and group.split("/")[0] in line:
                return entry
    raise ValueError(f"no entry point chooses from {group}")


def compose(name: str, *overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra.compose(name, use_names(overrides, name)))  # type: ignore[no-any-return]


def targets(values: Any) -> list[str]:
    if isinstance(values, dict):
        own = [values["_target_"]] if "_target_" in values else []
        return own + [target for value in values.values() for target in targets(value)]
    return [target for value in values for target in targets(value)] if isinstance(values, list) else []


@pytest.mark.long
@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_what_it_names_is_there(group: str, choice: str, tmp_path: Path) -> None:
    """What is heavy or wants a GPU is not built: painters, audio-language models; models are built in test_choices.py."""
    chosen = f"{group}={choice}"
    config = compose(entry_of(group), chosen, *WITHOUT_DEFAULT.get(chosen, ()))
    for target in targets(config):
        assert target.startswith(ALLOWED)
        module, _, name = target.rpartition(".")
        assert callable(getattr(import_module(module), name))
    if group == "captioner":  # a folder is loaded, not built
        check(config | {"out": str(tmp_path)})
    else:
        check_targets(config)
    if group == "data":
        assert build(config["data"])
    elif group == "trainer" and chosen not in NO_GPU:
        assert build(config["trainer"], logger=False)
    elif group == "logger":
        assert len([build(values) for values in logger_settings(config["logger"], tmp_path)]) == len(config["logger"])
    for section in ("loader", "training") if group == "experiment" else ():
        augment = config[section]["augment"]
        assert augment is None or build(augment)


def test_an_old_name_builds_nothing_else() -> None:
    for group, names in RENAMED.items():
        for old, new in names.items():
            assert old not in choices(group)
            assert (CONF / group / f"{new}.yaml").is_file()


@pytest.mark.parametrize("image", sorted(path.stem for path in (CONF / "image").glob("*.yaml")))
def test_every_picture_model_has_the_painters_arguments(image: str) -> None:
    import inspect

    from a2i.diffusion import Painter

    settings = yaml.safe_load((CONF / "image" / f"{image}.yaml").read_text())
    if settings:
        arguments = set(inspect.signature(Painter).parameters) - {"device"}
        assert set(settings) == arguments | {"_target_"}


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in (CONF / "captioner").glob("*.yaml")} - {"folder", "mini"})
)
def test_a_captioner_of_others_has_its_class_arguments(name: str) -> None:
    import inspect

    from a2i.captioner.audio_language import AudioLanguageCaptioner
    from a2i.captioner.whisper import WhisperCaptioner

    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (AudioLanguageCaptioner, WhisperCaptioner)}
    for entry in ("infer", "evaluate"):
        config = compose(entry, f"captioner={name}", "captioner.dtype=float16")["captioner"]
        arguments = set(inspect.signature(kinds[config["_target_"]]).parameters) - {"device"}
        assert set(config) == arguments | {"_target_"}
        assert config["dtype"] == "float16"


@pytest.mark.parametrize("entry", ENTRIES)
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


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration, in a folder where a test may change it."""
    return copytree(CONF, tmp_path_factory.mktemp("conf") / "conf")


def leaves(values: Any, *path: str) -> list[tuple[str, ...]]:
    if isinstance(values, dict) and values:
        return [leaf for name, value in values.items() for leaf in leaves(value, *path, name)]
    return [path]


def value_at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return "nothing"
        values = values[name]
    return values


@pytest.mark.parametrize("model", [model for model in MODELS if model != "default"])
def test_every_line_of_a_model_changes_something(conf: Path, model: str) -> None:
    file = conf / "model" / f"{model}.yaml"
    text = file.read_text()
    lines = yaml.safe_load(text)
    defaults = lines.pop("defaults")

    def composed(lines: dict[str, Any]) -> Any:
        file.write_text(yaml.safe_dump({"defaults": defaults, **lines}))
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            return OmegaConf.to_container(hydra.compose("train", [f"model={model}"]).model, resolve=False)

    try:
        whole, bare = composed(lines), composed({})
        repeated = [".".join(leaf) for leaf in leaves(lines) if leaf and value_at(whole, leaf) == value_at(bare, leaf)]
        assert not repeated, f"{model} repeats what it would have without them: {', '.join(repeated)}"
    finally:
        file.write_text(text)


@pytest.mark.long
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_line_of_an_experiment_changes_something(conf: Path, experiment: str) -> None:
    """A line that says what the run would have without it hides what the experiment is about."""
    file = conf / "experiment" / f"{experiment}.yaml"
    text = file.read_text()
    assert text.startswith("# @package _global_\n")
    lines = yaml.safe_load(text)
    defaults = lines.pop("defaults", [])

    def composed(defaults: list[Any], lines: dict[str, Any]) -> Any:
        file.write_text("# @package _global_\n" + yaml.safe_dump({"defaults": [*defaults, "_self_"], **lines}))
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            return OmegaConf.to_container(hydra.compose("train", [f"experiment={experiment}"]), resolve=True)

    try:
        whole, bare = composed(defaults, lines), composed(defaults, {})
        repeated = [".".join(leaf) for leaf in leaves(lines) if value_at(whole, leaf) == value_at(bare, leaf)]
        assert not repeated, f"{experiment} repeats what it would have without them: {', '.join(repeated)}"
        # A line without `override` names the experiment that this one is the difference from.
        for line in [line for line in defaults if isinstance(line, dict)]:
            others = [other for other in defaults if other != line]
            assert composed(others, lines) != whole, f"{experiment}: {line} changes nothing"
    finally:
        file.write_text(text)


def test_configuration_files_are_small() -> None:
    for path in CONF.rglob("*.yaml"):
        assert len(Path(path).read_text().splitlines()) < 90, path
