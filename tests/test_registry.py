"""Encoders and decoders have a name of their own, and one class each."""

from pathlib import Path

import pytest
from conftest import make_captioner
from torch import nn

from a2i.captioner import decoders, encoders
from a2i.captioner.encoders.cnn import CNNEncoder
from a2i.captioner.registry import Registry
from a2i.captioner.text import CaptionTokenizer


class Mine(nn.Module):
    name = "mine"


@pytest.fixture
def registry() -> Registry:
    return Registry("encoder", "a2i.captioner.encoders")


def test_names_that_folders_hold() -> None:
    """What is saved on users' disks: a name may be added, and none may change."""
    assert {"act", "ast", "cnn", "crnn", "gru", "panns"} <= set(encoders.names())
    assert {"gpt2", "gru", "transformer"} <= set(decoders.names())


def test_a_class_from_elsewhere_is_registered(registry: Registry) -> None:
    assert registry.register(Mine) is Mine
    assert registry.register(Mine) is Mine  # a module may be read twice
    assert registry.find("mine") is Mine
    assert registry.name_of(Mine()) == "mine"


def test_a_name_that_is_taken_is_refused(registry: Registry) -> None:
    registry.register(Mine)

    class Other(nn.Module):
        name = "mine"

    with pytest.raises(ValueError, match=r"expected another name: test_registry\.Mine has this one"):
        registry.register(Other)
    with pytest.raises(ValueError, match="no registered encoder"):
        registry.name_of(Other())


def test_a_name_of_the_house_is_taken_before_its_file_is_read() -> None:
    class Other(nn.Module):
        name = "act"

    with pytest.raises(ValueError, match="expected another name"):
        encoders.register(Other)
    assert encoders.find("act") is not Other


def test_a_class_without_a_name_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="without a name"):
        registry.register(nn.Linear)


def test_what_no_folder_could_load_is_not_saved(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    class Unregistered(CNNEncoder):
        pass

    captioner = make_captioner(tokenizer)
    captioner.encoder = Unregistered(channels=[4, 8])
    with pytest.raises(ValueError, match="Unregistered, which is no registered encoder"):
        captioner.save(tmp_path / "captioner")
    assert not (tmp_path / "captioner").exists()
