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


def test_padding_changes_no_state_and_a_state_is_four_frames() -> None:
    """Clips of 8 to 23 frames and one that is too short for a state, each as it is alone."""
    torch.manual_seed(0)
    encoder = CRNNEncoder(channels=4, hidden=3).eval()
    for norm in encoder.norms:  # else a norm leaves zeros as they are
        torch.nn.init.normal_(norm.bias)
    lengths = [23, 8, 11, 3]
    clips = [torch.randn(length, 64) for length in lengths]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    together = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=9.0)
    states, states_mask = encoder(together, mask)
    assert states.shape == (4, 5, 6)
    assert states_mask.sum(dim=1).tolist() == [5, 2, 2, 1]
    for clip, found, real in zip(clips, states, states_mask, strict=True):
        alone, _ = encoder(clip[None], torch.ones(1, len(clip), dtype=torch.bool))
        assert torch.allclose(found[real], alone[0], atol=1e-5)
