import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from a2i.compose import arguments, build, clear_errors, image_names, plain
from a2i.places import CONF, PACKAGE

NAMES = [
    "01 A pug struggles to breathe 1_14_2008.wav",
    "Rain, wind & thunder (take 2).wav",
    "it's raining.wav",
    "a=b.wav",
    "50% [loud] {very}.wav",
    "dollar ${HOME} $x.wav",
    r"back\slash.wav",
    r"ends with \\",
    "Ünï çödé 雨.wav",
    "null and void.wav",
]


def read(override: str) -> object:
    """What Hydra and OmegaConf make of a command-line argument."""
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.create({"audio": value})["audio"]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_arrive_as_they_are(name: str) -> None:
    (argument,) = arguments([f"audio={name}"], paths=("audio",))
    assert read(argument) == name


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1).filter(
        lambda name: name[0] not in "'\"[$"
    )
)
def test_any_name_arrives_as_it_is(name: str) -> None:
    if name == "null":
        return
    (argument,) = arguments([f"audio={name}"], paths=("audio",))
    assert read(argument) == name


def test_hydras_own_values_stay(tmp_path: Path) -> None:
    for argument in (
        "audio=[a.wav,b.wav]",
        "audio='a b.wav'",
        "captioner=null",
        "audio=${oc.env:HOME}",
        "--multirun",
        "seed=1,2",
    ):
        assert arguments([argument], paths=("audio", "captioner")) == [argument]
    strange = tmp_path / "[brackets].wav"
    strange.touch()
    (argument,) = arguments([f"audio={strange}"], paths=("audio",))
    assert read(argument) == str(strange)


def test_a_folder_chosen_as_picture_model(tmp_path: Path) -> None:
    folder = tmp_path / "my painter"
    folder.mkdir()
    assert arguments([f"image={folder}"]) == ["image=folder", f"image.model='{folder}'"]
    assert arguments(["image=mini", "image=nonsense"]) == ["image=mini", "image=nonsense"]
    assert {"mini", "none", "stable_diffusion", "folder"} <= set(image_names())


def test_a_captioner_by_name_brings_its_settings() -> None:
    assert arguments(["captioner=qwen2_audio"], paths=("captioner",)) == [
        "captioner=qwen2_audio",
        "audio_language=qwen2_audio",
    ]
    assert arguments(["captioner=my/folder"], paths=("captioner",)) == ["captioner='my/folder'"]
    published = "model.encoder.pretrained=Cnn14_16k_mAP=0.438.pth"
    assert arguments([published]) == ["model.encoder.pretrained='Cnn14_16k_mAP=0.438.pth'"]


def test_only_what_is_allowed_is_built() -> None:
    assert build({"_target_": "a2i.features.FeatureSettings", "num_mel_bins": 64}).num_mel_bins == 64
    for target in ("os.system", "a2ievil.run", "subprocess.run", 7):
        with pytest.raises(ValueError, match="expected one that begins with"):
            build({"_target_": target})
    reachable = (
        "a2i.compose.os.getcwd",
        "a2i.infer.sys.exit",
        "a2i.features.torch.load",
        "a2i.compose.Path",
        "a2i.compose.build",
    )
    for target in (*reachable, "lightning.pytorch.trainer.trainer.os.getcwd", "a2i.nothing.Here"):
        with pytest.raises(ValueError, match="got _target_"):
            build({"_target_": target})
    with pytest.raises(ValueError, match=r"FeatureSettings.*mels"):
        build({"_target_": "a2i.features.FeatureSettings", "mels": 3})
    nested = {"_target_": "a2i.features.FeatureSettings", "std": [{"deep": {"_target_": "os.getcwd"}}]}
    with pytest.raises(ValueError, match=r"os\.getcwd"):
        build(nested)


def test_values_are_resolved_once() -> None:
    """What looks like an interpolation after composing is a name, such as a folder's."""
    settings = OmegaConf.create(
        {"_target_": "a2i.bridge.Bridge", "encoder_width": 4, "decoder_width": 4, "kind": r"\${oc.env:HOME}"}
    )
    with pytest.raises(ValueError, match=r"\$\{oc\.env:HOME\}"):
        build(settings)


def test_plain_holds_no_configuration() -> None:
    assert plain(OmegaConf.create({"a": [1, {"b": "${a.0}"}]})) == {"a": [1, {"b": 1}]}


def test_errors_of_the_input_end_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stopped, clear_errors():
        raise ValueError("got 3; expected 4")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: got 3; expected 4\n")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="got 3"), clear_errors():
        raise ValueError("got 3")


def test_where_the_configuration_lies() -> None:
    assert (CONF / "train.yaml").is_file()
    assert CONF.parent in (PACKAGE, PACKAGE.parent)


@pytest.mark.parametrize("entry", ["train", "evaluate", "infer", "prepare"])
def test_help_helps(entry: str) -> None:
    """Shown with the commands that people type, and without loading torch."""
    code = (
        f"import runpy, sys; sys.argv = ['a2i.{entry}', '--help']\n"
        f"try: runpy.run_module('a2i.{entry}', run_name='__main__')\n"
        "finally: assert not {'torch', 'transformers', 'diffusers', 'lightning'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python -m a2i.{entry}" in done.stdout
