import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy import signal

from a2i.compose import build
from a2i.data import esc10_captions
from a2i.data.foley.noun_phrases import NOUNS
from a2i.data.foley.phrases import CLAUSES
from a2i.data.foley.phrases import WORDS as FOLEY_WORDS
from a2i.data.unnamed import KINDS, SENTENCES, Unnamed, UnnamedSettings, kind_of, samples_of, unnamed_kinds
from a2i.data.unnamed.families import FAMILIES, TALKING, unknown, voice
from a2i.data.unnamed.sounds import coloured, noise, rms, silence

RATE = 16_000
PLAIN = {"seed": 0, "min_seconds": 5.0, "max_seconds": 8.0, "sample_rate": RATE}
PLAIN |= {"silence": 0.2, "noise": 0.3, "unknown": 0.5}
seeds = st.integers(0, 2**32)


def small(root, **changes):
    options = {"n_train": 8, "n_val": 2, "n_test": 2, "min_seconds": 1.0, "max_seconds": 1.5, "workers": 1}
    return Unnamed(root, **(options | changes))


def decibels(value):
    return 20 * np.log10(max(value, 1e-12))


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Sounds


@settings(max_examples=40)
@given(
    seeds, st.sampled_from(["train", "val", "test"]), st.integers(0, 10_000), st.sampled_from([12_000, RATE, 32_000])
)
def test_every_clip_is_finite_in_range_and_a_pure_function(seed, split, index, rate):
    chosen = UnnamedSettings(**(PLAIN | {"seed": seed, "min_seconds": 1.0, "max_seconds": 2.0, "sample_rate": rate}))
    samples = samples_of(chosen, split, index)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1
    assert 1.0 <= len(samples) / rate <= 2.0
    assert np.array_equal(samples, samples_of(chosen, split, index))


@settings(max_examples=40)
@given(seeds)
def test_silence_is_next_to_nothing(seed):
    samples = silence(np.random.default_rng(seed), 2.0, RATE)
    assert decibels(rms(samples)) < -60
    assert decibels(np.abs(samples).max()) < -39.99


@settings(max_examples=40)
@given(seeds)
def test_noise_goes_on_at_its_level_without_a_break(seed):
    samples = noise(np.random.default_rng(seed), 3.0, RATE)
    assert -46 < decibels(rms(samples)) < -3
    pieces = [rms(piece) for piece in np.split(samples, 6)]
    assert min(pieces) > 0.25 * max(pieces)


@settings(max_examples=40)
@given(seeds)
def test_an_unknown_sound_is_loud_enough_to_be_heard(seed):
    samples = unknown(np.random.default_rng(seed), 3.0, RATE)
    assert -14.01 < decibels(np.abs(samples).max()) < -0.99


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_differs_from_draw_to_draw(name):
    first, second = (FAMILIES[name](np.random.default_rng(seed), 3.0, RATE) for seed in (1, 2))
    assert first.shape == second.shape == (3 * RATE,)
    assert min(rms(first), rms(second)) > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3


@pytest.mark.parametrize("tilt", [-3.0, 0.0, 3.0, 6.0])
def test_noise_falls_as_steeply_as_it_is_asked_to(tilt):
    samples = coloured(np.random.default_rng(0), 10 * RATE, RATE, tilt, 10, RATE)
    frequencies, power = signal.welch(samples, RATE, nperseg=2048)
    low, high = (power[np.searchsorted(frequencies, f) - 5 :][:10].mean() for f in (500, 4000))
    assert 10 * np.log10(low / high) == pytest.approx(3 * tilt, abs=1)


def test_levels_and_lengths_of_events_spread_widely():
    noises = [decibels(rms(noise(np.random.default_rng(seed), 1.0, RATE))) for seed in range(60)]
    assert min(noises) < -38
    assert max(noises) > -10
    heard = [unknown(np.random.default_rng(seed), 3.0, RATE) for seed in range(60)]
    busy = [np.mean(np.abs(samples) > 0.1 * np.abs(samples).max()) for samples in heard]
    assert np.percentile(busy, 10) < 0.1
    assert np.percentile(busy, 90) > 0.4
    centroids = []
    for samples in heard:
        frequencies, power = signal.welch(samples, RATE, nperseg=1024)
        centroids.append((frequencies * power).sum() / power.sum())
    assert np.percentile(centroids, 90) > 5 * np.percentile(centroids, 10)


def test_voices_talk_at_the_pitch_of_grown_ups_and_pause():
    for seed in range(5):
        samples = voice(np.random.default_rng(seed), 6.0, RATE)
        loud = np.sqrt(np.mean(samples[: 119 * 800].reshape(-1, 800) ** 2, axis=1))
        assert np.percentile(loud, 5) < 0.2 * np.percentile(loud, 95)
        at = int(np.argmax(loud)) * 800
        piece = samples[max(at - 400, 0) : at + 1200]
        echo = np.fft.irfft(np.abs(np.fft.rfft(piece, 8192)) ** 2)
        first, last = int(RATE / (1.4 * TALKING[1])), int(RATE / (0.7 * TALKING[0]))
        assert echo[first:last].max() > 0.3 * echo[0]


# Captions


def test_every_sentence_names_its_kind_and_nothing_else():
    others = [word for words in [*esc10_captions.SOURCE_WORDS.values(), *FOLEY_WORDS.values()] for word in words]
    assert list(SENTENCES) == list(KINDS)
    for kind, sentences in SENTENCES.items():
        assert len(set(sentences)) == len(sentences) >= 12
        for sentence in sentences:
            assert unnamed_kinds(sentence) == {kind}, sentence
            assert not re.search(rf"\b({'|'.join(others)})\b", sentence, re.IGNORECASE), sentence
            assert re.fullmatch(r"[A-Z][a-z ,]+\.", sentence), sentence


