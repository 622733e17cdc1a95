"""A complete Whisper with tiny random weights, on disk as those that caption are published."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone
from pretrained_models import STYLES, make_whisper
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from a2i.captioner.batching import CaptionResult, caption_many
from a2i.captioner.whisper import WhisperCaptioner
from a2i.pipeline import AudioToImage

SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> WhisperCaptioner:
    return WhisperCaptioner(str(folder))


class ByHand:
    """The published weights, read and searched with nothing of a2i: each step runs the whole network anew."""

    def __init__(self, folder: Path) -> None:
        self.model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
        self.extractor = WhisperFeatureExtractor.from_pretrained(folder)
        settings = json.loads((folder / "generation_config.json").read_text())
        self.end, self.suppressed = settings["eos_token_id"], settings["suppress_tokens"]
        self.first = settings["begin_suppress_tokens"]
        added = json.loads((folder / "added_tokens.json").read_text())
        starts = [added[f"<|{name}|>"] for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
        vocabulary = json.loads((folder / "vocab.json").read_text())
        style = ["c", "lo", "th", "o", "Ġ>", "Ġcaption", ":", "Ġ"]
        self.prompt = [*starts, *(vocabulary[token] for token in style)]

    @torch.no_grad()
    def log_probabilities(self, sound: np.ndarray, words: list[int], ruled_out: bool) -> Tensor:
        """(vocabulary,) of the word after these."""
        features = self.extractor(sound, sampling_rate=16_000, return_tensors="pt").input_features
        given = torch.tensor([[*self.prompt, *words]])
        found = self.model(input_features=features, decoder_input_ids=given).logits[0, -1].log_softmax(0)
        if ruled_out:
            found[[*self.suppressed, *([] if words else self.first)]] = -torch.inf
        return found

    def greedy(self, sound: np.ndarray, most: int) -> list[int]:
        words: list[int] = []
        while len(words) < most and (not words or words[-1] != self.end):
            words.append(int(self.log_probabilities(sound, words, True).argmax()))
        return words

    def beams(self, sound: np.ndarray, most: int, count: int) -> list[list[int]]:
        """The best finished ones by their mean log-probability, the end's among them."""
        running: list[tuple[float, list[int]]] = [(0.0, [])]
        finished: list[tuple[float, list[int]]] = []
        for length in range(1, most + 1):
            found = [
                (score + float(value), [*words, token])
                for score, words in running
                for token, value in enumerate(self.log_probabilities(sound, words, True))
            ]
            found.sort(key=lambda each: -each[0])
            finished += [(score / length, words) for score, words in found[:count] if words[-1] == self.end]
            running = [each for each in found[: 2 * count] if each[1][-1] != self.end][:count]
        finished += [(score / most, words) for score, words in running]
        return [words for _, words in sorted(finished, key=lambda each: -each[0])[:count]]

    def mean(self, sound: np.ndarray, words: list[int]) -> float:
        """What the network itself gives the words, what is ruled out among the others."""
        each = [self.log_probabilities(sound, words[:index], False)[token] for index, token in enumerate(words)]
        return float(torch.stack(each).mean())


@pytest.fixture(scope="module")
def by_hand(folder: Path) -> ByHand:
    return ByHand(folder)


def text(captioner: WhisperCaptioner, words: list[int]) -> str:
    return " ".join(captioner.tokenizer.decode(words, skip_special_tokens=True).split())


def test_greedy_captions_are_those_of_a_loop_by_hand(captioner: WhisperCaptioner, by_hand: ByHand) -> None:
    found = captioner.caption(SOUNDS, num_beams=1, max_tokens=8)
    expected = [by_hand.greedy(sound, 9) for sound in SOUNDS]
    assert [clip[0].caption for clip in found] == [text(captioner, words) for words in expected]
    assert len({clip[0].caption for clip in found}) == 3
    assert {words[-1] == by_hand.end for words in expected} == {True, False}  # some end, some are cut
    for clip, sound, words in zip(found, SOUNDS, expected, strict=True):
        # The loop hears each alone: of a batch the sums round otherwise, by more than a ten-thousandth on some processors.
        ((alone, *_),) = captioner.caption([sound], num_beams=1, max_tokens=8)
        assert alone.log_probability == pytest.approx(by_hand.mean(sound, words), abs=1e-4)
        assert clip[0].log_probability == pytest.approx(alone.log_probability, abs=1e-3)
        assert clip[0].confidence == pytest.approx(np.exp(clip[0].log_probability))


def test_beams_are_those_of_a_search_by_hand(captioner: WhisperCaptioner, by_hand: ByHand) -> None:
    (found,) = captioner.caption(SOUNDS[:1], num_beams=3, num_candidates=3, max_tokens=5)
    expected = by_hand.beams(SOUNDS[0], 6, 3)
    assert [one.caption for one in found] == [text(captioner, words) for words in expected]
    for one, words in zip(found, expected, strict=True):
        assert one.log_probability == pytest.approx(by_hand.mean(SOUNDS[0], words), abs=1e-4)


