from itertools import pairwise

import torch

from a2i.captioner.encoders.crnn import CRNNEncoder, pool_by_fourth_power


def test_pooling_is_torchs_and_has_a_gradient_in_silence() -> None:
    hidden = torch.randn(2, 3, 9, 8)
    assert torch.allclose(pool_by_fourth_power(hidden, (2, 4)), torch.nn.LPPool2d(4, (2, 4))(hidden), atol=1e-5)
    silence = torch.zeros(1, 1, 4, 4, requires_grad=True)
    pool_by_fourth_power(silence, (2, 4)).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_as_many_weights_as_the_papers_layers_have() -> None:
    """3 × 3 kernels without bias, norms before them, and units in two directions, added up by hand."""
    sizes = [1, 32, 128, 128, 128, 128]
    convolutions = sum(9 * before * after + 2 * before for before, after in pairwise(sizes))
    units = 2 * 3 * (128 * 128 + 128 * 128 + 2 * 128)
    assert sum(weight.numel() for weight in CRNNEncoder().parameters()) == convolutions + units == 678_498
