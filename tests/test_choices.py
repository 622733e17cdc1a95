"""Every encoder with every decoder, and every experiment: built as configured, a step, saved, loaded, the same captions."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SENTENCES, TINY_AST, TINY_GPT2, tone
from test_configs import EXPERIMENTS, MODELS, WITHOUT_DEFAULT, compose

from a2i.captioner import Captioner
from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.paths import CONF
from a2i.training.building import build_captioner

ENCODERS, DECODERS = (
    sorted(file.stem for file in (CONF / "model" / part).glob("*.yaml")) for part in ("encoder", "decoder")
)
assert len(DECODERS) >= 3  # so that a third of the pairs has every encoder
CLIPS = [
    Clip(f"{index}.wav", Path(f"{index}.wav"), (text,), labels=frozenset({text[:5]}))
    for index, text in enumerate(SENTENCES)
]
# Sizes that step in milliseconds, by the name of a setting.
SMALL = {
    **{"layers": 1, "hidden": 8, "embedding": 8, "attention": 8, "width": 16, "heads": 2, "feedforward": 16, "blocks": 4},
    "frozen_blocks": 0,
    "width_multiplier": 0.1,
    **{"n_embd": 16, "n_layer": 1, "n_head": 2, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"intermediate_size": 16, "patch_frames": 8, "vocab_size": 300},
}  # fmt: skip
SOUNDS = [tone(440, 1.3), np.zeros(9_000, np.float32)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints as the Hub has them: an AST; and a GPT-2 with its tokenizer, whose embedding is padded to a round number."""
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    ASTForAudioClassification(ASTConfig(**TINY_AST, num_labels=5)).save_pretrained(folder / "ast")
    tokenizer = CaptionTokenizer.train(SENTENCES, 320)
    gpt2 = GPT2Config(**{**TINY_GPT2, "n_positions": 80}, vocab_size=384)
    GPT2LMHeadModel(gpt2).save_pretrained(folder / "gpt2")
    tokenizer.save(folder / "gpt2")
    return folder


def small(values: Any) -> Any:
    """A composed configuration in small sizes."""
    if not isinstance(values, dict):
        return values
    channels = {"channels": [4, 8] if isinstance(values.get("channels"), list) else 4} if "channels" in values else {}
    sizes = {name: SMALL[name] for name, value in values.items() if name in SMALL and value is not None}
    return {name: small(value) for name, value in values.items()} | channels | sizes


@functools.cache
def chosen(*overrides: str) -> dict[str, Any]:
    model: dict[str, Any] = small(compose("train", *overrides)["model"])
    return model


def composed(hub: Path, *overrides: str) -> dict[str, Any]:
    """The model that a command composes, small, from local checkpoints in place of the Hub's."""
    return local(hub, chosen(*overrides))


def local(hub: Path, model: dict[str, Any]) -> dict[str, Any]:
    model = copy.deepcopy(model)
    if model["encoder"].get("pretrained") and model["encoder"]["_target_"].endswith("ASTEncoder"):
        model["encoder"] |= {"pretrained": str(hub / "ast"), "revision": None}
        model["encoder"].pop("config", None)
        model["features"]["num_mel_bins"] = max(model["features"]["num_mel_bins"], TINY_AST["num_mel_bins"])
    if name := model["decoder"].get("pretrained"):
        model["decoder"] |= {"pretrained": str(hub / "gpt2"), "revision": None}
        assert model["tokenizer"]["pretrained"] == name, "a decoder brings its own tokenizer"
        model["tokenizer"]["pretrained"] = str(hub / "gpt2")
    elif model["tokenizer"]["pretrained"]:
        model["tokenizer"]["pretrained"] = str(hub / "gpt2")
    return model


def check(model: dict[str, Any], folder: Path) -> None:
    torch.manual_seed(0)
    captioner = build_captioner(model, CLIPS).train()
    assert captioner.decoder.vocab_size == len(captioner.tokenizer)
    tokens = captioner.tokenizer.encode(SENTENCES)
    waveforms = torch.from_numpy(np.stack([tone(300 + 40 * index, 1.0) for index in range(5)]))
    optimizer = torch.optim.Adam(captioner.parameters(), lr=1e-3)
    log_mel, mask = captioner.log_mel(waveforms, torch.full((5,), waveforms.shape[1]))
    loss, _ = captioner.loss(log_mel, mask, tokens, torch.arange(5))
    assert torch.isfinite(loss)
    loss.backward()
    optimizer.step()
    said = captioner.eval().caption(SOUNDS, max_tokens=4)
    captioner.save(folder)
    settings = json.loads((folder / "captioner.json").read_text())
    assert settings["decoder"]["vocab_size"] == captioner.decoder.vocab_size
    assert Captioner.load(folder).caption(SOUNDS, max_tokens=4) == said


