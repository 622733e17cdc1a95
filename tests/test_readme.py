"""The README's commands are real: they are read from it and held against the code."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import hydra

import a2i
from a2i.command_line import arguments
from a2i.places import CONF

ROOT = Path(a2i.__file__).parents[1]
README = ROOT / "README.md"


def commands() -> list[list[str]]:
    """Every command line in the README's shell blocks, continued lines joined."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(make|python|pip|git|wandb) ", line)]


def test_it_is_short_and_names_the_two_commands() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    assert ["make", "demo"] in commands()
    assert ["make", "test"] in commands()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands():
        if command[0] == "make":
            assert re.search(rf"^{command[1]}:", makefile, flags=re.MULTILINE), command


def test_every_entry_point_composes_as_written() -> None:
    called = [command for command in commands() if command[:2] == ["python", "-m"] and command[2].startswith("a2i.")]
    assert {command[2] for command in called} >= {"a2i.train", "a2i.evaluate", "a2i.infer", "a2i.prepare"}
    for command in called:
        import_module(command[2])
        name = command[2].removeprefix("a2i.")
        if (CONF / f"{name}.yaml").exists():
            overrides = arguments(command[3:], name, "audio" if name == "infer" else None)
            overrides = [item for item in overrides if not item.startswith("-")]
            if "-m" in command[3:]:
                overrides = [re.sub(r"=([^,\[]+),.*", r"=\1", item) for item in overrides]
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                hydra.compose(name, overrides)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_python_examples_run_as_far_as_names_go() -> None:
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        compile(block, "README.md", "exec")
        for line in block.splitlines():
            if line.startswith("from a2i"):
                module, names = re.match(r"from (\S+) import (.+)", line).groups()  # type: ignore[union-attr]
                for name in names.split(","):
                    assert hasattr(import_module(module), name.strip()), line
