import pytest
from omegaconf import OmegaConf

from a2i.compose import build, clear_errors, plain
from a2i.places import CONF, PACKAGE


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
