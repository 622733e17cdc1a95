import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ASTFeatureExtractor

from a2i import audio
from a2i.features import FeatureKind, FeatureSettings, LogMel, frame_count, gains, side_by_side

LOG_MEL = LogMel()
KINDS: tuple[FeatureKind, ...] = ("ast", "panns_16k", "panns_32k", "sound_effects", "mobilenet")
SMALL = {kind: LogMel(FeatureSettings(num_mel_bins=64, kind=kind)) for kind in KINDS}
OLD = LogMel(
    FeatureSettings(num_mel_bins=64, kind="panns_32k", sampling_rate=16_000)
)  # as captioners from before have it


def batch(waveforms: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return padded, lengths


def assert_equal_to_the_extractor(waveforms: list[np.ndarray], tolerance: float) -> None:
    """Real frames and the padding after them against `transformers`, clip by clip."""
    log_mel, mask = LOG_MEL(*batch(waveforms))
    extractor = ASTFeatureExtractor(max_length=log_mel.shape[1])
    for waveform, features, real in zip(waveforms, log_mel, mask, strict=True):
        expected = torch.tensor(np.asarray(extractor(waveform, sampling_rate=16_000)["input_values"][0]))
        assert int(real.sum()) == int(frame_count(torch.tensor(len(waveform)), FeatureSettings()))
        assert (features - expected).abs().max() < tolerance


def test_made_sounds_equal_the_stock_extractor() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    assert_equal_to_the_extractor([tone(440, 1.0), noise, np.zeros(16_000, np.float32), noise[:400]], 1e-4)


def test_real_recordings_equal_the_stock_extractor(real_data: Path) -> None:
    clotho = sorted((real_data / "clotho" / "evaluation").glob("*.wav"))
    esc10 = sorted((real_data / "esc10").glob("*/*.ogg"))[::8]
    assert len(clotho) == 5
    assert len(esc10) == 40
    for files in (clotho, esc10):
        assert_equal_to_the_extractor([audio.load(file, 16_000) for file in files], 1e-4)


def test_long_clips_are_framed_in_pieces_without_a_seam() -> None:
    waveform = np.random.default_rng(1).normal(0, 0.1, 61 * 16_000).astype(np.float32)
    assert_equal_to_the_extractor([waveform], 1e-4)


@pytest.mark.parametrize("transform", [LOG_MEL, *SMALL.values(), OLD], ids=lambda transform: transform.settings.kind)
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 5_000), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_batch_equals_one_by_one(transform: LogMel, lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    waveforms = [generator.normal(0, 0.1, length).astype(np.float32) for length in lengths]
    log_mel, mask = transform(*batch(waveforms))
    assert log_mel.shape[:2] == mask.shape
    for waveform, features, real in zip(waveforms, log_mel, mask, strict=True):
        alone, _ = transform(*batch([waveform]))
        assert torch.allclose(features[real], alone[0], atol=1e-5)
        assert torch.all(features[~real] == transform.settings.padding)


def test_what_lies_beyond_the_length_changes_nothing() -> None:
    padded, lengths = batch([tone(300, 0.5), tone(900, 1.0)])
    before, _ = LOG_MEL(padded, lengths)
    padded[0, 8_000:] = 0.9
    assert torch.equal(LOG_MEL(padded, lengths)[0], before)


def test_physics() -> None:
    """A louder tone is louder, a higher one higher, and silence lies at the floor."""
    quiet, loud, high = (LOG_MEL(*batch([sound]))[0][0] for sound in (0.1 * tone(500, 1), tone(500, 1), tone(5000, 1)))
    assert loud.max() > quiet.max()
    assert high.mean(0).argmax() > loud.mean(0).argmax()
    silence = LOG_MEL(*batch([np.zeros(16_000, np.float32)]))[0]
    assert torch.allclose(silence, torch.tensor(-1.2776), atol=1e-3)


def decibels(waveform: np.ndarray, rate: int, highest: float) -> torch.Tensor:
    """(T, 64): the PANNs' log-mel of one clip, by other means: torchaudio's transform, and transformers' filters."""
    from torchaudio.transforms import Spectrogram
    from transformers.audio_utils import mel_filter_bank

    points = rate * 32 // 1000
    power = Spectrogram(n_fft=points, hop_length=rate // 100, power=2.0)(torch.from_numpy(waveform))
    banks = mel_filter_bank(points // 2 + 1, 64, 50.0, highest, rate, norm="slaney", mel_scale="slaney")
    return 10 * (power.T @ torch.from_numpy(banks).float()).clamp_min(1e-10).log10()


def test_the_panns_equal_librosas_definition() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20_123).astype(np.float32)
    for waveform in (tone(440, 1.0), noise, np.zeros(16_000, np.float32)):
        for kind, rate, highest in (("panns_16k", 16_000, 8_000.0), ("panns_32k", 32_000, 14_000.0)):
            assert_equal_to_librosa(waveform, kind, rate, highest)


def assert_equal_to_librosa(waveform: np.ndarray, kind: str, rate: int, highest: float) -> None:
    features, mask = SMALL[kind](*batch([waveform]))
    expected = decibels(waveform, rate, highest)
    assert SMALL[kind].settings.sampling_rate == rate
    assert mask.shape == (1, len(expected))
    assert (SMALL[kind].settings.restored(features[0]) - expected).abs().max() < 0.01


def test_panns_32k_hears_real_recordings_at_32_khz(real_data: Path) -> None:
    """As its authors' features; and above 8 kHz there is something to hear."""
    recordings = sorted((real_data / "clotho" / "evaluation").glob("*.wav"))
    assert [soundfile.info(path).samplerate for path in recordings] == [44_100] * 5
    for path in recordings:
        waveform = audio.load(path, 32_000, 0.0, 8.0)
        assert_equal_to_librosa(waveform, "panns_32k", 32_000, 14_000.0)
        assert SMALL["panns_32k"].settings.restored(SMALL["panns_32k"](*batch([waveform]))[0])[:, :, 57:].max() > -90


def test_panns_32k_of_captioners_from_before() -> None:
    """All bins up to 7 kHz, where the resampler leaves the sound as it is; above 8 kHz there is nothing to hear."""
    import soxr

    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    features, _ = OLD(*batch([noise]))
    ours = OLD.settings.restored(features[0])
    theirs = decibels(soxr.resample(noise, 16_000, 32_000), 32_000, 14_000.0)
    inside = slice(10, -10)  # at a clip's ends the resampler has too little to go by
    assert (ours - theirs)[inside, :48].abs().max() < 0.1
    assert (ours[:, 57:] == -100).all()


def test_settings_know_what_their_kind_has() -> None:
    assert FeatureSettings() == FeatureSettings(128, -4.2677393, 4.5689974, "ast", None, 16_000)
    assert [FeatureSettings(kind=kind).sampling_rate for kind in KINDS] == [16_000, 16_000, 32_000, 44_100, 32_000]
    assert FeatureSettings(mean=-3.0).mean == -3.0
    assert FeatureSettings(kind="panns_16k").restored(FeatureSettings(kind="panns_16k").padding) == pytest.approx(-100)
    with pytest.raises(ValueError, match="expected one of ast, panns_16k, panns_32k, sound_effects, mobilenet"):
        FeatureSettings(kind="vggish")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got num_mel_bins=3; expected a whole number of at least 4"):
        FeatureSettings(num_mel_bins=3)
    for kind, rate in (
        ("ast", 44_100),
        ("panns_32k", 44_100),
        ("sound_effects", 16_000),
        ("mobilenet", 16_000),
        ("ast", True),
        ("ast", 16e3),
    ):
        with pytest.raises(
            ValueError, match=rf"got sampling_rate={rate!r} for features of kind {kind}; expected [\d or]+ Hz"
        ):
            FeatureSettings(kind=kind, sampling_rate=rate)  # type: ignore[arg-type]


def torchaudio_banks(settings: FeatureSettings) -> torch.Tensor:
    """(points, bins): Kaldi's filters and Slaney's, as torchaudio has them, and HTK's, as their definition has them."""
    from torchaudio.compliance.kaldi import get_mel_banks
    from torchaudio.functional import melscale_fbanks

    bins = settings.num_mel_bins
    if settings.kind == "ast":
        banks, _ = get_mel_banks(bins, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
        return torch.nn.functional.pad(banks, (0, 1)).T  # it leaves out the Nyquist bin, which is zero
    if settings.kind == "mobilenet":
        banks, _ = get_mel_banks(bins, 1_024, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)
        return torch.nn.functional.pad(banks, (0, 1)).T
    if settings.kind == "panns_16k":
        return melscale_fbanks(257, 50.0, 8_000.0, bins, 16_000, "slaney", "slaney")
    if settings.kind == "panns_32k":
        banks = melscale_fbanks(513, 50.0, 14_000.0, bins, 32_000, "slaney", "slaney")
        return banks if settings.sampling_rate == 32_000 else banks[:257] * 4
    mel = 2595 * (1 + torch.arange(1025).double() * 44_100 / 2048 / 700).log10()[:, None]
    edges = torch.linspace(0, float(mel[-1]), bins + 2).double()
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    weights = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp_min(0)
    return (weights / weights.sum(dim=0)).float()


ANY = [FeatureSettings(kind=kind) for kind in KINDS] + [OLD.settings]


@pytest.mark.parametrize("bins", [4, 33, 40, 64, 96, 128])
@pytest.mark.parametrize("given", ANY, ids=lambda given: f"{given.kind} {given.sampling_rate}")
def test_any_number_of_mel_bins(bins: int, given: FeatureSettings) -> None:
    """Against the same in float64, with torchaudio's filters."""
    log_mel, kind = LogMel(replace(given, num_mel_bins=bins)), given.kind
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    found = log_mel.settings.restored(log_mel(*batch([noise]))[0][0].double())
    length, hop, points = given.framing
    if kind == "mobilenet":
        noise = noise[1:] - np.float32(0.97) * noise[:-1]
    if kind == "sound_effects":
        padded = np.pad(noise, (1024, 1024 * 9 - 8_000))
    else:
        padded = np.pad(noise, 0 if kind == "ast" else length // 2, mode="reflect")
    frames = torch.from_numpy(padded).double().unfold(0, length, hop)
    if kind == "ast":
        frames = frames - frames.mean(dim=1, keepdim=True)
        frames = torch.cat([frames[:, :1] * 0.03, frames[:, 1:] - 0.97 * frames[:, :-1]], dim=1)
    power = torch.fft.rfft(frames * log_mel.window.double(), points).abs().square()
    assert torch.allclose(log_mel.mel_banks, torchaudio_banks(log_mel.settings), atol=1e-4)
    energies = power @ log_mel.mel_banks.double()
    if kind == "sound_effects":
        expected = (1 + 1e4 * energies).log10()
    elif kind == "mobilenet":
        expected = (energies + 1e-5).log()
    else:
        expected = energies.clamp_min(2**-23).log() if kind == "ast" else 10 * energies.clamp_min(1e-10).log10()
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-3)


def test_numbers_of_sound_effects() -> None:
    """Frames are centred on every 1,024th sample from the first on; divided as the network learnt it; silence is 0."""
    settings = FeatureSettings(num_mel_bins=96, kind="sound_effects")
    assert (settings.padding, settings.normalised(9.457798957824707)) == (0.0, 1.0)
    for samples, frames in ((1, 2), (1024, 2), (1025, 3), (2048, 3), (2049, 4), (44_100, 45)):
        log_mel, mask = LogMel(settings)(torch.zeros(1, samples), torch.tensor([samples]))
        assert log_mel.shape == (1, frames, 96)
        assert mask.all()
        assert not log_mel.any()
    click = torch.zeros(1, 20_000)
    click[0, 5 * 1024] = 1.0
    heard = LogMel(settings)(click, torch.tensor([20_000]))[0][0].sum(dim=1)
    assert heard.argmax() == 5
    assert heard.nonzero().flatten().tolist() == [5]  # of the frames beside it the window ends there


def efficientat(waveform: np.ndarray) -> torch.Tensor:
    """(T, 128): the MobileNets' log-mel of one clip as their authors compute it, with torchaudio's filters."""
    from torchaudio.compliance.kaldi import get_mel_banks

    emphasised = torch.nn.functional.conv1d(torch.from_numpy(waveform)[None], torch.tensor([[[-0.97, 1.0]]]))
    window = torch.hann_window(800, periodic=False)
    spectra = torch.stft(emphasised, 1_024, 320, 800, window, center=True, pad_mode="reflect", return_complex=True)[0]
    banks, _ = get_mel_banks(128, 1_024, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    power = torch.nn.functional.pad(banks, (0, 1)) @ spectra.abs().square()
    return ((power + 1e-5).log().T + 4.5) / 5


def test_mobilenets_features_equal_their_authors_definition() -> None:
    settings = FeatureSettings(kind="mobilenet")
    noise = np.random.default_rng(0).normal(0, 0.1, 40_123).astype(np.float32)
    sounds = [noise, tone(440, 1.0, 32_000), np.zeros(16_000, np.float32), noise[:3_201], noise[:3_200], noise[:801]]
    log_mel, mask = LogMel(settings)(*batch(sounds))
    for sound, found, real in zip(sounds, log_mel, mask, strict=True):
        expected = efficientat(sound)
        assert int(real.sum()) == len(expected) == int(frame_count(torch.tensor(len(sound)), settings))
        assert (found[real] - expected).abs().max() < 1e-4
    assert settings.padding == pytest.approx(float(efficientat(sounds[2])[0, 0]))
    assert efficientat(noise).std() > 0.1


def test_a_tone_is_heard_in_its_bin_at_every_rate() -> None:
    """12 kHz, which only what has a high rate can hear."""
    for kind, rate in (("panns_32k", 32_000), ("sound_effects", 44_100), ("mobilenet", 32_000)):
        log_mel, _ = SMALL[kind](*batch([tone(12_000, 0.5, rate)]))
        banks = SMALL[kind].mel_banks
        point = round(12_000 / rate * SMALL[kind].settings.framing.points)
        assert log_mel[0, 10].argmax() == banks[point].argmax()


LEVELLED = {kind: LogMel(FeatureSettings(num_mel_bins=64, kind=kind, level=-25.0)) for kind in KINDS}


def burst(seconds: float, at: float, length: float, dbfs: float, rate: int = 16_000) -> np.ndarray:
    """(samples,) of noise of that RMS for `length` seconds, beginning at `at`, in digital silence."""
    sound = np.zeros(round(seconds * rate))
    span = slice(round(at * rate), round((at + length) * rate))
    sound[span] = np.random.default_rng(0).normal(0, 10 ** (dbfs / 20), span.stop - span.start)
    return sound.astype(np.float32)


def raised(sound: np.ndarray) -> float:
    """dB that a clip is raised by."""
    return 20 * math.log10(float(gains(torch.from_numpy(sound)[None], torch.tensor([len(sound)]), -25.0, 16_000)))


@pytest.mark.parametrize("kind", sorted(LEVELLED))
@pytest.mark.parametrize("length", [0.12, 0.5, 5.0])
def test_a_sound_is_heard_alike_at_any_level(kind: str, length: float) -> None:
    """From the usual level down to 25 dB below it, short in a long silence or filling the clip."""
    transform = LEVELLED[kind]
    rate = transform.settings.sampling_rate
    usual = transform(*batch([burst(5.0, 0.0, length, -26.0, rate)]))[0]
    for dbfs in (-30, -40, -51):
        found = transform(*batch([burst(5.0, 0.0, length, dbfs, rate)]))[0]
        assert (transform.settings.restored(found) - transform.settings.restored(usual)).abs().max() < 0.1


def test_how_loud_a_clip_is() -> None:
    loud, soft = burst(5.0, 1.0, 0.3, -20.0), burst(5.0, 1.0, 0.3, -45.0)
    assert raised(loud) == 0
    assert raised(soft) == pytest.approx(20, abs=1)
    assert raised(0.1 * loud) == pytest.approx(raised(0.3 * loud) + 20 * math.log10(3), abs=0.01)
    for length, dbfs in ((0.001, 0.0), (0.02, -6.0)):  # a click beside it does not count, wherever it is
        for at in (0.0, 1.1, 4.0, 4.95):
            assert raised(soft + burst(5.0, at, length, dbfs)) == pytest.approx(raised(soft), abs=1)
    assert raised(soft + 0.2) == pytest.approx(raised(soft), abs=0.01)  # an offset is not heard
    assert raised(burst(0.03, 0.0, 0.03, -45.0)) == pytest.approx(20, abs=1)  # shorter than 100 ms
    assert raised(burst(0.01, 0.0, 0.01, -45.0)) > 15


def test_silence_stays_silence() -> None:
    """Room noise is not raised by a bit, clicks and offset or not; near it there is no edge."""
    rng = np.random.default_rng(0)
    for silent in (np.zeros(80_000), rng.normal(0, 10 ** (-61 / 20), 80_000), np.full(80_000, 0.1)):
        clicks = silent.copy()
        clicks[[100, 40_000]] += 0.01
        for sound in (silent, clicks):
            given = batch([sound.astype(np.float32)])
            plain = LogMel(FeatureSettings(num_mel_bins=64))
            assert torch.equal(LEVELLED["ast"](*given)[0], plain(*given)[0])
    steps = [raised(burst(5.0, 0.0, 5.0, dbfs)) + dbfs for dbfs in np.arange(-64, -20, 0.25)]
    assert all(-1e-3 <= after - before < 2 for before, after in pairwise(steps))  # what is louder stays louder


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 9_000), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_every_clip_of_a_batch_is_raised_by_itself(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    waveforms = [generator.normal(0, 10 ** generator.uniform(-4, 0), n).clip(-1, 1).astype(np.float32) for n in lengths]
    padded, several = batch(waveforms)
    padded[torch.arange(padded.shape[1]) >= several[:, None]] = 0.9  # what lies beyond a clip is not of it
    log_mel, mask = LEVELLED["ast"](padded, several)
    for waveform, features, real in zip(waveforms, log_mel, mask, strict=True):
        assert torch.allclose(features[real], LEVELLED["ast"](*batch([waveform]))[0][0], atol=1e-4)
        assert torch.all(features[~real] == LEVELLED["ast"].settings.padding)


def test_without_a_level_nothing_is_raised() -> None:
    """Bit for bit; and louder clips are left alone where there is one."""
    soft, loud = batch([burst(1.0, 0.0, 1.0, -45.0)]), batch([burst(1.0, 0.0, 1.0, -10.0)])
    assert FeatureSettings().level is None
    plain = LogMel(FeatureSettings(num_mel_bins=64))
    assert torch.equal(LEVELLED["ast"](*loud)[0], plain(*loud)[0])
    assert not torch.equal(LEVELLED["ast"](*soft)[0], plain(*soft)[0])
    for bad in (-58.0, 1.0, float("nan"), True, "loud"):
        with pytest.raises(ValueError, match="expected a number above -58 and at most 0"):
            FeatureSettings(level=bad)  # type: ignore[arg-type]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, N\)"):
        LOG_MEL(torch.zeros(100), torch.tensor([100]))
    with pytest.raises(ValueError, match="expected 1 to 100 samples"):
        LOG_MEL(torch.zeros(2, 100), torch.tensor([0, 101]))


@pytest.mark.gpu
def test_gpu_equals_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    padded, lengths = batch([tone(440, 1.0), tone(2000, 0.3)])
    on_gpu, _ = LogMel().cuda()(padded.cuda(), lengths.cuda())
    assert torch.allclose(on_gpu.cpu(), LOG_MEL(padded, lengths)[0], atol=1e-3)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5), st.integers(0, 1))
def test_side_by_side_is_pad_sequence(lengths: list[int], bins: int) -> None:
    sounds = [torch.randn(length, *((4,) * bins)) for length in lengths]
    expected = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True, padding_value=-3.0)
    assert torch.equal(side_by_side(sounds, -3.0), expected)
    some_unread = [sound if index % 2 else Unread(sound) for index, sound in enumerate(sounds)]
    assert torch.equal(side_by_side(some_unread, -3.0), expected)


class Unread:
    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.shape = values, values.shape

    def read_into(self, place: np.ndarray) -> None:
        place[:] = self.values.numpy()


@pytest.mark.parametrize("kind", ["ast", "panns_32k", "sound_effects", "mobilenet"])
def test_threads_with_a_clip_each_change_no_bit(kind: FeatureKind) -> None:
    before = torch.get_num_threads()
    log_mel = LogMel(FeatureSettings(num_mel_bins=64, kind=kind))
    waveforms, lengths = torch.randn(5, 200_000), torch.tensor([200_000, 163_000, 40_000, 401, 7])
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(log_mel(waveforms, lengths)[0])
            assert torch.get_num_threads() == threads  # here: the other threads' number is their own
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
