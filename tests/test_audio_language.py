"""Audio-language models with tiny random weights, each complete in its own format on disk."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone
from pretrained_models import make_audio_flamingo3, make_qwen2_5_omni, make_qwen2_audio
from transformers import (
    AudioFlamingo3ForConditionalGeneration,
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniProcessor,
    Qwen2AudioForConditionalGeneration,
    WhisperFeatureExtractor,
)

from a2i.captioner.audio_language import AudioLanguageCaptioner
from a2i.captioner.decoding import Decoding
from a2i.models import load_captioner
from a2i.names import named_settings
from a2i.pipeline import AudioToImage

SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen2_audio(tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> AudioLanguageCaptioner:
    return AudioLanguageCaptioner(str(folder))


MAKERS = {
    "qwen2_audio": make_qwen2_audio,
    "qwen2_5_omni": make_qwen2_5_omni,
    "audio_flamingo3": make_audio_flamingo3,
}
TURN = "<|im_start|>{}\n{}<|im_end|>\n"
# As the chat templates that come with the published models fill them in.
OMNI = TURN.format(
    "system",
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and visual inputs,"
    " as well as generating text and speech.",
)
OMNI += TURN.format("user", "<|audio_bos|><|AUDIO|><|audio_eos|>Describe the sound in one sentence.")
FLAMINGO = TURN.format("system", "You are a helpful assistant.")
FLAMINGO += TURN.format("user", "<sound>Describe the sound in one sentence.")
ASSISTANT = "<|im_start|>assistant\n"


@pytest.fixture(scope="module", params=sorted(MAKERS))
def any_of_them(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AudioLanguageCaptioner:
    folder = MAKERS[request.param](tmp_path_factory.mktemp("models") / request.param)
    made = load_captioner(
        (named_settings("captioner", request.param) or {}) | {"model": str(folder)}, torch.device("cpu")
    )
    assert isinstance(made, AudioLanguageCaptioner)
    return made


def by_hand(folder: str, sound: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """What `transformers` itself makes of the folder and of a sound, with all of Qwen2.5-Omni."""
    kind = AutoConfig.from_pretrained(folder).model_type
    if kind == "qwen2_5_omni":
        kind = Qwen2_5OmniForConditionalGeneration
        model = super(kind, kind).from_pretrained(folder).thinker  # its own wants the voice besides
        # Whole it would want torchvision, for pictures.
        processor = object.__new__(Qwen2_5OmniProcessor)
        processor.feature_extractor = WhisperFeatureExtractor.from_pretrained(folder)
        processor.audio_token = "<|AUDIO|>"
        settings = {"sampling_rate": 16_000, "return_attention_mask": True, "return_tensors": "pt"}
        heard, (places,) = processor._process_audio([sound], **settings)
        tokens = AutoTokenizer.from_pretrained(folder)(
            (OMNI + ASSISTANT).replace("<|AUDIO|>", places), return_tensors="pt"
        )
        names = ("input_features", "feature_attention_mask")
        return model, {**tokens, **{name: heard[name] for name in names}}
    whole = AudioFlamingo3ForConditionalGeneration if kind == "audioflamingo3" else Qwen2AudioForConditionalGeneration
    prompt = "<|audio_bos|><|AUDIO|><|audio_eos|>Generate the caption in English:"
    prompt = FLAMINGO + ASSISTANT if kind == "audioflamingo3" else prompt
    inputs = AutoProcessor.from_pretrained(folder)(text=[prompt], audio=[sound], return_tensors="pt")
    return whole.from_pretrained(folder), dict(inputs)


def test_captions_are_those_of_transformers_own_call(any_of_them: AudioLanguageCaptioner) -> None:
    model, inputs = by_hand(any_of_them.name, SOUNDS[0])
    ours = any_of_them.inputs(SOUNDS[:1])
    assert set(ours) == set(inputs)
    for name, value in inputs.items():
        assert torch.equal(value, ours[name]), name
    ends = {"eos_token_id": any_of_them.generation_config(Decoding(num_beams=1)).eos_token_id, "pad_token_id": 0}
    ids = model.eval().generate(**inputs, **ends, do_sample=False, max_new_tokens=7, min_new_tokens=1)
    text = any_of_them.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    (found,) = any_of_them.caption(SOUNDS[:1], max_tokens=6)
    assert found[0].caption == " ".join(text.split())


def test_what_ends_a_turn_ends_a_caption(any_of_them: AudioLanguageCaptioner) -> None:
    ends = any_of_them.tokenizer.convert_ids_to_tokens(
        any_of_them.generation_config(Decoding(num_beams=1)).eos_token_id
    )
    known = any_of_them.tokenizer.get_vocab()
    assert set(ends) == {"<|endoftext|>"} | ({"<|im_end|>"} & set(known))


@pytest.mark.parametrize(
    ("device", "said"), [("cpu", "true on cpu; expected it on a CUDA device"), ("cuda", r"pip install 'a2i\[4bit\]'")]
)
def test_4_bits_want_a_gpu_and_bitsandbytes(
    device: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that it has not been tried, for want of a GPU."""
    monkeypatch.setattr("a2i.captioner.audio_language.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=said):
        AudioLanguageCaptioner(str(folder), load_in_4bit=True, device=device)


@torch.no_grad()
def test_the_log_probability_is_that_of_the_words(any_of_them: AudioLanguageCaptioner) -> None:
    """Read back from one pass over prompt and caption, for greedy captions and for those of beams."""
    captioner = any_of_them
    inputs = captioner.inputs(SOUNDS[:1])
    prompt = inputs["input_ids"].shape[1]
    for beams in (1, 3):
        config = captioner.generation_config(captioner.decoding_with(num_beams=beams, max_tokens=6))
        ids = captioner.model.generate(**inputs, generation_config=config).sequences
        more = {"attention_mask": torch.ones_like(ids)}
        logits = captioner.model(**{**inputs, "input_ids": ids, **more}).logits[0, prompt - 1 : -1]
        new = ids[0, prompt:]
        ends = torch.isin(new, torch.tensor(config.eos_token_id)).nonzero()
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
