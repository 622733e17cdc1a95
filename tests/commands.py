"""The commands of documents: read from a page, and run in its order by somebody whose environment has nothing set up."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import programs

import a2i
from a2i.__main__ import PROGRAMS
from a2i.command_line import INTERRUPTED

ROOT = Path(a2i.__file__).parents[1]
# What a command asks for that an offline machine lacks, and what it then says.
LACKING = {
    "captioner=whisper_tiny": "could not load a Whisper",
    "captioner=OWNER/NAME": "OWNER/NAME: ",
    "experiment=ast_gpt2": "clotho",
    "experiment=ast_gpt2_as_published": "clotho",
    "experiment=act": "clotho",
    "experiment=gru": "clotho",
    "sd15_lcm": "stable-diffusion-v1-5",
}
# Added to what would take long: the command is the one that is printed, and does less of the same.
LESS = {
    "train": [
        *("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.limit_train_batches=2"),
        *("trainer.limit_val_batches=1", "trainer.num_sanity_val_steps=0", "training.metrics=[rouge_l]"),
        *("loader.num_workers=0", "loader.batch_size=2", "table_clips=1", "bertscore=null"),
    ],
    "train resumed": ["trainer.max_epochs=2"],
    "evaluate": ["metrics=[rouge_l]", "bootstrap_samples=100"],
    "prepare": ["workers=0"],
    "data.foley": ["--count", "12"],
}
ENDLESS = {"app": "Ctrl-C stops it"}  # what runs until it is stopped, and what it says when it is ready
MADE_SOUNDS = ["data.n_train=8", "data.n_val=2", "data.n_test=2", "data.max_seconds=5.5"]


@dataclass(frozen=True)
class Command:
    """A command line of a page, in its words, with what the page shows as its output and the heading it is under."""

    words: tuple[str, ...]
    shown: tuple[str, ...]
    heading: str

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def entry(self) -> str:
        """The program's module below `a2i`, such as `train`; nothing for programs of others."""
        if self.words[0] == "a2i":
            return self.words[1] if self.words[1] in PROGRAMS else "infer"
        return self.words[2].removeprefix("a2i.") if self.words[:2] == ("python", "-m") else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the program's name."""
        if self.words[0] == "a2i":
            return self.words[2:] if self.words[1] in PROGRAMS else self.words[1:]
        return self.words[3:] if self.entry else self.words[1:]

    @property
    def lacking(self) -> str | None:
        """What it says on a machine without network, GPU and recordings; None where it needs none of them."""
        found = [said for asked, said in LACKING.items() if asked in self.words]
        return found[0] if found and not {"data=folder", "data=foley"} & set(self.words) else None

    def less(self) -> list[str]:
        """The words of a command that does less of the same."""
        words = list(LESS.get(self.entry, ()))
        if any(word.startswith("resume=") for word in self.words):
            words = list(LESS["train resumed"])
        elif self.entry in ("train", "evaluate", "prepare") and "data=folder" not in self.words and not self.lacking:
            words += MADE_SOUNDS
        own = {word.partition("=")[0] for word in words if "=" in word}
        return [word for word in self.words if word.partition("=")[0] not in own] + words


def commands(page: Path) -> list[Command]:
    """Every command line in a page's shell blocks, continued lines joined, in their order."""
    found: list[Command] = []
    for heading, block in blocks(page, "bash|console"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(make|python|a2i|pip|git|wandb|torchrun) ", line):
                found.append(Command(tuple(shlex.split(line.removeprefix("$ "), comments=True)), (), heading))
            elif found:
                found[-1] = replace(found[-1], shown=(*found[-1].shown, line))
    return found


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """A page's blocks in a language, each after the heading it is under."""
    pattern = rf"^## (.+?)$|```(?:{language})\n(.*?)```"
    heading, found = "", []
    for match in re.finditer(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        heading = match[1] or heading
        found += [(heading, match[2])] if match[2] else []
    return found


def write_files(page: Path, folder: Path) -> list[Path]:
    """Write what a page shows as files, each block that has a title, into a folder."""
    found = re.findall(r'```\w+ title="(.+?)"\n(.*?)```', page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name, text in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name, _ in found]


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
        if ready := ENDLESS.get(Command(tuple(words), (), "").entry):
            return self.stopped(command, ready)
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=3_600
        )

    def stopped(self, command: list[str], ready: str) -> "subprocess.CompletedProcess[str]":
        """Start what runs until it is stopped, and press Ctrl-C when it is ready; all is well if it then says so."""
        pipe = subprocess.PIPE
        # What a shell starts in the background ignores Ctrl-C, and so would what it starts.
        stops = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            running = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True
            )
        finally:
            signal.signal(signal.SIGINT, stops)
        too_late = threading.Timer(300, running.kill)
        too_late.start()
        with running:
            assert running.stdout is not None
            said = []
            for line in running.stdout:
                said.append(line)
                if ready in line:
                    running.send_signal(signal.SIGINT)
            _, errors = running.communicate()
        too_late.cancel()
        status = 0 if running.returncode == INTERRUPTED and ready in "".join(said) else running.returncode or 1
        return subprocess.CompletedProcess(command, status, "".join(said), errors)

    def made_by(self, target: str) -> list[list[str]]:
        """What `make` would run, with the Python that tests, where everything is installed already."""
        dry = ["make", "--dry-run", target, "STAMP=Makefile", f"RUN={shlex.quote(sys.executable)}"]
        asked = subprocess.run(dry, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True)
        return [shlex.split(line) for line in asked.stdout.splitlines()]

    def run_here(self, words: list[str]) -> "subprocess.CompletedProcess[str]":
        """The same for a program of a2i, in this process."""
        if words[0] == "a2i":
            name, given = (words[1], words[2:]) if words[1] in PROGRAMS else ("__main__", words[1:])
        else:
            name, given = words[2].removeprefix("a2i."), words[3:]
        with contextlib.chdir(self.folder):
            return programs.run(name, *given, environment=self.environment)


def follow(newcomer: Newcomer, page: Path, heading: str | None = None, less: bool = False) -> None:
    """Write a page's files, run its commands in their order, and then its Python.

    Args:
        newcomer: who runs them.
        page: a Markdown file.
        heading: under which they are; None for the whole page.
        less: they do less of the same, and what is called a second time runs in this process, where nothing is loaded anew.
            Else all is as printed.
    """
    called: set[str] = set()
    write_files(page, newcomer.folder)
    for command in commands(page):
        if heading not in (None, command.heading) or str(command) == "make test" or command.words[0] == "pip":
            continue
        again, begun = command.entry in called, time.monotonic()
        called |= {command.entry} - {""}
        words = command.less() if less else list(command.words)
        # What a plug-in registers would stay in this process.
        here = (
            again
            and less
            and command.entry not in ENDLESS
            and words[0] in ("python", "a2i")
            and not any(word.startswith("plugins=") for word in words)
        )
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
    for where, block in blocks(page, "python"):
        if heading in (None, where):
            done = newcomer.run(["python", "-c", block])
            assert done.returncode == 0, f"{block}\n{done.stderr}"
