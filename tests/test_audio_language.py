"""A complete Qwen2-Audio with tiny random weights, in its own format on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone
from pretrained_models import make_qwen2_audio

from a2i.captioner.audio_language import AudioLanguageCaptioner
from a2i.pipeline import AudioToImage

SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen2_audio(tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> AudioLanguageCaptioner:
    return AudioLanguageCaptioner(str(folder))


@torch.no_grad()
def test_the_log_probability_is_that_of_the_words(captioner: AudioLanguageCaptioner) -> None:
    """Read back from one pass over prompt and caption, for greedy captions and for those of beams."""
    inputs = captioner.processor(
        text=captioner.prompt, audio=SOUNDS[:1], sampling_rate=16_000, return_tensors="pt", padding=True
    )
    prompt = inputs["input_ids"].shape[1]
    for beams in (1, 3):
        config = captioner.generation_config(captioner.decoding_with(num_beams=beams, max_tokens=6))
        ids = captioner.model.generate(**inputs, generation_config=config).sequences
        more = {"attention_mask": torch.ones_like(ids)}
        logits = captioner.model(**{**inputs, "input_ids": ids, **more}).logits[0, prompt - 1 : -1]
        new = ids[0, prompt:]
        ends = (new == 0).nonzero()
        length = int(ends[0]) + 1 if len(ends) else len(new)
        expected = logits.log_softmax(-1)[torch.arange(length), new[:length]].mean()
        found = captioner.caption(SOUNDS[:1], num_beams=beams, max_tokens=6)[0][0]
        assert found.log_probability == pytest.approx(float(expected), abs=1e-3)


def test_several_candidates(captioner: AudioLanguageCaptioner) -> None:
    beams = captioner.caption(SOUNDS[:2], num_beams=4, num_candidates=3, max_tokens=6)
    torch.manual_seed(0)
    drawn = captioner.caption(SOUNDS[:2], do_sample=True, num_candidates=6, max_tokens=6)
    for clips in (beams, drawn):
        for candidates in clips:
            assert len({one.caption for one in candidates}) == len(candidates) > 1
    scores = [one.log_probability for one in drawn[0]]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(ValueError, match="'beams'"):
        captioner.caption(SOUNDS[:1], beams=2)
    with pytest.raises(ValueError, match=r"captioner\.dtype=bfloat16"):
        captioner.caption(SOUNDS[:1], precision="bfloat16")


def test_what_is_too_long_is_cut_at_what_it_hears(captioner: AudioLanguageCaptioner) -> None:
    (short, long) = captioner.caption([SOUNDS[2][:32_000], SOUNDS[2]], max_tokens=6)
    assert short[0].caption == long[0].caption


def test_what_can_not_be_had_is_told(folder: Path, tmp_path: Path, captioner_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"17 GB, needs the network once.*captioner\.model=FOLDER"):
        AudioToImage.load("qwen2_audio", image=None)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="a model of type gpt2"):
        AudioLanguageCaptioner(str(tmp_path))
    with pytest.raises(ValueError, match=r"expected <\|AUDIO\|> in it"):
        AudioLanguageCaptioner(str(folder), prompt="What is heard?")
    with pytest.raises(ValueError, match="expected auto"):
        AudioLanguageCaptioner(str(folder), dtype="int4")
    with pytest.raises(FileNotFoundError, match="qwen2_audio"):
        AudioToImage.load(tmp_path, image=None)


def test_nothing_of_it_is_loaded_unless_asked_for() -> None:
    code = (
        "import a2i.pipeline, sys; print([name for name in sys.modules if 'qwen2' in name or 'audio_language' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
