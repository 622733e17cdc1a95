import torch

from a2i.encoders.crnn import CRNNEncoder, pool_by_fourth_power


def test_pooling_is_torchs_and_has_a_gradient_in_silence() -> None:
    hidden = torch.randn(2, 3, 9, 8)
    assert torch.allclose(pool_by_fourth_power(hidden, (2, 4)), torch.nn.LPPool2d(4, (2, 4))(hidden), atol=1e-5)
    silence = torch.zeros(1, 1, 4, 4, requires_grad=True)
    pool_by_fourth_power(silence, (2, 4)).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_published_size() -> None:
    """Dinkel et al. 2021: 681 thousand weights, the classifier of ten kinds among them."""
    own = sum(weight.numel() for weight in CRNNEncoder().parameters())
    assert round((own + 10 * 257) / 1000) == 681
