import re
import traceback
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone
from PIL import Image

from a2i import AudioToImage
from a2i.captioner.batching import Sound
from a2i.diffusion import Painter
from a2i.result import Result


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

    waveform = audio.load(sounds / "high.wav", 16_000)
    expected = a2i(sounds / "high.wav").candidates
    for samples in (waveform, (waveform * 32768).round().astype(np.int16), torch.from_numpy(waveform).double()):
        assert a2i(samples, sampling_rate=16_000).candidates == expected
        (result,) = a2i.each([(samples, 16_000)])
        assert result.candidates == expected  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="without its sampling rate"):
        a2i(waveform)
    with pytest.raises(ValueError, match="a file says its own"):
        a2i(sounds / "high.wav", sampling_rate=16_000)


def test_what_is_wrong_with_one_array_stops_no_other(a2i: AudioToImage) -> None:
    good, bad = tone(500, 0.5), (tone(500, 0.5) * 32768).round()
    first, second, third, fourth = a2i.each([(good, 16_000), (bad, 16_000), bad, (good, 16_000)], batch_size=4)
    assert "look like unscaled integers" in str(second)
    assert "without its sampling rate" in str(third)
    assert first.candidates == fourth.candidates  # type: ignore[union-attr]


def test_a_failed_batch_is_let_go_before_its_clips_are_tried_alone(
    a2i: AudioToImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the error of a clip that fails alone too keeps nothing alive either."""
    caption, draw = a2i.captioner.caption, a2i.painter.draw_batch  # type: ignore[union-attr]
    held: list[weakref.ref[torch.Tensor]] = []
    tried = []

    def hold(count: int, *given: object) -> None:
        assert [one() for one in held] == [None] * len(held)  # without the collector of cycles
        tried.append(count)
        large = torch.zeros(1_000)
        held.append(weakref.ref(large))
        if count > 1 or not given:
            raise torch.OutOfMemoryError("out of memory")

    def caption_one(waveforms: list[np.ndarray], **decoding: Any) -> object:
        hold(len(waveforms), *([] if len(waveforms[0]) == 16_000 else [0]))
        return caption(waveforms, **decoding)

    def draw_one(captions: list[str], *more: Any) -> object:
        hold(len(captions), 0)
        return draw(captions, *more)

    monkeypatch.setattr(a2i.captioner, "caption", caption_one)
    monkeypatch.setattr(a2i.painter, "draw_batch", draw_one)
    found = list(a2i.each([(tone(400, seconds), 16_000) for seconds in (0.9, 1.0, 1.1)], 0, 3, 3))
    assert tried == [3, 1, 1, 1, 2, 1, 1]
    assert [isinstance(result, torch.OutOfMemoryError) for result in found] == [False, True, False]
    traced = traceback.extract_tb(found[1].__traceback__)  # type: ignore[union-attr]
    assert [frame.name for frame in traced][-2:] == ["caption_one", "hold"]


def test_the_same_seed_gives_the_same_result(a2i: AudioToImage, sounds: Path) -> None:
    sampled = {"do_sample": True, "num_beams": 1, "num_candidates": 3}
    first = a2i(sounds / "low.wav", seed=1, **sampled)
    a2i(sounds / "high.wav", seed=2, **sampled)
    again = a2i(sounds / "low.wav", seed=1, **sampled)
    assert first.candidates == again.candidates
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))


def one(a2i: AudioToImage, sound: Sound) -> Result:
    (result,) = a2i.each([sound], 3)
    if isinstance(result, Exception):
        raise result
    return result


@pytest.mark.parametrize(("batch_size", "picture_batch"), [(3, 1), (4, 3)])
def test_many_at_once_are_each_as_alone(a2i: AudioToImage, sounds: Path, batch_size: int, picture_batch: int) -> None:
    (sounds / "text.wav").write_text("no sound")
    long, short, none = ((sound, 16_000) for sound in (tone(300, 3.0), tone(900, 0.7), np.zeros(0, np.float32)))
    many = [sounds / "low.wav", long, sounds / "text.wav", sounds / "high.wav", none, short]
    found = list(a2i.each(iter(many), 3, batch_size, picture_batch))
    assert [isinstance(result, Exception) for result in found] == [False, False, True, False, True, False]
    for sound, result in zip(many, found, strict=True):
        if isinstance(result, Exception):
            with pytest.raises(type(result), match=re.escape(str(result))):
                one(a2i, sound)
            continue
        alone = one(a2i, sound)
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
    first, second, third = a2i.each([sounds / "low.wav", (bad, 16_000), sounds / "high.wav"], 0, 3, 3)
    assert isinstance(second, RuntimeError)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)


def test_a_long_recording_is_heard_in_parts(a2i: AudioToImage, tmp_path: Path) -> None:
    sound = np.concatenate([tone(200, 50.0), tone(3000, 50.0), tone(900, 20.5)])
    soundfile.write(tmp_path / "long.wav", sound, 16_000, subtype="FLOAT")
    result, again = a2i(tmp_path / "long.wav"), a2i(sound, sampling_rate=16_000)
    assert result.candidates == again.candidates
    assert len(result.parts) == 3
    assert [part.start for part in result.parts[1:]] == [part.end for part in result.parts[:-1]]
    assert result.parts[0].start == 0
    assert [part.end for part in result.parts] == pytest.approx([60, 90.25, 120.5])  # the last two of equal length
    assert result.warning is None
    surest = max(result.parts, key=lambda part: part.confidence)
    assert (result.caption, result.confidence) == (surest.caption, surest.confidence)
    samples = slice(round(surest.start * 16_000), round(surest.end * 16_000))
    assert a2i(sound[samples], sampling_rate=16_000).candidates == result.candidates
    assert a2i(sound[: 16_000 * 60], sampling_rate=16_000).parts == ()


def test_sampled_captions_keep_their_seed_in_company(a2i: AudioToImage, sounds: Path) -> None:
    sampled = {"do_sample": True, "num_beams": 1, "num_candidates": 3}
    both = list(a2i.each([sounds / "low.wav", sounds / "high.wav"], 1, 2, **sampled))
    for sound, result in zip(("low", "high"), both, strict=True):
        assert result.candidates == a2i(sounds / f"{sound}.wav", 1, **sampled).candidates  # type: ignore[union-attr]


def test_captions_alone(captioner_folder: Path, tmp_path: Path) -> None:
    for image in (None, "none"):
        result = AudioToImage.load(captioner_folder, image, device="cpu")(tone(500, 0.3), sampling_rate=16_000)
        assert result.image is None
        assert result.image_model is None
    with pytest.raises(ValueError, match="without a picture"):
        result.save(tmp_path / "x.png")


def test_decoding_settings_of_a_call(a2i: AudioToImage) -> None:
    assert len(a2i(tone(500, 0.3), sampling_rate=16_000, num_beams=1, num_candidates=1).candidates) == 1
    with pytest.raises(ValueError, match="'beam'"):
        a2i(tone(500, 0.3), sampling_rate=16_000, beam=3)


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


def test_how_loud_a_sound_is_does_not_tell_what_it_is(real_data: Path) -> None:
    """The embedded captioner names a bell 20 dB softer, and silence silence."""
    from a2i.data.unnamed import unnamed_kinds

    a2i = AudioToImage.load(image=None, device="cpu")
    assert "bell" in a2i(real_data / "cases" / "quiet_20db.wav").caption.lower()
    room = np.random.default_rng(0).normal(0, 10 ** (-65 / 20), 80_000).astype(np.float32)
    for silence in (np.zeros(80_000, np.float32), room):
        assert unnamed_kinds(a2i(silence, sampling_rate=16_000).caption) == {"silence"}


def test_softer_sounds_are_called_alike() -> None:
    """By the embedded captioner: sounds that a2i makes, 25 dB softer; without the setting they are silence to it."""
    from a2i.data.foley.captions import sources_named
    from a2i.data.foley.sources import SOURCES

    a2i = AudioToImage.load(image=None, device="cpu")
    names = ("bell", "siren", "clock", "thunder")
    sounds = [0.5 * SOURCES[name](np.random.default_rng(3), 4.0, 16_000) for name in names]
    for factor in (1.0, 0.056):
        found = list(a2i.each([(factor * sound, 16_000) for sound in sounds], batch_size=4))
        assert [sources_named(result.caption) for result in found] == [{name} for name in names]  # type: ignore[union-attr]
