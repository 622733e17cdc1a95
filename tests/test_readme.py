"""The README's commands are real: they are read from it, and run in its order."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import programs
import pytest

import a2i
from a2i.__main__ import PROGRAMS

ROOT = Path(a2i.__file__).parents[1]
README = ROOT / "README.md"
# What a command asks for that an offline machine lacks, and what it then says.
LACKING = {
    "captioner=whisper_tiny": "could not load a Whisper",
    "captioner=OWNER/NAME": "OWNER/NAME: ",
    "experiment=ast_gpt2": "clotho",
    "experiment=ast_gpt2_as_published": "clotho",
    "experiment=act": "clotho",
    "experiment=gru": "clotho",
}
# Added to what would take long: the command is the one that is printed, and does less of the same.
LESS = {
    "train": [
        *("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.limit_train_batches=2"),
        *("trainer.limit_val_batches=1", "trainer.num_sanity_val_steps=0", "training.metrics=[rouge_l]"),
        *("loader.num_workers=0", "loader.batch_size=2", "table_clips=1", "bertscore=null"),
    ],
    "train with made sounds": ["data.n_train=8", "data.n_val=2", "data.n_test=2", "data.max_seconds=5.5"],
    "train resumed": ["trainer.max_epochs=2"],
    "evaluate": ["data.n_train=8", "data.n_val=2", "data.n_test=2", "data.max_seconds=5.5", "metrics=[rouge_l]"],
    "prepare": ["data.n_train=8", "data.n_val=2", "data.n_test=2", "data.max_seconds=5.5", "workers=0"],
}


@dataclass(frozen=True)
class Command:
    """A command line of the README, in its words, with what the README shows as its output and the heading it is under."""

    words: tuple[str, ...]
    shown: tuple[str, ...]
    heading: str

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def entry(self) -> str:
        if self.words[0] == "a2i":
            return self.words[1] if self.words[1] in PROGRAMS else "infer"
        return self.words[2].removeprefix("a2i.") if self.words[:2] == ("python", "-m") else ""

    @property
    def lacking(self) -> str | None:
        """What it says on a machine without network, GPU and recordings; None where it needs none of them."""
        found = [said for asked, said in LACKING.items() if asked in self.words]
        return found[0] if found and not {"data=folder", "data=foley"} & set(self.words) else None

    def less(self) -> list[str]:
        words = list(LESS.get(self.entry, ()))
        if self.entry == "train" and "data=folder" not in self.words and not self.lacking:
            words += LESS["train with made sounds"]
        if any(word.startswith("resume=") for word in self.words):
            words = list(LESS["train resumed"])
        own = {word.partition("=")[0] for word in words}
        return [word for word in self.words if word.partition("=")[0] not in own] + words


def commands() -> list[Command]:
    """Every command line in the README's shell blocks, continued lines joined, in their order."""
    found: list[Command] = []
    for heading, block in blocks("bash|console"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(make|python|a2i|pip|git|wandb|torchrun) ", line):
                found.append(Command(tuple(shlex.split(line.removeprefix("$ "), comments=True)), (), heading))
            elif found:
                found[-1] = replace(found[-1], shown=(*found[-1].shown, line))
    return found


def blocks(language: str) -> list[tuple[str, str]]:
    """The README's blocks in a language, each after the heading it is under."""
    pattern = rf"^## (.+?)$|```(?:{language})\n(.*?)```"
    heading, found = "", []
    for match in re.finditer(pattern, README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        heading = match[1] or heading
        found += [(heading, match[2])] if match[2] else []
    return found


HEADINGS = [*dict.fromkeys(heading for heading, _ in blocks("bash|console|python"))]


def test_it_is_short_and_names_the_two_commands() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    assert {"make demo", "make test"} <= {str(command) for command in commands()}
    assert {command.entry for command in commands()} >= {"train", "evaluate", "infer", "prepare"}


class Newcomer:
    """Somebody in a checkout of their own, offline, whose environment has nothing set up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("a2i", "conf", "experiments", "Makefile"):
            (folder / name).symlink_to(ROOT / name)
        bare = {
            name: os.environ[name] for name in ("HOME", "PATH", "SYSTEMROOT", "A2I_REAL_DATA") if name in os.environ
        }
        # HF_HUB_OFFLINE: without a network every request would be tried five times before it is given up.
        self.environment = {**bare, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}

    def run(self, words: list[str]) -> "subprocess.CompletedProcess[str]":
        if words[0] == "make":
            done = [self.run(line) for line in self.made_by(words[1])]
            failed = [one for one in done if one.returncode]
            return failed[0] if failed else done[-1]
        programs_here = {"python": [sys.executable], "a2i": [sys.executable, "-m", "a2i"]}
        command = [*programs_here.get(words[0], words[:1]), *words[1:]]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=3_600
        )

    def made_by(self, target: str) -> list[list[str]]:
        """What `make` would run, with the Python that tests, where everything is installed already."""
        dry = ["make", "--dry-run", target, "STAMP=Makefile", f"RUN={shlex.quote(sys.executable)}"]
        asked = subprocess.run(dry, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True)
        return [shlex.split(line) for line in asked.stdout.splitlines()]

    def run_here(self, words: list[str]) -> "subprocess.CompletedProcess[str]":
        """The same for a program of a2i, in this process."""
        with contextlib.chdir(self.folder):
            return programs.run(words[2].removeprefix("a2i."), *words[3:], environment=self.environment)


def follow(newcomer: Newcomer, heading: str | None = None) -> None:
    """Run the README's commands in their order, and its Python where it stands.

    Args:
        newcomer: who runs them.
        heading: under which they are. They do less then, and what is called there a second time runs in this process, where
            nothing is loaded anew. None for all commands, as printed.
    """
    called: set[str] = set()
    for command in commands():
        if heading not in (None, command.heading) or str(command) == "make test" or command.words[0] == "pip":
            continue
        again, begun = command.entry in called, time.monotonic()
        called |= {command.entry} - {""}
        words = list(command.words) if heading is None else command.less()
        here = again and heading is not None and words[0] == "python"
        done = newcomer.run_here(words) if here else newcomer.run(words)
        print(f"{time.monotonic() - begun:.0f} s, status {done.returncode}: {command}", flush=True)
        said = f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stdout + done.stderr, said
        if command.lacking and "A2I_REAL_DATA" not in newcomer.environment:
            assert done.returncode == 2, said
            assert command.lacking in done.stderr, said
            continue
        assert done.returncode == 0, said
        if command.entry == "infer":
            shown = [line.rpartition(" (")[0] for line in command.shown if "% sure" in line]
            assert shown == [line for line in shown if line in done.stdout], said
    for where, block in blocks("python"):
        if heading in (None, where):
            done = newcomer.run(["python", "-c", block])
            assert done.returncode == 0, f"{block}\n{done.stderr}"


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name != "posix", reason="needs make")
@pytest.mark.parametrize("heading", HEADINGS)
def test_its_commands_run_in_its_order(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but for what makes some of them do less; by one who has the sounds of `make demo`."""
    monkeypatch.delenv("A2I_REAL_DATA", raising=False)
    newcomer = Newcomer(tmp_path / "a2i")
    if heading != HEADINGS[0]:
        newcomer.run_here(newcomer.made_by("demo")[0])
    follow(newcomer, heading)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_its_commands_run_as_printed(tmp_path: Path) -> None:
    follow(Newcomer(tmp_path / "a2i"))


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
