"""Which captioner and which picture model a name, a folder, a Hub id or settings stand for."""

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from conftest import tone

from a2i import AudioToImage
from a2i.captioner import Captioner
from a2i.diffusion import Painter
from a2i.machine import find_device
from a2i.models import licence_of, load_captioner, load_painter
from a2i.plugins import choices

CPU = torch.device("cpu")


def test_mini_is_a_name_of_both() -> None:
    named, given = AudioToImage.from_pretrained("mini", "mini", "cpu"), AudioToImage.load(device="cpu")
    for a2i in (named, given):
        assert a2i.name == "a2i-mini-captioner"
        assert a2i.painter is not None
        assert a2i.painter.name == "a2i-mini-painter"
    assert {"mini", "qwen2_audio", "whisper_tiny"} <= set(choices("captioner"))
    assert AudioToImage.load(None, None, "cpu").name == "a2i-mini-captioner"


def test_settings_as_the_configuration_holds_them(captioner_folder: Path, painter_folder: Path) -> None:
    settings = {"_target_": "a2i.captioner.model.Captioner", "folder": str(captioner_folder)}
    assert load_captioner(settings, CPU).name == str(captioner_folder)
    painter = load_painter({"_target_": "a2i.diffusion.Painter", "model": str(painter_folder), "steps": 1}, CPU)
    assert painter is not None
    assert painter.steps == 1


def test_no_picture_model_is_asked_for() -> None:
    for image in (None, "none", {}):  # {} is what conf/image/none.yaml holds
        assert load_painter(image, CPU, "bfloat16") is None
    with pytest.raises(ValueError, match="got captioner=folder, where folder has no value"):
        AudioToImage.load("folder", None, "cpu")
    with pytest.raises(ValueError, match="got image=folder, where model has no value"):
        AudioToImage.load(image="folder", device="cpu")


@pytest.mark.parametrize("target", ["os.system", "a2i.diffusion.Drawing", None])
def test_another_target_is_refused(target: str | None, painter_folder: Path, captioner_folder: Path) -> None:
    with pytest.raises(ValueError, match=f"a picture model with _target_={target!r}; expected a2i.diffusion.Painter"):
        load_painter({"_target_": target, "model": str(painter_folder)}, CPU)
    with pytest.raises(
        ValueError, match=f"a captioner with _target_={target!r}; expected a2i.captioner.model.Captioner"
    ):
        load_captioner({"_target_": target, "folder": str(captioner_folder)}, CPU)


def test_what_a_plug_ins_settings_hold_is_no_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2i.hub.look_up", lambda *_: pytest.fail("asked the Hub"))
    for group, key in (("captioner", "model"), ("captioner", "folder"), ("image", "model")):
        settings = {"_target_": "my_package.Colours", key: "someone/else"}
        assert licence_of(group, settings) is None
        assert licence_of(group, settings | {"licence": "mit"}) == "mit"


def test_a_setting_that_there_is_not(painter_folder: Path) -> None:
    with pytest.raises(ValueError, match="'colour'"):
        load_painter({"model": str(painter_folder), "colour": 1}, CPU)
    with pytest.raises(ValueError, match="'colour'"):
        load_captioner({"_target_": "a2i.captioner.model.Captioner", "folder": "embedded", "colour": 1}, CPU)


@pytest.mark.parametrize("typo", ["mini2", "./nothing", "a/b/c", "runs/captionr", "~/nothing/here"])
def test_a_typo_asks_no_network(typo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setattr(
        "diffusers.DiffusionPipeline.from_pretrained", lambda *_, **__: pytest.fail("asked the network")
    )
    with pytest.raises(
        FileNotFoundError,
        match=r"(no folder here|has no captionr); expected one of .*, qwen2_audio, .*, a folder, or a Hub id",
    ):
        AudioToImage.load(typo, None, "cpu")
    with pytest.raises(
        FileNotFoundError, match=r"expected one of flux2_klein, flux_schnell, mini, none, .*, a folder, or"
    ):
        load_painter(typo, CPU)


def test_a_captioner_of_the_hub(captioner_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the Hub's cache on disk, as a download leaves it."""
    commit = "0" * 40
    repository = tmp_path / "models--someone--captioner"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(captioner_folder, repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    a2i = AudioToImage.from_pretrained("someone/captioner", None, "cpu")
    assert a2i.name == "someone/captioner"
    assert a2i(tone(500, 0.3), sampling_rate=16_000).caption
    with pytest.raises(
        FileNotFoundError, match=r"nobody/nothing: no such folder here, and could not load it from the Hub"
    ):
        AudioToImage.from_pretrained("nobody/nothing", None, "cpu")


def test_the_type_of_the_numbers(captioner_folder: Path, painter_folder: Path) -> None:
    for dtype in ("bfloat16", torch.bfloat16):
        a2i = AudioToImage.from_pretrained(captioner_folder, {"model": str(painter_folder), "steps": 1}, "cpu", dtype)
        assert a2i.painter is not None
        assert a2i.painter.pipeline.unet.dtype == torch.bfloat16
        assert a2i.captioner.decoding.precision == "bfloat16"
        result = a2i(tone(500, 0.3), sampling_rate=16_000)
        assert result.image is not None
        assert a2i.to("cpu") is a2i
        assert a2i.painter.pipeline.unet.dtype == torch.bfloat16
    own = AudioToImage.from_pretrained(captioner_folder, str(painter_folder), "cpu")
    assert own.painter is not None
    assert own.painter.pipeline.unet.dtype == torch.float32
    assert own.captioner.decoding.precision == "float32"
    with pytest.raises(ValueError, match=r"got dtype=float16 for the captioner in .*; expected float32 or bfloat16"):
        AudioToImage.from_pretrained(captioner_folder, None, "cpu", "float16")
    with pytest.raises(ValueError, match="got dtype='int8'; expected one of float32, bfloat16, float16"):
        Painter(str(painter_folder), dtype="int8")
    with pytest.raises(ValueError, match="got dtype=bfloat16 with a captioner that is loaded already"):
        AudioToImage.from_pretrained(Captioner.load(captioner_folder), None, "cpu", "bfloat16")


def test_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpu", "cuda:99", "mps:7"):
        with pytest.raises(ValueError, match=rf"got device='{name}', which can't be used here; expected cpu, cuda"):
            find_device(name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert find_device() == CPU
    monkeypatch.setattr("torch.empty", lambda *_, **__: None)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert find_device().type == "mps"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert find_device().type == "cuda"
    assert find_device("cpu") == CPU
