import csv
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from a2i.data.foley import Foley
from a2i.data.foley.captions import sources_named
from a2i.data.foley.noun_phrases import NOUNS
from a2i.data.foley.phrases import CLAUSES
from a2i.data.foley.recipe import FoleySettings, captions_of, samples_of, scene_of
from a2i.data.foley.scenes import KINDS, LEVEL_DB, loudness, render
from a2i.data.foley.sources import SOURCES

RATE = 16_000
SEEDS = range(4)
EVERY_TRAIT = [(name, frozenset(traits)) for name, synth in SOURCES.items() for traits in product(*synth.axes)]


def play(name, *traits, seed=0, seconds=8.0):
    return SOURCES[name](np.random.default_rng(seed), seconds, RATE, frozenset(traits))


def share(samples, low, high):
    """The share of the energy between two frequencies."""
    frequencies, power = signal.welch(samples, RATE, nperseg=1024)
    return power[(frequencies >= low) & (frequencies < high)].sum() / power.sum()


def envelope(samples, width=0.05):
    size = int(width * RATE)
    return np.sqrt(np.mean(samples[: len(samples) // size * size].reshape(-1, size) ** 2, axis=1))


def onsets(samples, gap, above=0.0):
    """Instants at which the envelope peaks, at least `gap` seconds apart; only what lies above a frequency counts."""
    if above:
        samples = signal.sosfilt(signal.butter(4, above, "highpass", fs=RATE, output="sos"), samples)
    smooth = signal.sosfiltfilt(signal.butter(2, 25, fs=RATE, output="sos"), np.abs(samples))
    high = smooth.max()
    peaks, _ = signal.find_peaks(smooth, height=0.2 * high, distance=int(gap * RATE), prominence=0.15 * high)
    return peaks / RATE


def spectrum_over_time(samples, size=2048):
    frequencies, _, values = signal.stft(samples, RATE, nperseg=size)
    return frequencies, np.abs(values) ** 2


def small(root, **changes):
    options = {"n_train": 6, "n_val": 2, "n_test": 2, "min_seconds": 3.0, "max_seconds": 3.5, "workers": 1}
    return Foley(root, **(options | changes))


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Sources


@pytest.mark.parametrize(("name", "traits"), EVERY_TRAIT)
@pytest.mark.parametrize("seconds", [1.2, 4.0])
def test_every_source_is_clean_and_varied(name, traits, seconds):
    first, second = (SOURCES[name](np.random.default_rng(seed), seconds, RATE, traits) for seed in (1, 2))
    assert first.shape == (round(seconds * RATE),)
    assert first.dtype == np.float32
    assert np.abs(first).max() == pytest.approx(1)
    assert abs(first.mean()) < 1e-3
    assert abs(first[0]) < 1e-3
    assert abs(first[-1]) < 1e-3
    assert envelope(first).max() > 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert np.array_equal(first, SOURCES[name](np.random.default_rng(1), seconds, RATE, traits))


def test_traits_left_open_are_drawn_and_unknown_ones_refused():
    assert any(not np.array_equal(play("bell", seed=seed), play("bell", "once", seed=seed)) for seed in SEEDS)
    with pytest.raises(ValueError, match=r"bell does not know the traits \['green'\].*twice"):
        play("bell", "green")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "low", "high", "least"),
    [
        ("crickets", 3000, 8000, 0.95),
        ("thunder", 0, 500, 0.55),
        ("wind", 0, 1500, 0.9),
        ("birdsong", 1500, 8000, 0.95),
        ("rain", 500, 8000, 0.7),
        ("siren", 350, 8000, 0.95),
    ],
)
def test_energy_lies_where_it_belongs(name, low, high, least, seed):
    assert share(play(name, seed=seed), low, high) > least


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "trait", "low", "high", "gap"),
    [
        ("clock", "slow", 0.95, 1.55, 0.15),
        ("clock", "steady", 1.55, 2.6, 0.15),
        ("clock", "fast", 2.7, 4.1, 0.15),
        ("footsteps", "slow", 1.4, 1.85, 0.3),
        ("footsteps", "fast", 2.1, 2.6, 0.3),
        ("drops", "slow", 0.75, 1.4, 0.12),
        ("drops", "fast", 2.4, 4.7, 0.12),
    ],
)
def test_events_come_at_the_rate_they_are_said_to(name, trait, low, high, gap, seed):
    instants = onsets(play(name, trait, seed=seed), gap)
    assert low < 1 / np.median(np.diff(instants)) < high


