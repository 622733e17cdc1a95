import pytest
import torch

from a2i.captioner.encoders.act import ACTEncoder

SMALL = {"layers": 2, "width": 16, "heads": 2, "patch_frames": 4, "positions": 10}


def make(**changes: int) -> ACTEncoder:
    torch.manual_seed(0)
    return ACTEncoder(**{**SMALL, **changes}).eval()  # type: ignore[arg-type]


def test_windows_are_what_each_would_be_alone() -> None:
    """Beyond ten patches of four frames a new window begins, with the first places again."""
    encoder, log_mel = make(), torch.randn(1, 100, 64)
    states, mask = encoder(log_mel, torch.ones(1, 100, dtype=torch.bool))
    assert states.shape == (1, 3 * 11, 16)
    assert mask[0].tolist() == [True] * (22 + 1 + 5) + [False] * 5
    for window in range(3):
        piece = log_mel[:, 40 * window : 40 * (window + 1)]
        alone, _ = encoder(piece, torch.ones(piece.shape[:2], dtype=torch.bool))
        assert torch.allclose(states[:, 11 * window :][:, : alone.shape[1]], alone, atol=1e-5)


def test_a_patch_sees_all_others_of_its_window() -> None:
    encoder, log_mel = make(), torch.randn(1, 40, 64)
    log_mel.requires_grad_(True)
    states, _ = encoder(log_mel, torch.ones(1, 40, dtype=torch.bool))
    states[0, 3].pow(3).sum().backward()
    assert log_mel.grad is not None
    assert (log_mel.grad[0].abs().sum(1) > 0).all()


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="heads that divide the width"):
        make(heads=3)
    with pytest.raises(ValueError, match="at least one of each"):
        make(positions=0)
