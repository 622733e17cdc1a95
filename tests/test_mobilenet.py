"""MobileNets against their layers one after another, written out from a state dict alone; the published layout; bad files."""

from pathlib import Path

import pytest
import torch
from conftest import make_captioner
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, hardswish, linear

from a2i.captioner import Captioner
from a2i.captioner.encoders.mobilenet import MobileNetEncoder
from a2i.captioner.text import CaptionTokenizer

# Stride, activation of each block.
BLOCKS = ["1R", "2R", "1R", "2R", "1R", "1R", "2H", "1H", "1H", "1H", "1H", "1H", "2H", "1H", "1H"]
SQUEEZING = (4, 5, 6, 11, 12, 13, 14, 15)
PUBLISHED = {0.4: 0.983, 0.5: 1.43, 1.0: 4.88, 2.0: 17.91, 3.0: 39.09, 4.0: 68.43}  # M weights, of the authors' table


def shapes(width: float) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint, classifier and all."""

    def channels(value: float) -> int:
        rounded = max(8, int(value * width + 4) // 8 * 8)
        return rounded + 8 * (rounded < 0.9 * value * width)

    found: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, before: int, after: int, kernel: int) -> None:
        found[f"{name}.0.weight"] = (after, before, kernel, kernel)
        for value in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.1.{value}"] = (after,)
        found[f"{name}.1.num_batches_tracked"] = ()

    before = channels(16)
    convolution("features.0", 1, before, 3)
    expanded = (16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960)
    after = (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160)
    for block, kernel in enumerate((3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5), start=1):
        inner, out = channels(expanded[block - 1]), channels(after[block - 1])
        place = 0
        if inner != before:
            convolution(f"features.{block}.block.{place}", before, inner, 1)
            place += 1
        convolution(f"features.{block}.block.{place}", 1, inner, kernel)
        place += 1
        if block in SQUEEZING:
            squeezed = max(8, (inner // 4 + 4) // 8 * 8)
            squeezed += 8 * (squeezed < 0.9 * (inner // 4))
            name = f"features.{block}.block.{place}.conc_se_layers.0"
            found |= {f"{name}.fc1.weight": (squeezed, inner), f"{name}.fc1.bias": (squeezed,)}
            found |= {f"{name}.fc2.weight": (inner, squeezed), f"{name}.fc2.bias": (inner,)}
            place += 1
        convolution(f"features.{block}.block.{place}", inner, out, 1)
        before = out
    convolution("features.16", before, 6 * before, 1)
    last = channels(1280)
    found |= {"classifier.2.weight": (last, 6 * before), "classifier.2.bias": (last,)}
    return found | {"classifier.5.weight": (527, last), "classifier.5.bias": (527,)}


def published(width: float) -> dict[str, Tensor]:
    """Random weights and statistics in that layout, with which sound comes through to the last layer."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes(width).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            values = torch.tensor(7)
        elif name.endswith("running_var") or name.endswith("1.weight"):
            values = 1 + 0.2 * values.tanh()
        elif len(shape) == 1:
            values = 0.3 * values
        else:
            values = values * (2 / values[0].numel()) ** 0.5
        weights[name] = values
    return weights


