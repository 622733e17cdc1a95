"""The README's commands are real: they are read from it, and run in its order."""

import os
import re
from importlib import import_module
from pathlib import Path

import pytest
from commands import ROOT, Newcomer, blocks, commands, follow

README = ROOT / "README.md"
HEADINGS = [*dict.fromkeys(heading for heading, _ in blocks(README, "bash|console|python"))]


def test_it_is_short_and_names_the_two_commands() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    assert {"make demo", "make test"} <= {str(command) for command in commands(README)}
    assert {command.entry for command in commands(README)} >= {"train", "evaluate", "infer", "prepare"}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name != "posix", reason="needs make")
@pytest.mark.parametrize("heading", HEADINGS)
def test_its_commands_run_in_its_order(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but for what makes some of them do less; by one who has the sounds of `make demo`."""
    monkeypatch.delenv("A2I_REAL_DATA", raising=False)
    newcomer = Newcomer(tmp_path / "a2i")
    if heading != HEADINGS[0]:
        newcomer.run_here(newcomer.made_by("demo")[0])
    follow(newcomer, README, heading, less=True)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_its_commands_run_as_printed(tmp_path: Path) -> None:
    follow(Newcomer(tmp_path / "a2i"), README)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_place_that_the_glossary_names_is_there() -> None:
    text = (ROOT / "experiments" / "glossary.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:a2i|conf|experiments|tests)/[^`]*)`", text)
    assert len(places) > 40
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_name_of_its_python_exists() -> None:
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        for module, names in re.findall(r"^from (a2i\S*) import (.+)$", block, flags=re.MULTILINE):
            for name in names.split(","):
                assert hasattr(import_module(module), name.strip()), name
