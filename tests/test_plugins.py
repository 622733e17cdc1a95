"""Parts from outside the tree: a small package, built on disk from the how-to, is allowed, learns, captions, draws."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from conftest import tone

from a2i import infer, plugins, train
from a2i.compose import target_class
from a2i.pipeline import AudioToImage

HOW_TO = Path(__file__).parents[1] / "experiments" / "plugins" / "README.md"
LEARNS = [
    *("data=named", "model=small_gru", "model/encoder=frames", "model/decoder=small"),
    *("trainer=cpu", "trainer.max_steps=2", "trainer.enable_model_summary=false"),
    *("loader.num_workers=0", "loader.batch_size=2", "bertscore=null", "training.metrics=null", "logger=csv"),
]


def write_package(site: Path) -> None:
    """The how-to's package as an installer leaves it: its files, and beside them what its entry point says."""
    text = HOW_TO.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (choices,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    files = {"my_package/__init__.py": code}
    files |= dict(re.findall(r"^# (my_package/\S+)\n((?:(?!# my_package).*\n)*)", choices, re.MULTILINE))
    about = "my_package-1.0.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n"
    files[f"{about}/entry_points.txt"] = "[a2i.plugins]\nmy_package = my_package\n"
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_package(folder)
    return folder


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plug-in is allowed before a test, nor after it."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_allowed", {})
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith(("my_package", "another")):
            del sys.modules[name]


USES = """
import json, sys
from pathlib import Path

from a2i import train
work = Path(sys.argv[1])
sys.argv = ["train", "plugins=my_package", *sys.argv[2:], f"data.root={work / 'sounds'}", f"hydra.run.dir={work / 'run'}"]
train.main()

from a2i import AudioToImage
a2i = AudioToImage.load(work / "run" / "captioner", image="colours")
result = a2i(work / "sounds" / "val" / "a_high_tone.wav")
result.save(work / "tone.png")
print(json.dumps([result.caption, result.image_model, type(a2i.captioner.encoder).__name__, result.image.getpixel((0, 0))]))
"""


@pytest.fixture(scope="module")
def work(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process made that was allowed to use the package."""
    folder = tmp_path_factory.mktemp("work")
    for split in ("train", "val", "test"):
        (folder / "sounds" / split).mkdir(parents=True)
        for name, hertz in {"a_low_tone": 200, "a_high_tone": 2_000, "a_tone": 600}.items():
            soundfile.write(folder / "sounds" / split / f"{name}.wav", tone(hertz, 1.0), 16_000)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", USES, str(folder), *LEARNS],
        capture_output=True, text=True, check=False, env=environment, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.json").write_text(done.stdout.splitlines()[-1])
    return folder


def test_a_package_from_outside_learns_captions_and_draws(work: Path) -> None:
    caption, painter, encoder, colour = json.loads((work / "said.json").read_text())
    assert (painter, encoder) == ("colours", "FrameEncoder")
    assert isinstance(caption, str)
    assert len(colour) == 3
    assert (work / "tone.png").exists()
    saved = json.loads((work / "run" / "captioner" / "captioner.json").read_text())
    named = [(saved[part]["name"], saved[part]["plugin"]) for part in ("encoder", "decoder")]
    assert named == [("frames", "my_package"), ("small", "my_package")]


def stopped(main: object, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a program ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *arguments])
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        with pytest.raises(SystemExit) as end:
            main()  # type: ignore[operator]
    assert end.value.code == 2
    line, hint = capsys.readouterr().err.splitlines()
    assert hint == "(HYDRA_FULL_ERROR=1 shows where)"
    return line


def test_what_is_installed_is_named_and_not_imported(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(site)
    allow = "is offered by the installed package my_package: allow it with plugins=my_package"
    line = stopped(train.main, "model/encoder=frames", capsys=capsys)
    assert line.startswith("error: got model/encoder=frames; expected one of act, ")
    assert line.endswith(f"; model/encoder=frames {allow}")
    line = stopped(infer.main, "audio=x.wav", "image=colours", f"out={tmp_path}", capsys=capsys)
    assert line.endswith(f"; image=colours {allow}")
    with pytest.raises(ValueError, match="it is of the installed package my_package: allow it with plugins=my_package"):
        target_class("my_package.NamedSounds")
    with pytest.raises(
        ValueError, match=r"got _target_ 'os\.system'; expected one .* plug-in that you allow \(plugins=NAME\)"
    ):
        target_class("os.system")
    assert "my_package" not in sys.modules


def test_a_captioner_folder_allows_nothing(site: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    folder = work / "run" / "captioner"
    expected = (
        "encoder 'frames' is of the plug-in my_package, which is not allowed here or has none of that name. Where you trust"
        " it: plugins=my_package on the command line, A2I_PLUGINS=my_package in the environment, or"
        " a2i.plugins.use('my_package')"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        AudioToImage.load(folder, image=None)
    assert "my_package" not in sys.modules
