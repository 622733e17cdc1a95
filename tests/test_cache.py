import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from a2i import audio
from a2i.data import Clip
from a2i.data.cache import Cache, Entry, _found, _packed, log_mels, waveforms
from a2i.features import FeatureSettings, LogMel

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
steps = st.integers(-32768, 32767).map(lambda value: value / 32768)


def clip(path: Path, start: float | None = None, end: float | None = None) -> Clip:
    return Clip(path.name, path, ("A bell.",), start, end)


def bits(array: np.ndarray) -> bytes:
    assert array.dtype == np.float32
    return np.ascontiguousarray(array).tobytes()


def read(path: Path) -> np.ndarray | None:
    kept = _found(path)
    if kept is None:
        return None
    array = np.full(kept.shape, np.nan, np.float32)
    kept.read_into(array)
    return array


@given(array=hnp.arrays(np.float32, hnp.array_shapes(max_dims=2), elements=st.one_of(floats, steps)))
def test_what_is_kept_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("packed") / "entry.npy"
    path.write_bytes(_packed(array))
    found = read(path)
    assert found is not None
    assert found.shape == array.shape
    assert bits(found) == bits(array)
    path.write_bytes(_packed(array.T))
    turned = read(path)
    assert turned is not None
    assert bits(np.ascontiguousarray(turned.T)) == bits(array)


@settings(max_examples=40)
@given(array=hnp.arrays(np.float32, st.integers(1, 50), elements=steps), cut=st.integers(0, 300))
def test_a_piece_of_an_entry_is_none(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, cut: int) -> None:
    path = tmp_path_factory.mktemp("packed") / "entry.npy"
    whole = _packed(array)
    path.write_bytes(whole[:cut])
    found = read(path)
    assert (found is None) == (cut < len(whole))


