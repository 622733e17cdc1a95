import numpy as np
import pytest
import torch
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.training.augment import SpecAugment, WaveformAugment, join_captions


@settings(max_examples=40)
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
    with pytest.raises(ValueError, match="got time_share="):
        SpecAugment(time_share=2.0)


def pitch(waveform: np.ndarray) -> float:
    """Of the strongest partial, in Hz."""
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(spectrum.argmax() * 16_000 / len(waveform))


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999), seconds=st.floats(0.1, 3.0))
def test_a_waveform_alone_keeps_its_sound(seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    waveform = tone(500, seconds)
    changed = WaveformAugment(speed=0.1, gain_db=6)
    heard = changed.alone(waveform, 16_000, rng)
    assert heard.dtype == np.float32
    assert np.abs(heard).max() <= 1
    assert len(waveform) / 1.11 <= len(heard) <= len(waveform) * 1.11
    assert 500 / 1.1 - 15 <= pitch(heard) <= 500 * 1.1 + 15
    assert pitch(heard) * len(heard) == pytest.approx(500 * len(waveform), rel=0.03 + 0.02 / seconds)


def test_shift_and_gain_by_themselves() -> None:
    rng = np.random.default_rng(3)
    waveform = tone(300, 0.5) * np.linspace(0.1, 0.4, 8_000, dtype=np.float32)
    peak = int(waveform.argmax())
    shifted = WaveformAugment(gain_db=0).alone(waveform, 16_000, rng)
    assert np.array_equal(np.sort(shifted), np.sort(waveform))
    assert not np.array_equal(shifted, waveform)
    louder = WaveformAugment(shift=False, gain_db=6)
    ratios = [float(louder.alone(waveform, 16_000, rng)[peak] / waveform[peak]) for _ in range(50)]
    assert 0.5 < min(ratios) < 0.7
    assert 1.5 < max(ratios) < 2.0


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999), seconds=st.tuples(st.floats(0.2, 2.0), st.floats(0.2, 2.0)))
def test_both_are_heard_whole_at_levels_that_are_near(seed: int, seconds: tuple[float, float]) -> None:
    first, second = tone(400, seconds[0]) * 0.5, tone(3_000, seconds[1]) * 0.01
    mixed = WaveformAugment(mix=1, gap_db=6).together(first, second, 16_000, np.random.default_rng(seed))
    assert len(mixed) == max(len(first), len(second))
    assert mixed.dtype == np.float32
    assert np.abs(mixed).max() <= 1
    spectrum = np.abs(np.fft.rfft(mixed)) ** 2
    hz = np.fft.rfftfreq(len(mixed), 1 / 16_000)
    low, high = (float(spectrum[(hz > f / 1.3) & (hz < f * 1.3)].sum()) for f in (400, 3_000))
    gap = 10 * np.log10((low / seconds[0]) / (high / seconds[1]))
    assert abs(gap) < 7


@settings(max_examples=20)
@given(seed=st.integers(0, 999), seconds=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0)))
def test_in_turn_one_follows_the_other(seed: int, seconds: tuple[float, float]) -> None:
    first, second = tone(400, seconds[0]), 0.1 * tone(3_000, seconds[1])
    mixed = WaveformAugment(in_turn=1.0, gap_db=0.0).together(first, second, 16_000, np.random.default_rng(seed))
    assert mixed.dtype == np.float32
    halves = [sound[: (len(sound) + 1) // 2] for sound in (first, second)]
    if len(mixed) < len(first) + len(second):
        first, second = halves
    assert len(mixed) == len(first) + len(second)
    for part, sound in ((mixed[: len(first)], first), (mixed[len(first) :], second)):
        assert np.corrcoef(part, sound)[0, 1] > 0.999  # nothing of the other in it
    loudness = [np.abs(part).max() for part in (mixed[: len(first)], mixed[len(first) :])]
    assert loudness[0] == pytest.approx(loudness[1], rel=0.1)


def test_silence_is_not_made_loud() -> None:
    second = np.full(8_000, 1e-7, np.float32)
    mixed = WaveformAugment(mix=1).together(tone(400, 0.5), second, 16_000, np.random.default_rng(0))
    assert np.abs(mixed - tone(400, 0.5)).max() < 0.01


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999), seconds=st.tuples(st.floats(0.2, 2.0), st.floats(0.2, 2.0)))
def test_what_is_behind_is_softer_and_lasts_as_long(seed: int, seconds: tuple[float, float]) -> None:
    front, back = tone(400, seconds[0]) * 0.01, tone(3_000, seconds[1]) * 0.5
    mixed = WaveformAugment(background=1).behind(front, back, 16_000, np.random.default_rng(seed))
    assert mixed.dtype == np.float32
    assert mixed.shape == front.shape
    gap = 20 * np.log10(np.sqrt(np.mean(front**2) / np.mean((mixed - front) ** 2)))
    assert 5.5 < gap < 25.5
    half = len(front) // 2
    assert np.abs(mixed - front)[half:].max() > 0.5 * np.abs(mixed - front)[:half].max()


def test_captions_are_joined_as_one_sentence() -> None:
    rng = np.random.default_rng(0)
    said = {join_captions("A dog barks.", "TV noise is heard.", rng) for _ in range(60)}
    assert all(text.endswith(".") and text.count(".") == 1 for text in said)
    assert "A dog barks while TV noise is heard." in said
    assert "TV noise is heard and a dog barks." in said
    assert len(said) == 8


def test_wrong_augmentation() -> None:
    for wrong in ({"mix": 1.5}, {"background": 1.5}, {"speed": 1.0}, {"gain_db": -1.0}):
        with pytest.raises(ValueError, match="expected a number of at least 0"):
            WaveformAugment(**wrong)


@torch.no_grad()
def test_frequencies_are_shifted_by_whole_bins_within_bounds() -> None:
    torch.manual_seed(0)
    log_mel = torch.arange(20.0).expand(64, 3, 20).contiguous()
    mask = torch.ones(64, 3, dtype=torch.bool)
    shifted = SpecAugment(frequency_masks=0, time_masks=0, frequency_shift=3)(log_mel, mask)
    steps = (shifted - log_mel)[:, :, 5:15]
    assert torch.equal(steps, steps[:, :1, :1].expand_as(steps))
    assert set(steps[:, 0, 0].tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert (shifted[:, :, 0] >= 0).all()
    assert (shifted[:, :, -1] <= 19).all()


@torch.no_grad()
def test_a_filter_is_one_smooth_line_for_a_clip_and_leaves_padding_alone() -> None:
    torch.manual_seed(0)
    log_mel = torch.randn(200, 6, 64)
    mask = torch.arange(6) < torch.tensor([6] * 100 + [4] * 100)[:, None]
    change = SpecAugment(frequency_masks=0, time_masks=0, filter_std=0.2)(log_mel, mask) - log_mel
    assert (change[~mask] == 0).all()
    assert torch.allclose(change[:, :4], change[:, :1].expand(-1, 4, -1), atol=1e-6)
    assert change[:, 0, 0].std().item() == pytest.approx(0.2, rel=0.2)
    corners = change[:, 0].diff(n=2, dim=1).abs() > 1e-4
    assert (corners.sum(dim=1) <= 8).all()  # four inner points, each seen by two second differences


def test_wrong_masks_and_shifts() -> None:
    for wrong in ({"frequency_width": -1}, {"time_share": 1.5}, {"frequency_shift": -1}, {"filter_std": -0.1}):
        with pytest.raises(ValueError, match="expected"):
            SpecAugment(**wrong)