def test_a_clock_ticks_and_tocks():
    heard = [play("clock", "slow", seed=seed) for seed in range(8)]
    for samples in heard:
        sounds = [
            np.abs(np.fft.rfft(samples[int(at * RATE) - 400 : int(at * RATE) + 1200]))
            for at in onsets(samples, 0.15)[1:7]
        ]
        neighbours = [np.corrcoef(one, two)[0, 1] for one, two in pairwise(sounds)]
        alternate = [np.corrcoef(one, two)[0, 1] for one, two in zip(sounds, sounds[2:], strict=False)]
        assert np.mean(alternate) > np.mean(neighbours) + 0.1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("count", "low", "high"), [("once", 1, 1), ("twice", 2, 2), ("several", 3, 5)])
def test_a_bell_is_struck_as_often_as_is_said(count, low, high, seed):
    strikes = onsets(play("bell", count, "small", seed=seed), 0.2, above=2500)
    assert low <= len(strikes) <= high


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bell_dies_away(seed):
    loud = envelope(play("bell", "once", seed=seed))
    assert np.argmax(loud) < 10
    assert loud[-5:].mean() < 0.3 * loud.max()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trait", ["wail", "yelp", "two-tone"])
def test_a_sirens_pitch_moves(trait, seed):
    frequencies, power = spectrum_over_time(play("siren", trait, seed=seed), 1024)
    band = (frequencies > 350) & (frequencies < 1800)
    pitch = frequencies[band][power[band].argmax(axis=0)]
    assert np.percentile(pitch, 95) / np.percentile(pitch, 5) > 1.15


@pytest.mark.parametrize("seed", SEEDS)
def test_rain_never_pauses_and_gusts_do(seed):
    rain, gusts = (envelope(play(*source, seed=seed))[4:-4] for source in (("rain", "heavy"), ("wind", "gusty")))
    assert rain.min() > 0.5 * np.median(rain)
    assert np.percentile(gusts, 5) < 0.45 * np.percentile(gusts, 95)


@pytest.mark.parametrize("seed", SEEDS)
def test_waves_come_every_four_to_nine_seconds_and_brighten_as_they_break(seed):
    samples = play("waves", seed=seed, seconds=40.0)
    swell = envelope(samples, 0.5)
    peaks, _ = signal.find_peaks(np.convolve(swell, np.ones(3) / 3, "same"), prominence=0.3 * swell.max(), distance=5)
    assert 3.5 < np.median(np.diff(peaks)) * 0.5 < 10
    frequencies, power = spectrum_over_time(samples, 4096)
    centroid = (frequencies[:, None] * power).sum(axis=0) / power.sum(axis=0)
    loud = power.sum(axis=0)
    assert centroid[loud > np.percentile(loud, 80)].mean() > 1.1 * centroid[loud < np.percentile(loud, 20)].mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_idling_engine_fires_regularly_and_a_revved_one_speeds_up(seed):
    idle = np.abs(play("engine", "idle", seed=seed))
    power = np.abs(np.fft.rfft(idle - idle.mean()))
    frequencies = np.fft.rfftfreq(len(idle), 1 / RATE)
    firing = (frequencies > 5) & (frequencies < 250)
    assert power[firing].max() > 8 * np.median(power[firing])
    calm, revved = (envelope(play("engine", trait, seed=seed), 0.1)[2:-2] for trait in ("idle", "revving"))
    assert revved.max() / np.median(revved) > 1.5 * calm.max() / np.median(calm)


@pytest.mark.parametrize("seed", SEEDS)
def test_near_thunder_cracks(seed):
    assert share(play("thunder", "near", seed=seed), 500, 8000) > 3 * share(
        play("thunder", "distant", seed=seed), 500, 8000
    )


# Scenes

clips = st.tuples(st.integers(0, 2**32), st.sampled_from(["train", "val", "test"]), st.integers(0, 500))
short = {"min_seconds": 3.0, "max_seconds": 4.0}