def test_what_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "entry.npy"
    path.write_bytes(_packed(np.arange(100, dtype=np.float32) / 7))
    kept = _found(path)
    assert isinstance(kept, Entry)
    os.truncate(path, 200)
    with pytest.raises(OSError, match=r"entry.npy: ends early"):
        kept.read_into(np.empty(100, np.float32))
    path.unlink()
    with pytest.raises(OSError, match=r"entry.npy: deleted while it was wanted"):
        kept.read_into(np.empty(100, np.float32))


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "size"),
    [(16_000, 1, "PCM_16", 2), (16_000, 2, "PCM_16", 4), (44_100, 1, "PCM_16", 4), (16_000, 1, "PCM_24", 4)],
)
def test_waveforms_are_what_loading_gives(tmp_path: Path, rate: int, channels: int, subtype: str, size: int) -> None:
    path = tmp_path / "sound.wav"
    sound = np.random.default_rng(0).uniform(-1, 1, (rate // 2, channels))
    soundfile.write(path, sound, rate, subtype=subtype)
    for span in ((None, None), (0.1, None), (0.1, 0.3)):
        for cache in (waveforms(tmp_path / "cache", 16_000), waveforms(tmp_path / "cache", 16_000)):  # made, then read
            found = cache(clip(path, *span))
            assert bits(found) == bits(audio.load(path, 16_000, *span))
    entries = sorted((tmp_path / "cache").glob("waveforms-*/*/*.npy"), key=lambda entry: entry.stat().st_size)
    assert len(entries) == 3
    assert entries[-1].stat().st_size == pytest.approx(8_000 * size, abs=200)


def test_the_second_time_no_sound_is_decoded(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = waveforms(tmp_path / "cache", 16_000)(clip(sounds / "low.wav"))
    monkeypatch.setattr(audio, "load", lambda *_: pytest.fail("decoded again"))
    second = waveforms(tmp_path / "cache", 16_000)(clip(sounds / "low.wav"))
    assert bits(first) == bits(second)
    torch.from_numpy(second).zero_()  # of this process alone
    assert bits(waveforms(tmp_path / "cache", 16_000)(clip(sounds / "low.wav"))) == bits(first)


@pytest.mark.parametrize("broken", ["gone", "cut"])
def test_an_entry_that_breaks_after_it_was_seen_is_made_again(sounds: Path, tmp_path: Path, broken: str) -> None:
    cache, heard = waveforms(tmp_path / "cache", 16_000), clip(sounds / "low.wav")
    first = cache(heard)
    seen = cache.open(heard)
    assert isinstance(seen, Entry)
    assert cache.open(heard) is seen
    if broken == "gone":
        seen.path.unlink()
    else:
        os.truncate(seen.path, 200)
    assert bits(cache(heard)) == bits(first)
    assert seen.is_there()


def test_a_changed_sound_is_not_served_stale(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2i.data.file_hash.RACY", 0.05)
    time.sleep(0.1)
    path, cache = sounds / "low.wav", waveforms(tmp_path / "cache", 16_000)
    before, stat = cache(clip(path)), path.stat()
    assert cache.has(clip(path))
    soundfile.write(path, tone(250.0, 0.5), 16_000)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert not cache.has(clip(path))
    for each in (cache, waveforms(tmp_path / "cache", 16_000)):
        assert bits(each(clip(path))) == bits(audio.load(path, 16_000)) != bits(before)


def test_a_sound_that_changes_while_it_is_decoded(sounds: Path, tmp_path: Path) -> None:
    path, changes = sounds / "low.wav", iter([300.0, None])

    def slow(clip: Clip) -> np.ndarray:
        found = audio.load(clip.path, 16_000)
        if frequency := next(changes, None):
            soundfile.write(path, tone(frequency, 0.5), 16_000)
        return found

    cache = Cache(tmp_path / "cache", {"kind": "slow"}, slow, 16_000)
    assert bits(cache(clip(path))) == bits(audio.load(path, 16_000))
    assert len(list(cache.entries.glob("*/*.npy"))) == 1

    def never(clip: Clip) -> np.ndarray:
        path.write_bytes(path.read_bytes() + b"more")
        return np.zeros(1, np.float32)

    cache = Cache(tmp_path / "cache", {"kind": "never"}, never, 16_000)
    with pytest.raises(ValueError, match=r"low.wav: changed 3 times"):
        cache(clip(path))
    assert not cache.entries.exists()


def test_other_settings_are_another_entry(sounds: Path, tmp_path: Path) -> None:
    path = sounds / "low.wav"
    caches = [log_mels(tmp_path / "cache", FeatureSettings(num_mel_bins=bins)) for bins in (64, 128)]
    assert [cache(clip(path)).shape[1] for cache in (*caches, *caches)] == [64, 128, 64, 128]
    assert caches[0].entries != caches[1].entries
    about = json.loads((caches[0].entries / "settings.json").read_text())
    assert about["features"]["num_mel_bins"] == 64
    assert {"format", "soxr", "libsndfile", "torch"} <= set(about)


def test_log_mels_are_the_batchs(sounds: Path, tmp_path: Path) -> None:
    cache = log_mels(tmp_path / "cache", FeatureSettings())
    assert pickle.loads(pickle.dumps(cache)).entries == cache.entries
    long = sounds / "long.wav"
    soundfile.write(long, tone(700.0, 1.0), 16_000)
    loaded = [torch.from_numpy(audio.load(path, 16_000)) for path in (sounds / "low.wav", long)]
    batch = torch.nn.utils.rnn.pad_sequence(loaded, batch_first=True)
    log_mel, mask = LogMel()(batch, torch.tensor([len(each) for each in loaded]))
    for index, path in enumerate((sounds / "low.wav", long)):
        for _ in range(2):
            torch.testing.assert_close(
                torch.from_numpy(cache(clip(path))), log_mel[index, mask[index]], atol=1e-5, rtol=0
            )


def test_what_is_wrong_with_a_sound_is_said_and_nothing_kept(tmp_path: Path) -> None:
    cache = waveforms(tmp_path / "cache", 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text.wav: can't be read as sound"):
        cache(clip(tmp_path / "text.wav"))
    with pytest.raises(FileNotFoundError, match=r"none.wav: no such file; expected a sound file"):
        cache(clip(tmp_path / "none.wav"))
    assert not cache.entries.exists()


def test_an_entry_in_another_order_is_none(tmp_path: Path) -> None:
    """`read_into` would take its columns for rows."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "rows.npy", array)
    np.save(tmp_path / "columns.npy", np.asfortranarray(array))
    assert isinstance(_found(tmp_path / "rows.npy"), Entry)
    assert _found(tmp_path / "columns.npy") is None
