"""The house's rules, read from the code itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import a2i

ROOT = Path(a2i.__file__).parent
# What flows, in its order; a module may import from those before it.
ORDER = [
    "paths",
    "extras",
    "errors",
    "hub",
    "licences",
    "plugins",
    "names",
    "machine",
    "bounds",
    "trials",
    "whole",
    "locks",
    "lettering",
    "audio",
    "features",
    "captioner",
    "image_settings",
    "schedulers",
    "memory",
    "start_picture",
    "lora",
    "diffusion",
    "models",
    "metrics",
    "rerank",
    "report",
    "tracking",
    "data",
    "fitting",
    "compose",
    "explain",
    "command_line",
    "completion",
    "result",
    "file_names",
    "results",
    "pipeline",
    "loading",
    "grid",
    "rows",
    "work",
    "workers",
    "parts",
    "on_ray",
    "storyboard",
    "training",
    "prepare",
    "model_card",
    "export",
    "doctor",
    "resuming",
    "sweep",
    "train",
    "evaluate",
    "infer",
    "listen",
    "app",
    "__main__",
]
# Rooms that know nothing of others but these.
ONLY: dict[str, set[str]] = {
    "paths": set(),
    "extras": set(),
    "errors": set(),
    "hub": {"errors"},
    "licences": set(),
    "plugins": {"errors", "paths"},
    "names": {"errors", "plugins"},
    "machine": set(),
    "trials": {"bounds"},
    "bounds": set(),
    "whole": set(),
    "locks": set(),
    "lettering": set(),
    "audio": {"errors"},
    "features": {"bounds", "machine"},
    "captioner": {"audio", "bounds", "errors", "features", "hub", "machine", "plugins", "whole"},
    "image_settings": {"names", "plugins"},
    "schedulers": {"errors"},
    "memory": set(),
    "start_picture": {"errors"},
    "lora": {"hub"},
    "diffusion": {
        "errors",
        "hub",
        "image_settings",
        "lora",
        "machine",
        "memory",
        "paths",
        "schedulers",
        "start_picture",
    },
    "models": {"captioner", "diffusion", "hub", "image_settings", "names", "paths", "plugins"},
    "metrics": {"audio", "captioner", "hub", "plugins", "whole"},  # audio: of pictures; captioner: what a word is
    "rerank": {"captioner", "metrics"},
    "report": {"audio", "features", "metrics", "whole"},  # metrics: their labels
    "tracking": {"audio", "features", "report"},
    # captioner: what a word is
    "data": {"audio", "captioner", "errors", "features", "hub", "locks", "machine", "whole"},
    "file_names": {"audio"},
    "results": {"audio", "file_names", "machine"},
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Everything that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_way(path: Path) -> None:
    own = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("a2i.")}
    rooms = {name for name in rooms if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()} - {own}
    later = {name for name in rooms if ORDER.index(name) > ORDER.index(own)}
    assert not later, f"{own} imports what comes after it in the flow: {later}"
    assert rooms <= ONLY.get(own, set(ORDER)), f"{own} imports {rooms - ONLY[own]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lightning_behind_one_door(path: Path) -> None:
    if room(path) not in ("training", "train"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("lightning", "pytorch_lightning")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hydra_stops_at_the_entry_points(path: Path) -> None:
    known = {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}
    if room(path) not in (
        "compose",
        "explain",
        "command_line",
        "completion",
        "resuming",
        "sweep",
        "train",
        "evaluate",
        "infer",
        "listen",
        "prepare",
        "export",
        "app",
    ):
        assert known <= (
            {"omegaconf"} if room(path) == "names" else set()
        )  # names: reads what a choice's file refers to


def test_using_a_captioner_loads_no_lightning() -> None:
    code = (
        "import importlib, sys\n"
        "for module in ('diffusion', 'pipeline', 'evaluate', 'infer'):\n"
        "    importlib.import_module(f'a2i.{module}')\n"
        "    print(module, {'lightning', 'pytorch_lightning'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} set()" for module in ("diffusion", "pipeline", "evaluate", "infer")]


def test_no_room_for_leftovers() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "common", "helpers", "misc")]


def test_a_name_is_imported_from_where_it_is_made() -> None:
    """Else asking for a small thing imports all that the file on the way needs. A package's own names are another matter."""
    for path in [path for path in FILES if path.name != "__init__.py"]:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = [alias for node in tree if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert not [alias.name for alias in names if alias.asname == alias.name], f"{path} hands names on"
