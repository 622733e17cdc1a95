import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.training.augment import SpecAugment


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(st.integers(1, 120), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_masks_are_spans_within_the_real_frames(frames: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    log_mel = torch.full((len(frames), max(frames), 128), 2.0)
    mask = torch.arange(max(frames)) < torch.tensor(frames)[:, None]
    masked = SpecAugment(frequency_masks=1, frequency_width=20, time_masks=1, time_share=0.2)(log_mel, mask) == 0
    for clip, count in zip(masked, frames, strict=True):
        bins = clip.all(dim=0)
        assert int(bins.sum()) <= 20
        times = clip[:, ~bins].any(dim=1)
        assert int(times.sum()) <= 0.2 * count + 1
        assert not times[count:].any()
        for span in (bins, times):
            assert int((span[1:] != span[:-1]).sum()) <= 2
        assert torch.equal(clip, bins[None, :] | times[:, None])


def test_clips_have_masks_of_their_own_and_some_are_wide() -> None:
    torch.manual_seed(0)
    log_mel, mask = torch.ones(64, 400, 128), torch.ones(64, 400, dtype=torch.bool)
    masked = SpecAugment()(log_mel, mask) == 0
    shares = masked.float().mean(dim=(1, 2))
    assert len(set(shares.tolist())) > 50
    assert 0.15 < float(shares.mean()) < 0.35  # 2 × 12 of 128 bins and 2 × 5 % of the time, on average


def test_nothing_to_mask() -> None:
    log_mel, mask = torch.randn(2, 50, 128), torch.ones(2, 50, dtype=torch.bool)
    assert torch.equal(SpecAugment(frequency_masks=0, time_masks=0)(log_mel, mask), log_mel)
    with pytest.raises(ValueError, match="time_share ≤ 1"):
        SpecAugment(time_share=2.0)
