"""The sampling rate belongs to the captioner: its folder keeps it, and sounds are brought to it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import make_captioner, tone

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.batching import CaptionResult, caption_many, read
from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.data.cache import waveforms
from a2i.features import FeatureSettings, LogMel
from a2i.training.run_folder import saved_settings


def hearing(tokenizer: CaptionTokenizer, settings: FeatureSettings) -> Captioner:
    captioner = make_captioner(tokenizer)
    captioner.log_mel = LogMel(settings)
    return captioner


def test_a_folder_keeps_the_rate_and_one_from_before_has_16_khz(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    folder = hearing(tokenizer, FeatureSettings(64, kind="panns_32k")).save(tmp_path / "captioner")
    assert Captioner.load(folder).sampling_rate == 32_000
    settings = json.loads((folder / "captioner.json").read_text())
    assert settings["features"].pop("sampling_rate") == 32_000
    (folder / "captioner.json").write_text(json.dumps(settings))
    old = Captioner.load(folder)
    assert old.sampling_rate == 16_000
    found, _ = old.log_mel(torch.from_numpy(tone(440, 0.5))[None], torch.tensor([8_000]))
    assert (old.log_mel.settings.restored(found)[:, :, 57:] == -100).all()


def test_sounds_are_brought_to_the_captioners_rate(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = hearing(tokenizer, FeatureSettings(128, kind="sound_effects"))
    path, samples = tmp_path / "tone.wav", tone(12_000, 62.0, 48_000)
    soundfile.write(path, samples, 48_000, subtype="FLOAT")
    for sound in (path, (samples, 48_000)):
        parts = list(read(sound, captioner.sampling_rate, captioner.longest).parts())
        assert [end for _, end, _ in parts] == pytest.approx([31, 62])
        heard = parts[0][2]
        assert len(heard) == 31 * 44_100
        assert np.abs(np.fft.rfft(heard)).argmax() / 31 == pytest.approx(12_000, abs=1)
        (result,) = caption_many(captioner, [sound])
        assert isinstance(result, CaptionResult)
        assert [part.end for part in result.parts] == pytest.approx([31, 62])


def test_a_cache_keeps_rates_apart(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(440, 0.5, 44_100), 44_100)
    for rate in (16_000, 44_100, 16_000):
        assert np.array_equal(waveforms(tmp_path / "cache", rate)(Clip("a", path, ())), audio.load(path, rate))


def test_a_run_from_before_goes_on_at_16_khz(tmp_path: Path) -> None:
    config = {"data": {}, "trainer": {}, "loader": {}, "training": {}}
    for features, expected in (({"kind": "panns_32k"}, 16_000), ({"kind": "panns_32k", "sampling_rate": None}, None)):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"model": {"features": features}}))
        assert saved_settings(tmp_path)["model"]["features"]["sampling_rate"] == expected
