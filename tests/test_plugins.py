"""Parts from outside the tree: a small package, built on disk from the how-to, is allowed, learns, captions, draws."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import soundfile
import torch
from conftest import tone

from a2i import infer, plugins, train
from a2i.captioner import decoders, encoders
from a2i.compose import build, target_class
from a2i.data.captioned import Captioned
from a2i.evaluate import pictures
from a2i.evaluate.distributed import Ranks
from a2i.metrics import registry as metrics
from a2i.paths import CONF
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


def registries() -> list[dict[str, Any]]:
    return [encoders._encoders._classes, decoders._decoders._classes, metrics._METRICS]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plug-in is allowed before a test, nor after it."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_allowed", {})
    for registry in (encoders._encoders, decoders._decoders):
        registry.names()  # a2i's own are there before, and so after
    kept = [(each, dict(each)) for each in registries()]
    known = set(sys.modules)
    yield
    for each, before in kept:
        each.clear()
        each.update(before)
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
from a2i.metrics import Inputs
from a2i.metrics.registry import compute
words = compute("caption_words", Inputs([result.caption], [["A tone."]]))["caption_words"].value
assert words == len(result.caption.split())
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_the_environment_allows_a_package(site: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv(plugins.VARIABLE, "my_package")
    a2i = AudioToImage.load(work / "run" / "captioner", image="colours")
    result = a2i(work / "sounds" / "val" / "a_high_tone.wav")
    assert [result.caption, result.image_model] == json.loads((work / "said.json").read_text())[:2]
    assert plugins.origin(type(a2i.captioner.encoder)) == "my_package"
    with pytest.raises(ValueError, match="expected another name"):
        encoders.register(type("Other", (), {"name": "frames"}))


def test_an_encoder_that_is_added_does_not_hear_padding(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    plugins.use("my_package")
    encoder = encoders.build("frames", {"width": 8}).eval()
    log_mel, mask = torch.randn(2, 60, 64), torch.arange(60) < torch.tensor([[60], [23]])
    states, states_mask = encoder(log_mel, mask)
    alone, _ = encoder(log_mel[1:, :23], mask[1:, :23])
    assert torch.allclose(states[1][states_mask[1]], alone[0], atol=1e-6)


def test_a_painter_that_is_added_draws_wherever_ours_does(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, captioner_folder: Path
) -> None:
    monkeypatch.syspath_prepend(site)
    plugins.use("my_package")
    a2i = AudioToImage.load(captioner_folder, "colours", "cpu", "bfloat16").to("cpu")
    assert a2i.painter is not None
    assert a2i.painter.tokens_over("Rain.") == 0
    image = {"_target_": "my_package.Colours"}
    painter = pictures.load_painter(image, None, torch.device("cpu"))
    assert painter is not None
    (drawn,) = pictures.draw([Captioned("a.wav", "Rain.", ())], painter, tmp_path, image, 3, Ranks(), human=False)
    assert drawn.image == tmp_path / "a.png"
    assert drawn.image.exists()


@pytest.mark.long
def test_a_saved_run_allows_nothing(
    site: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says which plug-ins it needs; they are allowed on the command line again, by a name or another folder."""
    monkeypatch.syspath_prepend(site)
    resume = [f"resume={work / 'run'}"]
    line = stopped(lambda: train.start(resume), capsys=capsys)
    expected = "this run uses the plug-ins my_package; where you trust them allow them again: plugins=my_package"
    assert line == f"error: {expected}"
    assert "my_package" not in sys.modules
    train.start([*resume, f"plugins={site / 'my_package'}"])
    assert "nothing left to train" in capsys.readouterr().out


