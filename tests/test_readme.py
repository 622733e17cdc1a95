"""The README's commands are real: they are read from it, and run in its order."""

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import a2i

ROOT = Path(a2i.__file__).parents[1]
README = ROOT / "README.md"
# What a command asks for that an offline machine lacks, and what it then says.
LACKING = {
    "image=stable_diffusion": "no picture model to be had there",
    "captioner=qwen2_audio": "expected a Hub id",
    "experiment=ast_gpt2": "clotho",
    "experiment=ast_gpt2_as_published": "clotho",
    "experiment=act": "clotho",
    "experiment=gru": "clotho",
    "data=esc10": "ESC-10",
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
    """A command line of the README, in its words, with what the README shows as its output."""

    words: tuple[str, ...]
    shown: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def entry(self) -> str:
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
    for block in re.findall(r"```(?:bash|console)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(make|python|pip|git|wandb|torchrun) ", line):
                found.append(Command(tuple(shlex.split(line.removeprefix("$ "), comments=True)), ()))
            elif found:
                found[-1] = Command(found[-1].words, (*found[-1].shown, line))
    return found


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

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        if words[0] == "make":
            # What it would run, with the Python that tests, where everything is installed already.
            dry = ["make", "--dry-run", words[1], "STAMP=Makefile", f"RUN={shlex.quote(sys.executable)}"]
            asked = subprocess.run(
                dry, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
            )
            lines = asked.stdout.splitlines()
            done = [self.run(shlex.split(line)) for line in lines]
            failed = [one for one in done if one.returncode]
            return failed[0] if failed else done[-1]
        command = [sys.executable if words[0] == "python" else words[0], *words[1:]]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=3_600
        )


def follow(newcomer: Newcomer, less: bool) -> None:
    """Run the README's commands in their order, and its Python where it stands."""
    for command in commands():
        if str(command) == "make test" or command.words[0] == "pip":
            continue
        begun = time.monotonic()
        done = newcomer.run(command.less() if less else list(command.words))
        print(
            f"{time.monotonic() - begun:.0f} s, status {done.returncode}: {command}", flush=True
        )  # seen with -s, or where one fails
        said = f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stdout + done.stderr, said
        if command.lacking and "A2I_REAL_DATA" not in newcomer.environment:
            assert done.returncode == 2, said
            assert command.lacking in done.stderr, said
            continue
        assert done.returncode == 0, said
        if command.entry == "infer":
            shown = [line.rpartition(" (")[0] for line in command.shown if line.endswith("sure)")]
            assert shown == [line for line in shown if line in done.stdout], said
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        done = newcomer.run(["python", "-c", block])
        assert done.returncode == 0, f"{block}\n{done.stderr}"


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name != "posix", reason="needs make")
def test_its_commands_run_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but for what makes some of them do less."""
    monkeypatch.delenv("A2I_REAL_DATA", raising=False)
    follow(Newcomer(tmp_path / "a2i"), less=True)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_its_commands_run_as_printed(tmp_path: Path) -> None:
    follow(Newcomer(tmp_path / "a2i"), less=False)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_name_of_its_python_exists() -> None:
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        for module, names in re.findall(r"^from (a2i\S*) import (.+)$", block, flags=re.MULTILINE):
            for name in names.split(","):
                assert hasattr(import_module(module), name.strip()), name
