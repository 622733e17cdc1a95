import pytest
import torch

from a2i.encoders.gru import GRUEncoder


def test_every_second_state_goes_on() -> None:
    torch.manual_seed(0)
    encoder = GRUEncoder(layers=3, hidden=4, subsample=2).eval()
    _, mask = encoder(torch.randn(2, 101, 64), torch.arange(101) < torch.tensor([[101], [50]]))
    assert mask.sum(1).tolist() == [26, 13]
    assert encoder.width == 8


def test_the_way_back_begins_at_a_clips_own_end() -> None:
    """A single layer equals PyTorch's on the clip alone, though longer ones stand beside it."""
    torch.manual_seed(0)
    encoder = GRUEncoder(layers=1, hidden=4).eval()
    log_mel = torch.randn(2, 30, 64)
    states, _ = encoder(log_mel, torch.arange(30) < torch.tensor([[30], [12]]))
    assert torch.allclose(states[1, :12], encoder.layers[0](log_mel[1:, :12])[0][0], atol=1e-6)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GRUEncoder(layers=0)