def test_sentences_of_named_sounds_name_none_of_the_kinds():
    named = [sentence for sentences in esc10_captions.SENTENCES.values() for sentence in sentences]
    named += [text for phrases in (CLAUSES, NOUNS) for lines in phrases.values() for _, text in lines]
    assert not [sentence for sentence in named if unnamed_kinds(sentence)]


def test_kinds_are_named_by_whole_words():
    assert unnamed_kinds("A NOISE, then silence.") == {"noise", "silence"}
    assert unnamed_kinds("A noiseless, disquieting and clear sound.") == set()
    assert unnamed_kinds("Nothing but a rooster can be heard.") == set()


# On disk


def test_a_whole_number_is_the_same_setting(tmp_path):
    assert Unnamed(tmp_path, min_seconds=5, max_seconds=8).folder == Unnamed(tmp_path).folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    source = small(tmp_path_factory.mktemp("unnamed"))
    source.prepare()
    return source


def test_clips(made):
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        clips, kinds = made.clips(split), made.kinds(split)
        assert [clip.name for clip in clips] == list(kinds)
        assert len(clips) == count
        for clip in clips:
            info = soundfile.info(clip.path)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", RATE, 1)
            assert 1.0 <= clip.seconds() <= 1.5
            assert len(set(clip.captions)) == 5
            assert all(unnamed_kinds(caption) == {kinds[clip.name]} for caption in clip.captions)
    assert len({clip.captions for clip in made.clips("train")}) > 4
    with pytest.raises(ValueError, match="unknown split 'dev'; expected one of train, val, test"):
        made.clips("dev")


@pytest.mark.parametrize("shares", [(0.2, 0.3, 0.5), (0.0, 1.0, 0.0), (0.5, 0.0, 0.5)])
def test_kinds_come_in_their_shares(shares):
    chosen = UnnamedSettings(**(PLAIN | dict(zip(KINDS, shares, strict=True))))
    counted = Counter(kind_of(chosen, "train", index) for index in range(200))
    for kind, share in zip(KINDS, shares, strict=True):
        assert counted[kind] / 200 == pytest.approx(share, abs=0.02)


def test_same_settings_same_bytes_other_seed_other_sounds(made, tmp_path):
    small(tmp_path / "same").prepare()
    other = small(tmp_path / "other", seed=1, silence=0.0, noise=0.5)
    other.prepare()
    assert contents(tmp_path / "same") == contents(made.folder.parent)
    wavs = {data for name, data in contents(tmp_path / "other").items() if name.endswith(".wav")}
    assert len(wavs) == 12
    assert not wavs & set(contents(made.folder.parent).values())


def test_prepare_goes_on_where_it_was_interrupted(made, tmp_path):
    source = small(tmp_path)
    source.folder.mkdir()
    (source.folder / "test").write_text("a file where a folder must go")
    with pytest.raises(OSError, match="test"):
        source.prepare()
    with pytest.raises(FileNotFoundError, match=r"2 of 2 sounds are missing.*call prepare\(\)"):
        source.clips("test")
    (source.folder / "test").unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(kept) == 10
    source.prepare()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(tmp_path) == contents(made.folder.parent)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    source.prepare()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_more_clips_are_added_and_a_deleted_one_made_again(tmp_path):
    source = small(tmp_path, n_train=2, n_val=0, n_test=0)
    source.prepare()
    before = contents(tmp_path)
    source.clips("train")[0].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 sounds are missing"):
        source.clips("train")
    more = small(tmp_path, n_train=3, n_val=0, n_test=0)
    more.prepare()
    assert contents(tmp_path).items() > before.items()
    assert more.clips("train")[:2] == source.clips("train")


@pytest.mark.long
def test_several_processes_make_the_same_bytes_even_from_a_piped_program(made, tmp_path):
    options = {"n_train": 64, "n_val": 0, "n_test": 0, "max_seconds": 1.0}
    for workers in (1, 2):
        small(tmp_path / str(workers), workers=workers, **options).prepare()
    program = (
        f"from a2i.data.unnamed import Unnamed\nUnnamed({str(tmp_path / 'piped')!r}, 64, 0, 0, 0, 1.0, 1.0, workers=2)"
    )
    command = [sys.executable, "-W", "ignore", "-"]
    root = Path(__file__).parent.parent
    subprocess.run(command, input=program + ".prepare()", text=True, check=True, capture_output=True, cwd=root)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "piped")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"silence": 0.9}, "shares that add up to 1"),
        ({"silence": -0.5, "noise": 1.0}, "shares that add up to 1"),
        ({"min_seconds": 9.0}, "min_seconds <= max_seconds"),
        ({"min_seconds": 0.2}, "1.0 <= min_seconds"),
        ({"sample_rate": 8000}, "12000 or more"),
        ({"n_val": -1}, "n_val is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **changes)


def test_the_configuration_spells_out_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("A2I_DATA", str(tmp_path))
    source = build(OmegaConf.load(Path(__file__).parent.parent / "conf/data/unnamed.yaml"))
    default = Unnamed(tmp_path / "unnamed")
    assert (source.settings, source.sizes, source.folder) == (default.settings, default.sizes, default.folder)
