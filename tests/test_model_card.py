import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCardData
from huggingface_hub.repocard import ModelCard

from a2i.captioner import Captioner
from a2i.model_card import Example, card


@pytest.fixture
def captioner(captioner_folder: Path) -> Captioner:
    return Captioner.load(captioner_folder)


def head_of(text: str) -> ModelCardData:
    return ModelCard(text).data


def test_names_break_neither_table_nor_link(captioner: Captioner, captioner_folder: Path) -> None:
    example = Example(Path("a|b (1).wav"), "a|b (1).wav", "A dog | barks.")
    text = card("mine", captioner_folder, captioner, [example], licence="mit", repository="me/mine")
    assert r"| [a\|b (1).wav](sounds/a%7Cb%20%281%29.wav) | A dog \| barks. |" in text
    (widget,) = head_of(text).widget
    assert widget["src"].endswith("/me/mine/resolve/main/sounds/a%7Cb%20%281%29.wav")
    assert 'AudioToImage.load("me/mine", image=None)' in text


def test_without_scores_and_examples_it_says_nothing_of_them(captioner: Captioner, captioner_folder: Path) -> None:
    text = card("mine", captioner_folder, captioner, [])
    assert "## Scores" not in text
    assert "## Examples" not in text
    head = head_of(text)
    assert (head.license, head.language, head.library_name) == (None, "en", "a2i")
    assert head.eval_results is None


def test_scores_are_those_of_this_captioner(captioner: Captioner, captioner_folder: Path, tmp_path: Path) -> None:
    scores = {"about": {"captioner": str(captioner_folder), "data": "/home/me/sounds"}, "rouge_l": {"value": 0.4}}
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(scores))
    text = card("mine", captioner_folder, captioner, [], scores=str(file))
    (result,) = head_of(text).eval_results or []
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("rouge_l", 0.4, "sounds")
    assert "/home/me" not in text
    file.write_text(json.dumps(scores | {"about": {"captioner": "someone/else"}}))
    with pytest.raises(ValueError, match="the scores of someone/else; expected those of"):
        card("mine", captioner_folder, captioner, [], scores=str(file))
