from pathlib import Path

import pytest
import torch
from conftest import make_captioner
from torch import Tensor
from torch.nn import functional

from a2i.captioner import Captioner
from a2i.captioner.encoders.panns import PANNsEncoder
from a2i.captioner.text import CaptionTokenizer
from a2i.features import FeatureSettings

SETTINGS = FeatureSettings(num_mel_bins=64, kind="panns_16k")


def make(blocks: int, seed: int = 0) -> PANNsEncoder:
    torch.manual_seed(seed)
    encoder = PANNsEncoder(blocks=blocks, channels=2)
    for name, value in encoder.state_dict().items():  # statistics and biases as training leaves them
        if name.endswith(("running_mean", "bias")):
            value.normal_(-30 if name == "bn0.running_mean" else 0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2).mul_(100 if name == "bn0.running_var" else 1)
    return encoder.eval()


def published_file(encoder: PANNsEncoder, path: Path, points: int = 257) -> Path:
    """A checkpoint as Kong et al. publish them: under `model`, with front end and classifier."""
    more = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(points, 1, 2 * points - 2),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(points, 1, 2 * points - 2),
        "logmel_extractor.melW": torch.zeros(points, 64),
        "fc_audioset.weight": torch.zeros(527, encoder.width),
        "fc_audioset.bias": torch.zeros(527),
    }
    torch.save({"iteration": 660_000, "model": {**encoder.state_dict(), **more}}, path)
    return path


def as_published(weights: dict[str, Tensor], decibels: Tensor, blocks: int) -> Tensor:
    """(1, T, 64) in dB → (1, S, D): the published networks' layers one after another, from their weights alone."""

    def norm(name: str, hidden: Tensor) -> Tensor:
        own = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(hidden, *own)

    hidden = norm("bn0", decibels[:, None].transpose(1, 3)).transpose(1, 3)
    for index in range(1, blocks + 1):
        for part in (1, 2):
            hidden = functional.conv2d(hidden, weights[f"conv_block{index}.conv{part}.weight"], padding=1)
            hidden = norm(f"conv_block{index}.bn{part}", hidden).relu()
        hidden = functional.avg_pool2d(hidden, 1 if index == 6 else 2)
    states = hidden.mean(dim=3).transpose(1, 2)
    return functional.linear(states, weights["fc1.weight"], weights["fc1.bias"]).relu()


@pytest.mark.parametrize("blocks", [4, 6])
@pytest.mark.parametrize("frames", [32, 101, 223, 320])
def test_a_published_checkpoint_gives_what_the_published_network_gives(
    blocks: int, frames: int, tmp_path: Path
) -> None:
    original = make(blocks)
    pretrained = published_file(original, tmp_path / "Cnn_mAP=0.4.pth")
    encoder = PANNsEncoder(blocks=blocks, channels=2, pretrained=str(pretrained)).eval()
    decibels = 20 * torch.randn(1, frames, 64) - 40
    padded = torch.cat((decibels, torch.full((1, 60, 64), -100.0)), dim=1)
    mask = torch.arange(frames + 60)[None] < frames
    states, states_mask = encoder(SETTINGS.normalised(padded), mask)
    expected = as_published(original.state_dict(), decibels, blocks)
    assert expected.shape[1] == frames // (16 if blocks == 4 else 32) == states_mask.sum()
    assert torch.allclose(states[states_mask], expected[0], atol=1e-5)
    assert expected.std() > 0.01


def test_published_sizes() -> None:
    """Kong et al. 2020, table XII: 5,219,279 and 80,753,615, the classifier of 527 kinds among them."""
    for blocks, published in ((4, 5_219_279), (6, 80_753_615)):
        with torch.device("meta"):
            encoder = PANNsEncoder(blocks=blocks)
        own = sum(weight.numel() for weight in encoder.parameters())
        assert own + 527 * (encoder.width + 1) == published


def test_weights_for_other_features_are_refused(tmp_path: Path) -> None:
    path = published_file(make(4), tmp_path / "Cnn10_mAP=0.380.pth", points=513)
    with pytest.raises(ValueError, match=r"model\.features\.kind=panns_32k"):
        PANNsEncoder(blocks=4, channels=2, pretrained=str(path))
    assert PANNsEncoder(blocks=4, channels=2, pretrained=str(path), features="panns_32k").settings["blocks"] == 4


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, "evil.pth")
    Path("text.pth").write_text("no weights")
    Path("empty").mkdir()
    for name in ("evil.pth", "text.pth", "missing.pth", "empty"):
        with pytest.raises(ValueError, match="could not load weights from"):
            PANNsEncoder(channels=2, pretrained=name)
    assert not Path("evil").exists()
    with pytest.raises(ValueError, match="not those of this encoder"):
        PANNsEncoder(channels=4, pretrained=str(published_file(make(4), Path("small.pth"))))
    with pytest.raises(ValueError, match="32 bins or more"):
        PANNsEncoder(blocks=6, num_mel_bins=16)


def test_another_captioners_encoder_is_a_beginning(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """Transfer: what one captioner learnt to hear, another begins with."""
    other = make_captioner(tokenizer)
    other.encoder = make(4, seed=3)
    folder = Captioner(other.encoder, other.decoder, tokenizer).save(tmp_path / "captioner")
    encoder = PANNsEncoder(channels=2, pretrained=str(folder))
    for name, weight in other.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)
