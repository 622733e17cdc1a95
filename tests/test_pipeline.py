from pathlib import Path

import numpy as np
import pytest
from conftest import tone
from PIL import Image

from a2i import AudioToImage
from a2i.diffusion import Painter


@pytest.fixture(scope="module")
def a2i(captioner_folder: Path, painter_folder: Path) -> AudioToImage:
    return AudioToImage.load(captioner_folder, Painter(str(painter_folder), steps=2, device="cpu"), device="cpu")


def test_a_sound_becomes_a_caption_and_a_picture(a2i: AudioToImage, sounds: Path, tmp_path: Path) -> None:
    result = a2i(sounds / "low.wav", seed=5)
    assert result.caption == result.candidates[0]
    assert len(result.candidates) == len(result.log_probabilities)
    assert result.image is not None
    assert result.seed == 5
    assert result.seconds > 0
    path = result.save(tmp_path / "new" / "low.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.text["caption"] == result.caption
        assert image.text["seed"] == "5"
        assert image.text["model"] == result.image_model
        assert np.array_equal(np.asarray(image), np.asarray(result.image))
    assert [file.name for file in path.parent.iterdir()] == ["low.png"]


def test_a_waveform_is_heard_as_its_file(a2i: AudioToImage, sounds: Path) -> None:
    from a2i import audio

    waveform = audio.load(sounds / "high.wav")
    assert a2i(waveform).candidates == a2i(sounds / "high.wav").candidates
    with pytest.raises(ValueError, match=r"expected \(samples,\)"):
        a2i(np.zeros((2, 100), np.float32))
    with pytest.raises(ValueError, match="finite"):
        a2i(np.array([np.nan], np.float32))


def test_the_same_seed_gives_the_same_result(a2i: AudioToImage, sounds: Path) -> None:
    sampled = {"do_sample": True, "num_beams": 1, "num_candidates": 3}
    first = a2i(sounds / "low.wav", seed=1, **sampled)
    a2i(sounds / "high.wav", seed=2, **sampled)
    again = a2i(sounds / "low.wav", seed=1, **sampled)
    assert first.candidates == again.candidates
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))


def test_captions_alone(captioner_folder: Path, tmp_path: Path) -> None:
    for image in (None, "none"):
        result = AudioToImage.load(captioner_folder, image, device="cpu")(tone(500, 0.3))
        assert result.image is None
        assert result.image_model is None
    with pytest.raises(ValueError, match="without a picture"):
        result.save(tmp_path / "x.png")


def test_decoding_settings_of_a_call(a2i: AudioToImage) -> None:
    assert len(a2i(tone(500, 0.3), num_beams=1, num_candidates=1).candidates) == 1
    with pytest.raises(ValueError, match="'beam'"):
        a2i(tone(500, 0.3), beam=3)


def test_picture_models_by_folder_settings_and_name(captioner_folder: Path, painter_folder: Path) -> None:
    for image in (painter_folder, str(painter_folder), {"model": str(painter_folder), "steps": 1}):
        loaded = AudioToImage.load(captioner_folder, image, device="cpu")
        assert loaded.painter is not None
        assert loaded.painter.name == str(painter_folder)
    with pytest.raises(FileNotFoundError, match="expected a captioner folder"):
        AudioToImage.load(painter_folder, None)


def test_without_arguments_the_embedded_models_serve(sounds: Path) -> None:
    a2i = AudioToImage.load(device="cpu")
    result = a2i(sounds / "low.wav")
    assert result.caption
    assert result.captioner == "a2i-mini-captioner"
    assert result.image_model == "a2i-mini-painter"
    assert result.image is not None
