"""The examples in docstrings are run, and give what stands below them."""

import contextlib
import doctest
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

import a2i
from a2i import AudioToImage
from a2i.data.foley import __main__ as foley
from a2i.paths import MINI_CAPTIONER

ROOT = Path(a2i.__file__).parent


def modules() -> list[str]:
    """Those that have examples."""
    with_examples = [
        path for path in ROOT.rglob("*.py") if re.search(r"^ *>>> ", path.read_text("utf-8"), re.MULTILINE)
    ]
    names = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in with_examples]
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What the examples speak of: `a2i`, `waveform`, `result`, and the files in the folder where they run."""
    folder = tmp_path_factory.mktemp("examples")
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        import_module("transformers.integrations.integration_utils")  # with W&B offline, it prints that
        foley.main(["sounds", "--count", "6", "--seed", "1", "--alone", "--sample-rate", "44100"])
        table = Path("sounds/captions.csv")
        lines = table.read_text("utf-8").splitlines()
        table.write_text("\n".join([lines[0], *(line for line in lines if line.startswith(("bell", "rain")))]) + "\n")
        shutil.copy("sounds/bell.wav", "bell.wav")
        Path("runs/first").mkdir(parents=True)
        Path("runs/first/captioner").symlink_to(MINI_CAPTIONER)
        pipeline = AudioToImage.from_pretrained()
        waveform = soundfile.read("bell.wav", dtype="float32")[0]
        yield {"a2i": pipeline, "waveform": waveform, "result": pipeline("bell.wav"), "Path": Path}


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_its_examples_give_what_they_show(
    name: str, prepared: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(name)
    found = examples(module)
    assert found, f"{name} has examples that doctest does not find"
    for test in found:
        test.globs = {**vars(module), **prepared}
        said: list[str] = []
        with capsys.disabled():
            failed = (
                doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=said.append).failed
            )
        assert not failed, "".join(said)


def test_no_example_is_without_output() -> None:
    """What shows nothing, proves nothing: the last line of each docstring's examples has an output."""
    for name in modules():
        for test in examples(import_module(name)):
            assert test.examples[-1].want, test.name
