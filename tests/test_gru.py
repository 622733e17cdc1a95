from pathlib import Path

import pytest
import torch

from a2i.captioner.encoders.gru import GRUEncoder


def test_every_second_state_goes_on() -> None:
    torch.manual_seed(0)
    encoder = GRUEncoder(layers=3, hidden=4, subsample=2).eval()
    _, mask = encoder(torch.randn(2, 101, 64), torch.arange(101) < torch.tensor([[101], [50]]))
    assert mask.sum(1).tolist() == [26, 13]
    assert encoder.width == 8


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GRUEncoder(layers=0)


def test_built_again_from_its_settings_and_weights(tmp_path: Path) -> None:
    encoder = GRUEncoder(layers=2, hidden=3, num_mel_bins=8, subsample=2, dropout=0.1)
    torch.save(encoder.state_dict(), tmp_path / "weights.pth")
    again = GRUEncoder(**encoder.settings, pretrained=str(tmp_path / "weights.pth"))
    assert again.settings == encoder.settings
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in encoder.state_dict().items())
