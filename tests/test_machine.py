"""What programs ask of the machine: prints that do not fail, threads that rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from a2i.machine import rest_while_waiting

PRINTS = """
import sys
from pathlib import Path
from a2i.machine import begin_program

begin_program()
for number in range(20_000):
    print("caf\\u00e9 \\udc80 \\U0001f600", number)
print("done", file=sys.stderr)
"""


def printed(into: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = f'"{sys.executable}" -c "$PRINTS" {into}'
    return subprocess.run(
        ["sh", "-c", command], env={**environment, "PRINTS": PRINTS}, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("into", ["| head -n 1 >/dev/null", ">&-", "| true"])
def test_no_reader_ends_a_program(into: str) -> None:
    assert printed(into).stderr.splitlines() == ["done"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_behind_a_log_ends_no_program() -> None:
    done = printed(">/dev/full")
    assert (done.returncode, done.stderr) == (0, "done\n")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"caf\xe9 \udc80 \U0001f600 0"), ("utf-8", "café \\udc80 😀 0")]
)
def test_what_the_terminal_lacks_is_escaped(encoding: str, shown: str) -> None:
    assert printed("", encoding).stdout.splitlines()[0] == shown


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_how_the_user_lets_threads_wait_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "7")
    rest_while_waiting()
    assert {each: os.environ.get(each) for each in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == {
        each: "7" if each == name else None for each in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    monkeypatch.delenv(name)
    rest_while_waiting()
    assert os.environ.pop("OMP_WAIT_POLICY") == "PASSIVE"
    assert int(os.environ.pop("GOMP_SPINCOUNT")) > 0


def test_freed_memory_is_kept_unless_a_program_trains() -> None:
    code = """
import runpy, sys
import a2i.machine
a2i.machine.keep_freed_memory = lambda: print("kept")
sys.argv[1:] = ["--help"]
runpy.run_module("a2i.PROGRAM", run_name="__main__")
"""
    for program, kept in (("infer", 1), ("train", 0)):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("PROGRAM", program)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines().count("kept") == kept


@pytest.mark.parametrize("program", ["infer", "train", "prepare", "evaluate.__main__", "data.foley.__main__"])
def test_programs_say_how_to_wait_before_torch_is_there(program: str) -> None:
    """OpenMP reads it once, when PyTorch is imported: a program that imports PyTorch at its head would be too late."""
    code = f"import a2i.{program}, sys; print('torch' in sys.modules, 'begin_program(' in open(a2i.{program}.__file__).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