def test_a_folder_is_a_package(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beside it can be imported, a2i's own choices stay what they are, and files in it can be."""
    folder = tmp_path / "beside" / "another"
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("from another.sounds import Silent")
    (folder / "sounds.py").write_text("from subprocess import Popen\nclass Silent:\n    def __init__(self): ...\n")
    (folder / "conf" / "data" / "silent.yaml").write_text("_target_: another.sounds.Silent\n")
    (folder / "conf" / "data" / "clotho.yaml").write_text("_target_: another.sounds.Silent\n")
    (tmp_path / "beside" / "neighbour.py").touch()
    assert plugins.take([f"plugins={folder}", "data=silent"]) == ["data=silent"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert type(build(hydra.compose("train", ["data=silent"]).data)).__name__ == "Silent"
        assert hydra.compose("train", ["data=clotho"]).data._target_ == "a2i.data.clotho.Clotho"
    assert plugins.names() == [str(folder)]
    assert os.environ[plugins.VARIABLE] == str(folder), "for processes that this one starts"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("neighbour")
    for target in ("another.sounds.Popen", "another.sounds.os.getcwd", "another.Nothing"):
        with pytest.raises(ValueError, match=f"got _target_ '{target}'"):
            target_class(target)
    monkeypatch.chdir(tmp_path / "beside")
    plugins.use("./another", "another")  # the same


def test_what_can_not_be_a_plug_in(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    for name in ("empty", "broken", "json"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("1 / 0")
    (tmp_path / "json" / "__init__.py").touch()
    wrong = {
        "my_pakage": r"got plugins=my_pakage; expected a package .* did you mean my_package\?",
        str(tmp_path / "empty"): "holds no __init__.py; expected the folder of a Python package",
        str(tmp_path / "nowhere"): "holds no __init__.py",
        str(tmp_path / "broken"): r"can't be imported \(ZeroDivisionError: division by zero\)",
        str(tmp_path / "json"): r"json is another package .*; expected another name",
        "[my_package": r"expected a name, a folder, or a list such as plugins=\[my_package,folder\]",
    }
    for value, expected in wrong.items():
        with pytest.raises(ValueError, match=expected):
            plugins.take([f"plugins={value}"])
    assert plugins.names() == []
    assert plugins.take(["plugins=[my_package]", "plugins=null", "x=1"]) == ["x=1"]
    assert plugins.names() == ["my_package"]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_plug_in_that_fails_can_be_mended_and_loaded_again(
    by_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "another"
    package.mkdir()
    (package / "parts.py").write_text(
        "from a2i.captioner import encoders\nfrom a2i.metrics import Metric, Score, register\n"
        "@encoders.register\nclass Ears:\n    name = 'ears'\n"
        "register(Metric('another_metric', lambda inputs: Score.of([])))\n"
    )
    (package / "__init__.py").write_text("from another import parts\n1 / 0\n")
    if by_name:
        monkeypatch.syspath_prepend(tmp_path)
    before, name = [list(each) for each in registries()], "another" if by_name else str(package)
    with pytest.raises(ValueError, match="ZeroDivisionError: division by zero"):
        plugins.use(name)
    assert not [module for module in sys.modules if module.split(".")[0] == "another"]
    assert [list(each) for each in registries()] == before
    (package / "__init__.py").write_text("from another.parts import Ears  # mended\n")
    importlib.invalidate_caches()
    plugins.use(name)
    assert encoders.find("ears").__module__ == "another.parts"


def test_a_folder_that_no_list_can_hold(tmp_path: Path) -> None:
    folder = tmp_path / f"one{os.pathsep}two" / "another"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    with pytest.raises(ValueError, match=rf"holds {os.pathsep!r}, which separates the names in A2I_PLUGINS"):
        plugins.use(str(folder))
    assert os.environ[plugins.VARIABLE] == ""
    assert plugins.names() == []


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_hydras_signs_before_the_key_change_nothing(sign: str, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "__init__.py").touch()
    assert plugins.take([f"{sign}plugins={tmp_path / 'another'}", "+x=1"]) == ["+x=1"]
    assert plugins.names() == [str(tmp_path / "another")]
