import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from a2i.compose import build, check_out, clear_errors, plain, prepared_data_set
from a2i.data import Clip
from a2i.paths import CONF, PACKAGE


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
        {"_target_": "a2i.captioner.bridge.Bridge", "encoder_width": 4, "decoder_width": 4, "kind": r"\${oc.env:HOME}"}
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


def test_a_setting_without_a_value_is_named() -> None:
    config = OmegaConf.create({"data": {"root": "???"}, "image": {"model": "???"}, "seed": 1})
    with pytest.raises(ValueError, match=r"^data\.root and image\.model have no value yet; give it: data\.root=VALUE"):
        plain(config)


def test_out_is_checked_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_out(str(tmp_path / "new" / "deeper"))
    check_out(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for wrong in (tmp_path / "file", ""):
        with pytest.raises(ValueError, match="expected a folder, or a name that is free"):
            check_out(str(wrong))
    with pytest.raises(OSError, match="expected another out=FOLDER"):
        check_out(str(tmp_path / "file" / "below"))


def test_what_lightning_refuses_is_the_inputs_fault() -> None:
    with pytest.raises(ValueError, match=r"lightning\.pytorch\.Trainer: .*nowhere"):
        build({"_target_": "lightning.pytorch.Trainer", "accelerator": "nowhere", "logger": False})


class Slow:
    """A source that notices when two prepare it at once."""

    inside = most = 0

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        Slow.inside += 1
        Slow.most = max(Slow.most, Slow.inside)
        time.sleep(0.02)
        self.root.mkdir(parents=True, exist_ok=True)
        Slow.inside -= 1

    def clips(self, split: str) -> list[Clip]:
        return []


def test_a_source_is_prepared_by_one_at_a_time_and_no_lock_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2i.compose.target_class", lambda _: Slow)
    data = {"_target_": "a2i.Slow", "root": str(tmp_path / "data" / "deeper" / "slow")}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: prepared_data_set(dict(data)), range(12)))
    assert Slow.most == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "deeper", "slow"]


def test_no_folder_is_made_for_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watching(Slow):
        def prepare(self) -> None:
            assert not list(tmp_path.iterdir())

    monkeypatch.setattr("a2i.compose.target_class", lambda _: Watching)
    monkeypatch.chdir(tmp_path)
    prepared_data_set({"_target_": "a2i.Slow", "root": "https://me:password@host/shards"})


def test_where_no_lock_can_be_had_a_source_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    data = {"_target_": "a2i.data.folder.Folder", "root": str(tmp_path / "file" / "below" / "x")}
    with pytest.raises(FileNotFoundError, match="no caption table"):
        prepared_data_set(data)
    data["root"] = str(tmp_path / "typo" / "deeper")
    with pytest.raises(FileNotFoundError, match="no caption table"):
        prepared_data_set(data)
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is made where there is nothing"
    sources = {"_target_": "a2i.data.combined.Combined", "sources": {"a": data, "b": {**data, "seed": 1}}}
    with pytest.raises(FileNotFoundError, match="no caption table"):
        prepared_data_set(sources)


@pytest.mark.parametrize(
    ("part", "config", "said"),
    [
        ("decoders.gpt2.GPT2Decoder", {"n_layer": "many"}, "n_layer"),
        ("decoders.gpt2.GPT2Decoder", {"n_layer": -1}, r"config\.n_layer=-1; expected at least 1"),
        ("encoders.ast.ASTEncoder", {"hidden_size": "many"}, "hidden_size"),
        ("encoders.ast.ASTEncoder", {"num_hidden_layers": 0}, r"config\.num_hidden_layers=0; expected at least 1"),
    ],
)
def test_what_transformers_refuses_is_told_in_one_line(part: str, config: dict[str, Any], said: str) -> None:
    target = f"a2i.captioner.{part}"
    more = {"vocab_size": 20} if "gpt2" in part else {}
    with pytest.raises(ValueError, match=f"{target}: .*{said}") as raised:
        build({"_target_": target, "config": config}, **more)
    assert "\n" not in str(raised.value)
