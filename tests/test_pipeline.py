import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
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


@pytest.mark.parametrize(("batch_size", "picture_batch"), [(3, 1), (4, 3)])
def test_many_at_once_are_each_as_alone(a2i: AudioToImage, sounds: Path, batch_size: int, picture_batch: int) -> None:
    (sounds / "text.wav").write_text("no sound")
    long = tone(300, 3.0)
    many = [sounds / "low.wav", long, sounds / "text.wav", sounds / "high.wav", np.zeros(0, np.float32), tone(900, 0.7)]
    found = list(a2i.each(iter(many), 3, batch_size, picture_batch))
    assert [isinstance(result, Exception) for result in found] == [False, False, True, False, True, False]
    for sound, result in zip(many, found, strict=True):
        if isinstance(result, Exception):
            with pytest.raises(type(result), match=re.escape(str(result))):
                a2i(sound, seed=3)
            continue
        alone = a2i(sound, seed=3)
        assert result.candidates == alone.candidates
        assert result.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-4)
        difference = np.asarray(result.image, np.int16) - np.asarray(alone.image, np.int16)
        assert abs(difference).max() <= 1


def test_an_error_in_a_batch_is_its_own_clips(a2i: AudioToImage, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caption, draw = a2i.captioner.caption, a2i.painter.draw_batch  # type: ignore[union-attr]
    bad = tone(300, 0.4)

    def caption_but_one(waveforms: list[np.ndarray], **decoding: object) -> object:
        if any(len(waveform) == len(bad) for waveform in waveforms):
            raise RuntimeError("out of memory")
        return caption(waveforms, **decoding)

    def draw_but_several(captions: list[str], *more: object) -> object:
        if len(captions) > 1:
            raise RuntimeError("out of memory")
        return draw(captions, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(a2i.captioner, "caption", caption_but_one)
    monkeypatch.setattr(a2i.painter, "draw_batch", draw_but_several)
    first, second, third = a2i.each([sounds / "low.wav", bad, sounds / "high.wav"], 0, 3, 3)
    assert isinstance(second, RuntimeError)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)


def test_a_long_recording_is_heard_in_parts(a2i: AudioToImage, tmp_path: Path) -> None:
    sound = np.concatenate([tone(200, 50.0), tone(3000, 50.0), tone(900, 20.5)])
    soundfile.write(tmp_path / "long.wav", sound, 16_000, subtype="FLOAT")
    result, again = a2i(tmp_path / "long.wav"), a2i(sound)
    assert result.candidates == again.candidates
    assert len(result.parts) == 3
    assert [part.start for part in result.parts[1:]] == [part.end for part in result.parts[:-1]]
    assert result.parts[0].start == 0
    assert [part.end for part in result.parts] == pytest.approx([60, 90.25, 120.5])  # the last two of equal length
    assert result.warning is None
    surest = max(result.parts, key=lambda part: part.confidence)
    assert (result.caption, result.confidence) == (surest.caption, surest.confidence)
    samples = slice(round(surest.start * 16_000), round(surest.end * 16_000))
    assert a2i(sound[samples]).candidates == result.candidates
    assert a2i(sound[: 16_000 * 60]).parts == ()


def test_sampled_captions_keep_their_seed_in_company(a2i: AudioToImage, sounds: Path) -> None:
    sampled = {"do_sample": True, "num_beams": 1, "num_candidates": 3}
    both = list(a2i.each([sounds / "low.wav", sounds / "high.wav"], 1, 2, **sampled))
    for sound, result in zip(("low", "high"), both, strict=True):
        assert result.candidates == a2i(sounds / f"{sound}.wav", 1, **sampled).candidates  # type: ignore[union-attr]


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
