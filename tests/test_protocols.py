"""Every captioner, and every picture model, is one that inference and evaluation can use."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_captioner, tone

from a2i.captioner import Captioner
from a2i.captioner.audio_language import AudioLanguageCaptioner
from a2i.captioner.decoding import Decoding
from a2i.captioner.protocols import CaptionModel
from a2i.captioner.text import CaptionTokenizer
from a2i.diffusion import Painter, PictureModel


def captioners(captioner: Captioner, other: AudioLanguageCaptioner) -> list[CaptionModel]:
    """For the type checker, which reads this file too: both fit."""
    return [captioner, other]


def picture_models(painter: Painter) -> list[PictureModel]:
    """Likewise."""
    return [painter]


@pytest.mark.parametrize("kind", [Captioner, AudioLanguageCaptioner])
def test_the_methods_are_there_and_take_the_same(kind: Any) -> None:
    for name in ("decoding_with", "caption"):
        wanted, found = (inspect.signature(getattr(each, name)) for each in (CaptionModel, kind))
        assert list(found.parameters) == list(wanted.parameters)
    assert isinstance(inspect.getattr_static(kind, "device"), property)


def test_a_captioner_has_what_is_asked_of_one(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    made: CaptionModel = make_captioner(tokenizer)
    loaded: CaptionModel = Captioner.load(make_captioner(tokenizer).save(tmp_path / "captioner"))
    assert (made.name, loaded.name) == ("captioner", str(tmp_path / "captioner"))
    for captioner in (made, loaded):
        assert captioner.licence is None
        assert captioner.device == torch.device("cpu")
        assert captioner.decoding_with(num_beams=3) == Decoding(num_beams=3, num_candidates=2, max_tokens=8)
        (candidates,) = captioner.caption([tone(300, 0.5)], num_candidates=1)
        assert len(candidates) == 1