def check_pairs(hub: Path, folder: Path, decoder: str, encoders: list[str]) -> None:
    """Where an experiment has others of its own: one that learns words, and one that learns pieces of words."""
    for index, encoder in enumerate(encoders):
        experiment = f"experiment={('gru', 'mini')[index % 2]}"
        # What an encoder brings is its features, what a decoder brings its tokenizer: composing each pair takes long.
        brought = chosen(experiment, f"model/decoder={decoder}")
        model = chosen(experiment, f"model/encoder={encoder}") | {key: brought[key] for key in ("decoder", "tokenizer")}
        check(local(hub, model), folder / encoder)


@pytest.mark.long
@pytest.mark.parametrize("decoder", DECODERS)
def test_encoders_go_with_decoders(hub: Path, tmp_path: Path, decoder: str) -> None:
    """A third of the pairs: each decoder with other encoders, and no encoder is left out."""
    check_pairs(hub, tmp_path, decoder, ENCODERS[DECODERS.index(decoder) % 3 :: 3])


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_encoder_goes_with_every_decoder(hub: Path, tmp_path: Path, decoder: str) -> None:
    check_pairs(hub, tmp_path, decoder, ENCODERS)


@pytest.mark.long
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_saved_and_loaded(hub: Path, tmp_path: Path, experiment: str) -> None:
    check(composed(hub, f"experiment={experiment}"), tmp_path / experiment)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_saved_and_loaded(hub: Path, tmp_path: Path, model: str) -> None:
    check(composed(hub, f"model={model}", *WITHOUT_DEFAULT.get(f"model={model}", ())), tmp_path / model)


def test_the_readmes_choice_has_the_checkpoints_tokenizer(hub: Path) -> None:
    for experiment, encoder in (("gru", "panns_cnn10"), ("mini", "ast")):
        overrides = [f"experiment={experiment}", f"model/encoder={encoder}", "model/decoder=gpt2"]
        model = compose("train", *overrides)["model"]
        assert model["tokenizer"]["pretrained"] == model["decoder"]["pretrained"] == "openai-community/gpt2"
        assert (
            compose("train", *overrides, "model.decoder.pretrained=mine")["model"]["tokenizer"]["pretrained"] == "mine"
        )
        captioner = build_captioner(composed(hub, *overrides), CLIPS)
        assert captioner.tokenizer.tokenizer.get_vocab() == CaptionTokenizer.load(hub / "gpt2").tokenizer.get_vocab()


def test_a_tokenizer_that_a_checkpoint_does_not_know_is_refused(hub: Path, tmp_path: Path) -> None:
    model = composed(hub, "experiment=gru", "model/decoder=gpt2")

    def build(**tokenizer: Any) -> Captioner:
        return build_captioner({**model, "tokenizer": {**model["tokenizer"], **tokenizer}}, CLIPS)

    with pytest.raises(ValueError, match=r"a tokenizer to be trained; .*set model/tokenizer=checkpoint"):
        build(pretrained=None, kind="words")
    CaptionTokenizer.train(SENTENCES, 300).save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"which has other tokens; .*set model/tokenizer=checkpoint"):
        build(pretrained=str(tmp_path / "other"))
    CaptionTokenizer.load(hub / "gpt2").save(tmp_path / "same")
    assert build(pretrained=str(tmp_path / "same"))
    # Weights without a tokenizer: as many rows as tokens, or a few more.
    build().decoder.model.save_pretrained(tmp_path / "bare")
    model["decoder"]["pretrained"] = str(tmp_path / "bare")
    assert build(pretrained=str(tmp_path / "same"))
    CaptionTokenizer.train(SENTENCES, 330).save(tmp_path / "larger")
    with pytest.raises(ValueError, match="which has other tokens"):
        build(pretrained=str(tmp_path / "larger"))