@settings(max_examples=25)
@given(clips)
def test_scenes_are_in_range_and_faded(clip):
    seed, split, index = clip
    chosen = FoleySettings(seed=seed, **short)
    samples = samples_of(chosen, split, index)
    scene = scene_of(chosen, split, index)
    assert len(samples) == round(scene.seconds * RATE)
    assert 3.0 <= scene.seconds <= 4.0
    assert 0.1 < np.abs(samples).max() <= 1
    assert abs(samples.mean()) < 1e-4
    assert max(abs(samples[0]), abs(samples[-1])) < 1e-3


def test_kinds_and_sources_come_in_their_shares():
    chosen = FoleySettings()
    scenes = [scene_of(chosen, "train", index) for index in range(600)]
    for kind, expected in zip(KINDS, (0.5, 0.25, 0.25), strict=True):
        assert sum(scene.kind == kind for scene in scenes) / 600 == pytest.approx(expected, abs=0.07)
    counts = [sum(name in scene.sources for scene in scenes) for name in SOURCES]
    assert min(counts) > 50  # each is dealt 50 times as the first source
    assert {
        scene.kind for scene in (scene_of(FoleySettings(alone=0, mixed=0, sequence=1), "val", i) for i in range(9))
    } == {"sequence"}


@pytest.mark.parametrize("pair", [("thunder", "crickets"), ("engine", "birdsong"), ("wind", "siren")])
def test_a_sequence_is_heard_in_its_order(pair):
    chosen = FoleySettings(sources=pair, alone=0, mixed=0, sequence=1)
    orders = set()
    for index in range(6):
        scene, samples = scene_of(chosen, "train", index), samples_of(chosen, "train", index)
        first, second = samples[: int((scene.change - 0.3) * RATE)], samples[int((scene.change + 0.3) * RATE) :]
        border = 350 if pair == ("wind", "siren") else 1400
        bright_first = share(first, border, 8000) > share(second, border, 8000)
        assert bright_first == (scene.sources[0] == pair[1])
        orders.add(scene.sources)
    assert orders == {pair, pair[::-1]}


@pytest.mark.parametrize("index", range(6))
def test_both_sources_of_a_mixture_are_heard(index):
    chosen = FoleySettings(sources=("thunder", "crickets"), alone=0, mixed=1, sequence=0)
    scene, samples = scene_of(chosen, "train", index), samples_of(chosen, "train", index)
    low, high = (
        loudness(signal.sosfilt(signal.butter(4, 2000, kind, fs=RATE, output="sos"), samples), RATE)
        for kind in ("lowpass", "highpass")
    )
    thunder, crickets = sorted(scene.layers, key=lambda layer: layer.source != "thunder")
    assert abs(thunder.level - crickets.level) <= LEVEL_DB
    assert 20 * np.log10(low / high) == pytest.approx(thunder.level - crickets.level, abs=2)


def test_where_one_source_is_distant_it_is_the_softer():
    for index in range(80):
        one, *others = scene_of(FoleySettings(alone=0, mixed=1, sequence=0), "train", index).layers
        if ("distant" in one.traits) and "distant" not in others[0].traits:
            assert one.level <= others[0].level


def test_a_room_rings_on():
    scene = replace(scene_of(FoleySettings(sources=("clock",), alone=1, mixed=0, sequence=0), "train", 0), noise=-90)
    dry, wet = (envelope(render(replace(scene, room=room), np.random.default_rng(0), RATE)) for room in (0.0, 2.0))
    assert np.percentile(wet, 10) / wet.max() > 2 * np.percentile(dry, 10) / dry.max()


# Captions


def test_every_phrase_names_its_source_and_no_other():
    for phrases in (CLAUSES, NOUNS):
        assert list(phrases) == list(SOURCES)
        for source, lines in phrases.items():
            traits = {trait for axis in SOURCES[source].axes for trait in axis}
            for needs, text in lines:
                assert sources_named(text) == {source}, text
                assert set(needs.split()) <= traits, text