def as_published(weights: dict[str, Tensor], log_mel: Tensor) -> Tensor:
    """(B, T, F) → (B, D, F / 32, T / 32): the published network's layers, from its weights alone."""

    def convolution(name: str, hidden: Tensor, activation: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.0.weight"]
        groups = hidden.shape[1] // kernel.shape[1]  # 1, or every channel by itself
        hidden = conv2d(hidden, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        own = [weights[f"{name}.1.{value}"] for value in ("running_mean", "running_var", "weight", "bias")]
        hidden = batch_norm(hidden, *own, eps=0.001)
        return {"R": torch.relu, "H": hardswish, "": lambda hidden: hidden}[activation](hidden)

    hidden = convolution("features.0", log_mel.transpose(1, 2)[:, None], "H", stride=2)
    for block, (stride, activation) in enumerate(BLOCKS, start=1):
        given, name, place = hidden, f"features.{block}.block", 0
        if block > 1:
            hidden, place = convolution(f"{name}.0", hidden, activation), 1
        hidden, place = convolution(f"{name}.{place}", hidden, activation, int(stride)), place + 1
        if block in SQUEEZING:
            layers = f"{name}.{place}.conc_se_layers.0"
            first, second = (
                (weights[f"{layers}.{fc}.weight"], weights[f"{layers}.{fc}.bias"]) for fc in ("fc1", "fc2")
            )
            factors = linear(linear(hidden.mean(dim=(2, 3)), *first).relu(), *second).sigmoid()
            hidden, place = hidden * factors[:, :, None, None], place + 1
        hidden = convolution(f"{name}.{place}", hidden, "")
        if hidden.shape == given.shape and stride == "1":
            hidden = hidden + given
    return convolution("features.16", hidden, "H")


@pytest.mark.parametrize(("width", "frames"), [(0.4, 100), (1.0, 97)])
def test_a_published_checkpoint_gives_what_the_published_network_gives(
    width: float, frames: int, tmp_path: Path
) -> None:
    weights = published(width)
    torch.save(weights, tmp_path / "mn.pt")
    encoder = MobileNetEncoder(width, pretrained=str(tmp_path / "mn.pt")).eval()
    own = {name for name in weights if not name.startswith("classifier.")}
    assert set(encoder.state_dict()) == own
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    # In double precision, in which no two ways of adding up differ.
    encoder, weights = encoder.double(), {name: value.double() for name, value in weights.items()}
    log_mel = torch.randn(2, frames, 128, dtype=torch.float64)
    with torch.no_grad():
        expected = as_published(weights, log_mel).mean(dim=2).transpose(1, 2)
        states, mask = encoder(log_mel, torch.ones(log_mel.shape[:2], dtype=torch.bool))
        assert mask.all()
        assert states.shape == expected.shape == (2, 4, encoder.width)
        assert (states - expected).abs().max() < 1e-6
        assert 0.05 < expected.std() < 1000
        assert (expected[:, 1:] - expected[:, :-1]).abs().max() > 0.05  # the states of a clip differ
        # In a batch with a longer clip, too: what is squeezed are means of a clip's own frames.
        longer = torch.cat([log_mel, torch.randn(2, 80, 128, dtype=torch.float64)], dim=1)
        mask = torch.arange(longer.shape[1]) < torch.tensor([[frames], [longer.shape[1]]])
        together, states_mask = encoder(longer, mask)
    assert states_mask.sum(dim=1).tolist() == [4, 6]
    assert (together[0, :4] - expected[0]).abs().max() < 1e-6
    assert (as_published(weights, longer[:1])[0].mean(dim=1).T[:4] - expected[0]).abs().max() > 1e-3


@pytest.mark.parametrize("width", PUBLISHED)
def test_published_sizes(width: float) -> None:
    """All weights of the authors' table, classifier included; and the layout that the test writes is the encoder's own."""
    with torch.device("meta"):
        found = {name: tuple(value.shape) for name, value in MobileNetEncoder(width).state_dict().items()}
    layout = shapes(width)
    assert found == {name: shape for name, shape in layout.items() if not name.startswith("classifier.")}
    learnt = [shape for name, shape in layout.items() if name.endswith(("weight", "bias"))]
    millions = sum(torch.Size(shape).numel() for shape in learnt) / 1e6
    assert millions == pytest.approx(PUBLISHED[width], abs=0.005)


def test_bad_input(tmp_path: Path) -> None:
    torch.save(published(0.1), tmp_path / "small.pt")
    with pytest.raises(ValueError, match="not those of this encoder"):
        MobileNetEncoder(0.2, pretrained=str(tmp_path / "small.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("text.pt", "missing.pt"):
        with pytest.raises(ValueError, match="could not load weights from"):
            MobileNetEncoder(0.1, pretrained=str(tmp_path / name))
    for bad in (0, -1.0, True, float("nan"), 100.0):
        with pytest.raises(ValueError, match="got width_multiplier="):
            MobileNetEncoder(bad)
    with pytest.raises(ValueError, match="got num_mel_bins=0"):
        MobileNetEncoder(0.1, 0)


def test_another_captioners_encoder_is_a_beginning(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = MobileNetEncoder(0.1)
    folder = Captioner(other, make_captioner(tokenizer).decoder, tokenizer).save(tmp_path / "captioner")
    encoder = MobileNetEncoder(0.1, pretrained=str(folder))
    for name, weight in other.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)
