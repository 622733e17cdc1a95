"""A complete Qwen2-Audio with tiny random weights, in its own format on disk."""

import json
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from conftest import SENTENCES, tone
from programs import run
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from a2i.captioner.audio_language import AudioLanguageCaptioner
from a2i.captioner.text import CaptionTokenizer
from a2i.command_line import arguments as use_names
from a2i.compose import plain
from a2i.evaluate.captioning import predict
from a2i.evaluate.systems import read_if_written
from a2i.paths import CONF
from a2i.pipeline import AudioToImage

SPECIAL = ["<|endoftext|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "qwen"
    backend = CaptionTokenizer.train(SENTENCES, 300).tokenizer.backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL[0], pad_token=SPECIAL[0])
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2)  # hears 2 s: 200 frames
    Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(path)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    config = Qwen2AudioConfig(
        audio_config={
            **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
            **{"num_mel_bins": 16, "max_source_positions": 100},
        },
        text_config={**sizes, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 256},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config)
    for weight in model.parameters():
        weight.data *= 4  # so that it says something else of each clip
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def captioner(folder: Path) -> AudioLanguageCaptioner:
    return AudioLanguageCaptioner(str(folder))


def test_batch_equals_one_by_one(captioner: AudioLanguageCaptioner) -> None:
    together = captioner.caption(SOUNDS, max_tokens=8)
    assert len({candidates[0].caption for candidates in together}) > 1
    for sound, candidates in zip(SOUNDS, together, strict=True):
        alone = captioner.caption([sound], max_tokens=8)[0]
        assert [one.caption for one in alone] == [one.caption for one in candidates]
        assert alone[0].log_probability == pytest.approx(candidates[0].log_probability, abs=1e-3)


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


def test_a_clip_of_one_sample(captioner: AudioLanguageCaptioner) -> None:
    click = np.ones(1, np.float32)
    alone, together = captioner.caption([click], max_tokens=6), captioner.caption([click, SOUNDS[0]], max_tokens=6)
    assert alone[0][0].caption == together[0][0].caption


def test_it_is_a_captioner_like_any_other(captioner: AudioLanguageCaptioner) -> None:
    result = AudioToImage.load(captioner, image=None)(SOUNDS[0], sampling_rate=16_000, max_tokens=6)
    assert result.caption == captioner.caption(SOUNDS[:1], max_tokens=6)[0][0].caption
    assert 0 < result.confidence < 1


def test_infer_by_name(folder: Path, sounds: Path, tmp_path: Path) -> None:
    settings = ["captioner=qwen2_audio", f"captioner.model={folder}", "device=cpu", "decoding.max_tokens=6"]
    done = run("infer", f"audio={sounds}", "image=none", f"out={tmp_path}", *settings)
    assert done.returncode == 0, done.stderr
    assert f"captions by {folder}, licence: Apache-2.0" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows] == [None] * 3
    assert {row["captioner"] for row in rows} == {str(folder)}


def test_evaluate_by_name(folder: Path, sounds: Path) -> None:
    (sounds / "captions.csv").write_text(
        "file_name,caption_1,split\nlow.wav,A hum.,test\nmiddle.wav,A tone.,train\nhigh.wav,A whistle.,test\n"
    )
    arguments = ["captioner=qwen2_audio", f"captioner.model={folder}", "data=folder", f"data.root={sounds}"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        settings = plain(hydra.compose("evaluate", [*use_names(arguments, "evaluate"), "decoding.max_tokens=6"]))
    assert read_if_written("qwen2_audio") is None
    rows = predict(settings["captioner"], settings["data"], decoding=settings["decoding"], device="cpu")
    assert [row.file_name for row in rows] == ["high.wav", "low.wav"]
    assert all(row.candidates and 0 < (row.confidence or 0) < 1 for row in rows)


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