def told_order(caption):
    """The sources in the order in which the caption says they are heard."""
    named = [name for word in re.findall(r"[a-z]+", caption.lower()) for name in sorted(sources_named(word))]
    order = list(dict.fromkeys(named))
    return order[::-1] if re.search(r"\w after (?!that)", caption) else order


@settings(max_examples=150)
@given(clips)
def test_captions_name_what_is_heard_and_nothing_else(clip):
    seed, split, index = clip
    scene = scene_of(FoleySettings(seed=seed), split, index)
    captions = captions_of(FoleySettings(seed=seed), split, index)
    assert len(set(captions)) == 5
    for caption in captions:
        assert sources_named(caption) == set(scene.sources), caption
        assert re.fullmatch(r"[A-Z][a-z ,-]+\.", caption), caption
        if scene.kind == "sequence":
            assert told_order(caption) == list(scene.sources), caption


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 500))
def test_what_captions_say_of_pace_number_and_distance_is_true(seed, index):
    chosen = FoleySettings(seed=seed, alone=1, mixed=0, sequence=0)
    traits = scene_of(chosen, "train", index).layers[0].traits
    false = {
        "fast": "slow|slowly",
        "slow": "fast|quick|quickly|rapid|rapidly",
        "once": "twice|two|several|repeated|repeatedly|again",
        "several": "once|single|twice|two|lone|one",
        "one": "several|few|group|birds|crickets|together",
        "light": "heavy|heavily|pours|pouring|hard|pounds",
        "heavy": "light|lightly|soft|softly|taps",
        "near": "distance|distant|far|way off",
        "distant": "nearby|close",
        "gravel": "floor",
        "floor": "gravel",
        "idle": "rev|revs|revving|revved",
    }
    for caption in captions_of(chosen, "train", index):
        for trait in traits & set(false):
            assert not re.search(rf"\b({false[trait]})\b", caption), (trait, caption)


def test_captions_of_like_clips_differ():
    chosen = FoleySettings(sources=("bell",), alone=1, mixed=0, sequence=0)
    written = [set(captions_of(chosen, "train", index)) for index in range(12)]
    assert all(one != two for one, two in pairwise(written))
    assert len(set.union(*written)) > 30


# On disk


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("foley")
    source = small(root)
    source.prepare()
    return source


def test_layout(made):
    for split, folder, count in (("train", "development", 6), ("val", "validation", 2), ("test", "evaluation", 2)):
        with (made.root / f"clotho_captions_{folder}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["file_name", *(f"caption_{number}" for number in range(1, 6))]
        assert [row["file_name"] for row in rows] == list(made.sources_in(split))
        assert sorted(path.name for path in (made.root / folder).iterdir()) == sorted(made.sources_in(split))
        for name in made.sources_in(split):
            info = soundfile.info(made.root / folder / name)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", RATE, 1)
            assert 3.0 <= info.duration <= 3.5
        assert len(rows) == count
    record = json.loads((made.root / "foley.json").read_text())
    assert record["settings"]["n_train"] == 6
    listed = {name: tuple(entry["sources"]) for name, entry in record["clips"]["development"].items()}
    assert listed == made.sources_in("train")
    assert not (made.root / "foley.unfinished.json").exists()


def test_clips(made):
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        clips = made.clips(split)
        assert len(clips) == count
        for clip in clips:
            assert clip.path.is_file()
            assert len(clip.captions) == 5
            assert sources_named(clip.captions[0]) == set(made.sources_in(split)[clip.name])
    names = [clip.captions for split in ("train", "val", "test") for clip in made.clips(split)]
    assert len(set(names)) == 10
    with pytest.raises(ValueError, match="unknown split 'dev'; expected one of train, val, test"):
        made.clips("dev")


def test_same_settings_same_bytes_other_seed_other_sounds(made, tmp_path):
    small(tmp_path / "same").prepare()
    small(tmp_path / "other", seed=1).prepare()
    assert contents(tmp_path / "same") == contents(made.root)
    wavs = {data for name, data in contents(made.root).items() if name.endswith(".wav")}
    assert len(wavs) == 10
    assert not wavs & set(contents(tmp_path / "other").values())


def test_prepare_goes_on_where_it_was_interrupted(made, tmp_path):
    source = small(tmp_path)
    (tmp_path / "evaluation").write_text("a file where a folder must go")
    with pytest.raises(OSError, match="evaluation"):
        source.prepare()
    with pytest.raises(FileNotFoundError, match=r"call prepare\(\)"):
        source.clips("train")
    with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        small(tmp_path, seed=1).prepare()
    (tmp_path / "evaluation").unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert kept
    source.prepare()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(tmp_path) == contents(made.root)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    source.prepare()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_deleted_file_is_missed_and_made_again(tmp_path):
    source = small(tmp_path, n_train=2, n_val=0, n_test=0)
    source.prepare()
    before = contents(tmp_path)
    source.clips("train")[0].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"prepare\(\)"):
        source.clips("train")
    source.prepare()
    assert contents(tmp_path) == before