@pytest.mark.parametrize("style", ["clotho", "audiocaps", "audioset"])
def test_the_style_is_what_captions_go_on_from(folder: Path, style: str) -> None:
    captioner = WhisperCaptioner(str(folder), style=style)
    (ids,) = captioner.prefix.tolist()
    prefix = next(prefix for prefix in STYLES if prefix.startswith(style))
    assert captioner.tokenizer.decode(ids) == f"<|startoftranscript|><|en|><|transcribe|><|notimestamps|>{prefix}"
    assert captioner.tokenizer.decode(ids[-1:]) == " "  # a caption's first word has none of its own
    assert prefix.strip() not in captioner.caption(SOUNDS[:1], max_tokens=5)[0][0].caption


def test_styles_differ(folder: Path) -> None:
    captions = {
        WhisperCaptioner(str(folder), style=style).caption(SOUNDS[:1])[0][0].caption
        for style in ("clotho", "audiocaps", "audioset")
    }
    assert len(captions) > 1


def test_a_recording_longer_than_it_hears_is_captioned_in_parts(captioner: WhisperCaptioner) -> None:
    """What it hears is 2 s here, 30 s as published; nothing is left out."""
    sound = np.random.default_rng(1).normal(0, 0.1, 5 * 16_000).astype(np.float32)
    (found,) = caption_many(captioner, [(sound, 16_000)], max_tokens=6)
    assert isinstance(found, CaptionResult)
    assert [(part.start, part.end) for part in found.parts] == [(0, 2), (2, 3.5), (3.5, 5)]
    for part in found.parts:
        piece = sound[round(part.start * 16_000) : round(part.end * 16_000)]
        assert part.caption == captioner.caption([piece], max_tokens=6)[0][0].caption


def test_weights_as_safetensors_are_read_too(captioner: WhisperCaptioner, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "pytorch_model.bin").unlink()
    WhisperForConditionalGeneration.from_pretrained(folder).save_pretrained(copy)
    assert WhisperCaptioner(str(copy)).caption(SOUNDS, max_tokens=5) == captioner.caption(SOUNDS, max_tokens=5)


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_hostile_pickle_is_not_run(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = torch.load(copy / "pytorch_model.bin", weights_only=True)
    mark = tmp_path / "was run"
    for save in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))):
        save({**weights, "more": Hostile(mark)}, copy / "pytorch_model.bin")
        with pytest.raises(ValueError, match=r"could not load a Whisper .its weights file holds more than numbers"):
            WhisperCaptioner(str(copy))
        assert not mark.exists()
    torch.save({"more": Hostile(mark)}, tmp_path / "control.pt")
    torch.load(tmp_path / "control.pt", weights_only=False)
    assert mark.exists()  # so it would have been


def spoilt(folder: Path, copy: Path, name: str, **changes: Any) -> str:
    if copy != folder:
        shutil.copytree(folder, copy)
    settings = json.loads((copy / name).read_text()) | changes
    (copy / name).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return str(copy)


def test_what_does_not_fit_is_told(folder: Path, captioner: WhisperCaptioner, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"could not load a Whisper .*needs the network once.*captioner\.model=FOLDER"):
        AudioToImage.load("whisper_tiny", image=None)
    with pytest.raises(ValueError, match="a model of type gpt2"):
        WhisperCaptioner(spoilt(folder, tmp_path / "gpt2", "config.json", model_type="gpt2"))
    copy = tmp_path / "tokens"
    spoilt(folder, copy, "added_tokens.json", **{"<|notimestamps|>": None})
    spoilt(copy, copy, "special_tokens_map.json", additional_special_tokens=None)
    with pytest.raises(ValueError, match=r"its tokenizer lacks some of <\|startoftranscript\|>, <\|en\|>"):
        WhisperCaptioner(str(copy))
    with pytest.raises(ValueError, match="its features have 8 bins, and it hears 16 of them"):
        WhisperCaptioner(spoilt(folder, tmp_path / "bins", "preprocessor_config.json", feature_size=8))
    with pytest.raises(ValueError, match="got style='clothes'; expected clotho, audiocaps or audioset"):
        WhisperCaptioner(str(folder), style="clothes")
    with pytest.raises(ValueError, match="expected auto, float32, bfloat16 or float16"):
        WhisperCaptioner(str(folder), dtype="int4")
    with pytest.raises(
        ValueError, match=r"got max_tokens=68 for .*; expected at most 67: its decoder has 80 positions"
    ):
        captioner.caption(SOUNDS[:1], max_tokens=68)
    assert captioner.caption(SOUNDS[:1], max_tokens=67, num_beams=1)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_broken_file_of_weights_is_told(folder: Path, tmp_path: Path, content: bytes) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match="could not load a Whisper") as caught:
        WhisperCaptioner(str(copy))
    assert "\n" not in str(caught.value)


def test_nothing_of_it_is_loaded_unless_asked_for() -> None:
    code = "import a2i.pipeline, sys; print([name for name in sys.modules if 'whisper' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
