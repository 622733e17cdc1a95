import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_captioner
from torch import Tensor
from torch.nn import functional

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.encoders.sound_effects import SoundEffectsCNN
from a2i.captioner.text import CaptionTokenizer
from a2i.features import FeatureSettings, LogMel
from a2i.training.module import CaptionModule

SIZES = [2, 4, 6, 8]
REFERENCE = Path(__file__).parent / "reference" / "sound_effects.npz"  # by experiments/world/sound_effects_reference.py


def make(seed: int = 0) -> SoundEffectsCNN:
    torch.manual_seed(seed)
    encoder = SoundEffectsCNN(SIZES)
    for name, value in encoder.state_dict().items():  # statistics and biases as training leaves them
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return encoder.eval()


def published_file(encoder: SoundEffectsCNN, path: Path) -> Path:
    """A checkpoint as Ma and Lerch publish it: the network's weights and classifiers, and the libraries' numbers."""
    weights = {f"embedding_net.{name}": value for name, value in encoder.state_dict().items()}
    weights |= {"fc.0.0.weight": torch.zeros(4, encoder.width), "fc.0.0.bias": torch.zeros(4)}
    torch.save((weights, {"prosfx": (np.int64(0), 78)}), saved := path.with_suffix(".new"))
    with zipfile.ZipFile(saved) as members, zipfile.ZipFile(path, "w") as old:
        for name in members.namelist():  # as the NumPy of 2022 was named
            old.writestr(name, members.read(name).replace(b"numpy._core.", b"numpy.core."))
    return path


def as_published(weights: dict[str, Tensor], log_mel: Tensor) -> Tensor:
    """(B, T, F) → (B, D): the published network's layers one after another, from its weights alone."""
    hidden = log_mel[:, None]
    for block in range(1, 5):
        for part in (1, 2):
            hidden = functional.conv2d(hidden, weights[f"conv_block{block}.conv{part}.weight"], padding=1)
            norm = f"conv_block{block}.bn{part}"
            own = [weights[f"{norm}.{value}"] for value in ("running_mean", "running_var", "weight", "bias")]
            hidden = functional.batch_norm(hidden, *own).relu()
        hidden = functional.max_pool2d(hidden, 1 if block == 4 else 2)
    return hidden.mean(dim=3).amax(dim=2)


def embedding(encoder: SoundEffectsCNN, log_mel: Tensor) -> Tensor:
    states, mask = encoder(log_mel, torch.ones(log_mel.shape[:2], dtype=torch.bool))
    assert mask.all()
    return states.amax(dim=1)