def test_other_settings_are_refused_by_name(made):
    message = r"n_train: 6 there, 7 now; seed: 0 there, 4 now.*delete that folder, choose another root"
    with pytest.raises(ValueError, match=message) as caught:
        small(made.root, n_train=7, seed=4).prepare()
    assert "sample_rate" not in str(caught.value)
    with pytest.raises(ValueError, match="n_train: 6 there, 7 now"):
        small(made.root, n_train=7).clips("train")
    small(made.root, workers=2, sources=list(SOURCES)).prepare()  # neither makes a difference


def test_two_at_once_do_not_disturb_each_other(made, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: small(tmp_path).prepare(), range(2)))
    assert contents(tmp_path) == contents(made.root)


@pytest.mark.long
def test_several_processes_make_the_same_bytes(tmp_path):
    options = {"n_train": 64, "n_val": 0, "n_test": 0, "max_seconds": 3.0}
    for workers in (1, 2):
        small(tmp_path / str(workers), workers=workers, **options).prepare()
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ["rain", "dog"]}, r"sources has \['dog'\]; expected some of rain, wind"),
        ({"sources": []}, "no names"),
        ({"sources": ["rain"]}, "set alone=1 mixed=0 sequence=0"),
        ({"alone": 0.9}, "shares that add up to 1"),
        ({"min_seconds": 9.0}, "min_seconds <= max_seconds"),
        ({"min_seconds": 1.0}, "3.0 <= min_seconds"),
        ({"sample_rate": 8000}, "12000 or more"),
        ({"n_val": -1}, "n_val is -1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **changes)


@pytest.mark.long
def test_command_line(tmp_path):
    command = [sys.executable, "-m", "a2i.data.foley", str(tmp_path), "--count", "3", "--seed", "1"]
    options = {"capture_output": True, "text": True, "cwd": Path(__file__).parent.parent}
    done = subprocess.run([*command, "--sources", "rain", "bell"], check=True, env=dict(os.environ), **options)
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(set(paths)) == 3
    for path in paths:
        assert re.fullmatch(r"(rain|bell)(_(and|then)_(rain|bell))?(_[23])?\.wav", path.name)
        assert soundfile.info(path).duration >= 5
    failed = subprocess.run([*command, "--sample-rate", "8000"], check=False, env=dict(os.environ), **options)
    assert failed.returncode != 0
    assert "expected 12000 or more" in failed.stderr


def test_the_command_line_writes_captions_that_can_be_learnt_from(tmp_path, capsys):
    from a2i.data.folder import Folder
    from a2i.data.foley.__main__ import main

    main([str(tmp_path), "--count", "4", "--seed", "1", "--alone"])
    main([str(tmp_path), "--count", "3", "--seed", "2", "--sources", "drops"])
    source = Folder(tmp_path)
    source.prepare()
    clips = {split: source.clips(split) for split in ("train", "val", "test")}
    assert {split: len(some) for split, some in clips.items()} == {"train": 3, "val": 2, "test": 2}
    for clip in (clip for some in clips.values() for clip in some):
        assert len(clip.captions) == 5
        assert clip.path.is_file()
    (tmp_path / "captions.csv").write_text("file_name,caption\nmine.wav,My own.\n")
    capsys.readouterr()
    main([str(tmp_path), "--count", "1", "--sources", "drops"])
    assert "stays as it is" in capsys.readouterr().out
    assert (tmp_path / "captions.csv").read_text() == "file_name,caption\nmine.wav,My own.\n"
