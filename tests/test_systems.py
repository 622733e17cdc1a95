"""The systems of `conf/experiment` and `conf/model`, built as `python -m a2i.train` builds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCES, tone
from test_configs import compose

from a2i.captioner import Captioner
from a2i.data import Clip
from a2i.training.building import build_captioner

SMALL = ["small_ast_gpt2", "small_cnn_gpt2", "small_act", "small_cnn10_transformer", "small_gru", "small_crnn_gru"]
PUBLISHED = {"act": 103, "cnn10_transformer": 7, "gru": 4, "crnn_gru": 3}  # millions of weights, with these few words
CLIPS = [Clip(sentence, Path(sentence), (sentence,)) for sentence in SENTENCES]
SOUNDS = [tone(300, 1.2), np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)]


def features(captioner: Captioner) -> tuple[torch.Tensor, torch.Tensor]:
    padded = torch.zeros(2, 30_000)
    for row, sound in zip(padded, SOUNDS, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    return captioner.log_mel(padded, torch.tensor([len(sound) for sound in SOUNDS]))


@pytest.mark.parametrize("model", SMALL)
def test_each_in_its_small_size_learns_and_is_kept(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = compose("train", "experiment=study/comparison", f"model={model}")
    captioner = build_captioner(config["model"], CLIPS)
    tokens = captioner.tokenizer.encode(SENTENCES[:2])
    loss, _ = captioner.train().loss(*features(captioner), tokens, torch.tensor([0, 1]))
    loss.backward()
    weights = {name: weight for name, weight in captioner.named_parameters() if weight.requires_grad}
    assert 0.5e6 < sum(weight.numel() for weight in weights.values()) < 4e6
    assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in weights.values())
    expected = captioner.eval().caption(SOUNDS, max_tokens=5)
    assert Captioner.load(captioner.save(tmp_path / "captioner")).caption(SOUNDS, max_tokens=5) == expected


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_in_its_papers_size(name: str) -> None:
    """Built without memory for the weights."""
    config = compose("train", f"experiment={name}")
    config["model"]["features"] = {"num_mel_bins": 64}  # torchaudio wants to see other kinds' filters
    with torch.device("meta"):
        captioner = build_captioner(config["model"], CLIPS)
    weights = sum(weight.numel() for weight in captioner.parameters() if weight.requires_grad)
    assert round(weights / 1e6) == PUBLISHED[name]
    assert captioner.tokenizer.decode(captioner.tokenizer.encode(["A dog barks."]).inputs[0].tolist()) == "a dog barks"


@pytest.mark.parametrize("model", SMALL)
def test_mixed_precision_learns_alike(model: str) -> None:
    torch.manual_seed(0)
    config = compose("train", "experiment=study/comparison", f"model={model}")
    captioner = build_captioner(config["model"], CLIPS).eval()
    tokens, clips = captioner.tokenizer.encode(SENTENCES[:2]), torch.tensor([0, 1])
    expected = float(captioner.loss(*features(captioner), tokens, clips)[0].detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = captioner.loss(*features(captioner), tokens, clips)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected, rel=0.02)
    assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in captioner.parameters())


ENCODERS = {
    "act": "act",
    "ast_mini": "ast",
    "panns_cnn10": "panns",
    "cnn_mini": "cnn",
    "crnn": "crnn",
    "gru": "gru",
    "mobilenet_mn10": "mobilenet",
    "sound_effects": "sound_effects",
}
DECODERS = {"gpt2_mini": "gpt2", "gru": "gru", "transformer": "transformer"}


@pytest.mark.long
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_pair_from_the_command_line(encoder: str, decoder: str) -> None:
    """In place of a system's own parts, whatever the bridge has to fit; built without memory for the weights."""
    system = "act" if decoder == "gru" else "gru"  # so that the decoder is never the system's own
    config = compose("train", f"experiment={system}", f"model/encoder={encoder}", f"model/decoder={decoder}")
    with torch.device("meta"):
        captioner = build_captioner(config["model"], CLIPS)
    names = [captioner.encoder.name, captioner.decoder.name]
    assert names == [ENCODERS[encoder], DECODERS[decoder]]
    fits = captioner.encoder.width == captioner.decoder.width
    assert captioner.bridge.kind == ("identity" if fits else "projection")


@pytest.mark.parametrize("model", SMALL)
def test_captions_at_lower_precision(model: str) -> None:
    torch.manual_seed(0)
    captioner = build_captioner(
        compose("train", "experiment=study/comparison", f"model={model}")["model"], CLIPS
    ).eval()
    exact = captioner.caption(SOUNDS, max_tokens=4, num_beams=2)
    lower = captioner.caption(SOUNDS, max_tokens=4, num_beams=2, precision="bfloat16")
    for (one, *_), (other, *_) in zip(exact, lower, strict=True):
        assert one.log_probability != other.log_probability
        assert one.log_probability == pytest.approx(other.log_probability, abs=0.1)
    with pytest.raises(ValueError, match="got precision='float16'; expected float32 or bfloat16"):
        captioner.caption(SOUNDS, precision="float16")