@pytest.mark.parametrize("frames", [8, 100, 117])
def test_a_published_checkpoint_gives_what_the_published_network_gives(frames: int, tmp_path: Path) -> None:
    original = make()
    path = published_file(original, tmp_path / "checkpoint.pth")
    encoder = SoundEffectsCNN(SIZES, pretrained=str(path), frozen_blocks=1).eval()
    log_mel = torch.rand(2, frames, 96)
    expected = as_published(original.state_dict(), log_mel)
    assert torch.allclose(embedding(encoder, log_mel), expected, atol=1e-5)
    assert expected.std() > 0.01
    padded, mask = functional.pad(log_mel, (0, 0, 0, 40)), torch.arange(frames + 40)[None] < frames
    states, states_mask = encoder(padded, mask.expand(2, -1))
    assert states_mask.sum(dim=1).tolist() == [frames // 8] * 2
    assert torch.allclose(states.masked_fill(~states_mask[:, :, None], 0).amax(dim=1), expected, atol=1e-5)


def test_published_size() -> None:
    """Weights of the published network, counted in its checkpoint."""
    with torch.device("meta"):
        assert sum(weight.numel() for weight in SoundEffectsCNN().parameters()) == 4_686_144


def recordings(real_data: Path) -> tuple[dict[str, np.ndarray], list[Tensor]]:
    """The reference's numbers, and the log-mels that we compute of its recordings."""
    with np.load(REFERENCE) as file:
        reference = dict(file)
    log_mel = LogMel(FeatureSettings(num_mel_bins=96, kind="sound_effects"))
    sounds = [torch.from_numpy(audio.load(real_data / name, 44_100))[None] for name in reference["recordings"]]
    return reference, [log_mel(sound, torch.tensor([sound.shape[1]]))[0][0] for sound in sounds]


def test_log_mels_of_recordings_equal_the_published_packages(real_data: Path) -> None:
    reference, ours = recordings(real_data)
    assert [len(log_mel) for log_mel in ours] == reference["counts"].tolist()
    for log_mel, expected in zip(ours, reference["log_mels"], strict=True):
        assert np.abs(log_mel[reference["frames"]].numpy() - expected).max() < 1e-4


@pytest.mark.network
def test_embeddings_of_recordings_equal_the_published_packages(real_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "aisfx==0.1.2"]
    subprocess.run([*command, "--dest", tmp_path], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    encoder = SoundEffectsCNN(pretrained=str(wheel)).eval()
    reference, ours = recordings(real_data)
    for log_mel, expected in zip(ours, reference["embeddings"], strict=True):
        windows = log_mel.unfold(0, 100, 50)[: len(expected)].transpose(1, 2)
        with torch.no_grad():
            assert np.abs(embedding(encoder, windows).numpy() - expected).max() < 1e-4


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(({}, {"prosfx": Evil()}), "evil.pth")
    torch.save({"model": {}}, "other.pth")
    torch.save([], "short.pth")
    torch.save((torch.zeros(2), {}), "tensor.pth")
    Path("text.pth").write_text("no weights")
    for name in ("evil.pth", "other.pth", "short.pth", "tensor.pth", "text.pth", "missing.pth", "missing.whl"):
        with pytest.raises(ValueError, match=r"could not load weights from .*pip download --no-deps aisfx==0\.1\.2"):
            SoundEffectsCNN(SIZES, pretrained=name)
    assert not Path("evil").exists()
    Path("aisfx-0.1.2-py2.py3-none-any.whl").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"its SHA-256 is [0-9a-f]{64}, not bfe219950715"):
        SoundEffectsCNN(SIZES, pretrained="aisfx-0.1.2-py2.py3-none-any.whl")
    with pytest.raises(ValueError, match="not those of this encoder"):
        SoundEffectsCNN([4, 4, 6, 8], pretrained=str(published_file(make(), Path("small.pth"))))
    with pytest.raises(ValueError, match="8 bins or more"):
        SoundEffectsCNN(num_mel_bins=7)
    for blocks in (-1, 5, True):
        with pytest.raises(ValueError, match=f"got frozen_blocks={blocks}"):
            SoundEffectsCNN(SIZES, frozen_blocks=blocks)


def test_another_captioners_encoder_is_a_beginning(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    other = make(seed=3)
    folder = Captioner(other, captioner.decoder, tokenizer).save(tmp_path / "captioner")
    encoder = SoundEffectsCNN(SIZES, pretrained=str(folder))
    for name, weight in other.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)


def test_frozen_blocks_stay_as_they_are_in_training(tokenizer: CaptionTokenizer) -> None:
    """Weights and statistics; the others learn, and change their statistics."""
    torch.manual_seed(0)
    encoder = SoundEffectsCNN(SIZES, frozen_blocks=2)
    captioner = Captioner(encoder, make_captioner(tokenizer).decoder, tokenizer)
    module = CaptionModule(captioner, lambda groups: torch.optim.SGD(groups, 0.1)).train()
    optimizer = module.make_optimizer(module.parameter_groups())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(torch.rand(2, 64, 96), torch.ones(2, 64, dtype=torch.bool))[0].square().sum().backward()
    optimizer.step()
    changed = {
        name.split(".")[0] for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"conv_block3", "conv_block4"}
    assert encoder.conv_block4.training
    assert not encoder.conv_block2.training
    assert not encoder.conv_block2.bn1.training


def test_states_of_bands_have_the_published_one_as_their_mean() -> None:
    whole, three = make(), SoundEffectsCNN(SIZES, bands=3).eval()
    three.load_state_dict(whole.state_dict())
    log_mel, mask = torch.rand(2, 40, 96), torch.arange(40)[None] < torch.tensor([[40], [24]])
    states, states_mask = three(log_mel, mask)
    expected, expected_mask = whole(log_mel, mask)
    assert states.shape == (2, 5, three.width) == (2, 5, 3 * SIZES[-1])
    assert torch.equal(states_mask, expected_mask)
    bands = states.unflatten(2, (3, -1))
    assert torch.allclose(bands.mean(dim=2), expected, atol=1e-6)
    low = log_mel.clone()
    low[:, :, 64:] = 0  # what the highest band hears changes the highest band most
    change = (three(low, mask)[0].unflatten(2, (3, -1)) - bands).abs().mean(dim=(0, 1, 3))
    assert change.argmax() == 2
    with pytest.raises(ValueError, match="got bands=5; expected a divisor of 12"):
        SoundEffectsCNN(SIZES, bands=5)
