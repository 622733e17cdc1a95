"""What the Tab key offers after `a2i`, asked as bash asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from a2i.__main__ import PROGRAMS
from a2i.completion import settings
from a2i.plugins import choices

# Of one line after the other, what bash would complete the last word with.
ASK = r"""
eval "$(register-python-argcomplete a2i)"
COMP_TYPE=9 COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE} COMPREPLY=()
    _python_argcomplete a2i
    (IFS='|'; echo "${COMPREPLY[*]}")
done
"""


def asked(folder: Path, *lines: str) -> list[set[str]]:
    """What bash offers for each line, in a folder, where a program `a2i` is."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "a2i").write_text(f'#!/bin/sh\nexec {sys.executable} -m a2i "$@"\n')
    (programs / "a2i").chmod(0o755)
    path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", ASK], cwd=folder, input="\n".join([*lines, ""]), env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [set(line.strip().split("|")) - {""} for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_programs_settings_values_files_and_options(tmp_path: Path) -> None:
    (tmp_path / "my sounds").mkdir()
    (tmp_path / "train.wav").touch()
    answers = asked(
        tmp_path,
        "a2i tr",
        "a2i train -m experiment=mi",
        "a2i dog.wav -o pictures my",
        "a2i dog.wav --im",
    )
    assert answers == [{"train", "train.wav"}, {"mini"}, {"my\\ sounds/"}, {"--image"}]


def test_the_keys_and_groups_of_a_program() -> None:
    assert settings("train", "exp") == ["experiment=", "experiment/"]
    assert settings("train", "model/enc") == ["model/encoder="]
    assert settings("train", "data.ro", ["data=folder"]) == ["data.root="]
    assert settings("train", "data.ro", ["data=world"]) == []
    assert settings("infer", "experiment") == [], "a group that infer does not choose from"
    assert "out=" in settings("infer", "")


def test_the_values_that_a_setting_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert settings("infer", "style=") == [f"style={name}" for name in choices("style")]
    assert settings("infer", "captioner=r") == ["captioner=runs/"]
    assert settings("train", "data.root=", ["data=folder"]) == ["data.root=runs/"]
    assert settings("train", "trainer.max_epochs=") == ["trainer.max_epochs=50"]
    assert settings("train", "trainer.max_epochs=7") == []


def test_what_does_not_compose_yet_offers_nothing_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert settings("train", "se", ["experiment=none_such"]) == []
    assert settings("train", "se", ["plugins=none_such"]) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_every_program_with_settings_completes_them() -> None:
    for program in set(PROGRAMS) - {"doctor"}:
        assert settings(program, ""), program
