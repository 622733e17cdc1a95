"""Every captioner, and every picture model, is one that inference and evaluation can use."""

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SENTENCES, make_captioner, tone
from pretrained_models import loud, make_audio_flamingo3, make_qwen2_5_omni, make_qwen2_audio, make_whisper
from programs import run

from a2i.audio.waveforms import from_array
from a2i.captioner import Captioner
from a2i.captioner.audio_language import AudioLanguageCaptioner
from a2i.captioner.candidates import Candidate
from a2i.captioner.decoding import Decoding
from a2i.captioner.protocols import CaptionModel
from a2i.captioner.text import CaptionTokenizer
from a2i.captioner.whisper import WhisperCaptioner
from a2i.diffusion import Painter, PictureModel
from a2i.evaluate.captioning import predict
from a2i.evaluate.systems import read_if_written
from a2i.models import load_captioner
from a2i.names import named_settings
from a2i.pipeline import AudioToImage


def make_folder(folder: Path) -> Path:
    captioner = make_captioner(CaptionTokenizer.train(SENTENCES, 300), seed=1)
    loud(captioner, 6)
    return captioner.save(folder)


# Each kind's choice in `conf/captioner`, and what makes a small one of it.
KINDS: dict[str, Callable[[Path], Path]] = {
    "folder": make_folder,
    "whisper_tiny": make_whisper,
    "qwen2_audio": make_qwen2_audio,
    "qwen2_5_omni": make_qwen2_5_omni,
    "audio_flamingo3": make_audio_flamingo3,
}
CPU = torch.device("cpu")


def captioners(folder: Captioner, whisper: WhisperCaptioner, model: AudioLanguageCaptioner) -> list[CaptionModel]:
    """For the type checker, which reads this file too: all fit."""
    return [folder, whisper, model]


def picture_models(painter: Painter) -> list[PictureModel]:
    """Likewise."""
    return [painter]


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A name in `conf/captioner`, and a folder with a small model for it."""
    return request.param, KINDS[request.param](tmp_path_factory.mktemp("models") / request.param)


def place(kind: tuple[str, Path]) -> dict[str, str]:
    """The setting that says where the model is."""
    name, folder = kind
    return {"folder" if name == "folder" else "model": str(folder)}


@pytest.fixture(scope="module")
def settings(kind: tuple[str, Path]) -> dict[str, Any]:
    """As `captioner=NAME captioner.model=FOLDER` gives them."""
    try:
        named = named_settings("captioner", kind[0]) or {}
    except ValueError:  # that of a folder has no value of its own
        named = {"_target_": "a2i.captioner.model.Captioner"}
    return named | place(kind)


@pytest.fixture(scope="module")
def captioner(settings: dict[str, Any]) -> CaptionModel:
    return load_captioner(settings, CPU)


@pytest.fixture(scope="module")
def sounds(captioner: CaptionModel) -> list[np.ndarray]:
    rate = captioner.sampling_rate
    noise = np.random.default_rng(0).normal(0, 0.1, round(1.5 * rate)).astype(np.float32)
    return [tone(300, 1.2, rate), tone(2000, 0.4, rate), noise]


def said(clips: list[list[Candidate]]) -> list[list[str]]:
    return [[one.caption for one in clip] for clip in clips]


def check_candidates(clips: list[list[Candidate]], count: int, most: int) -> None:
    assert len(clips) == count
    for clip in clips:
        assert 1 <= len(clip) <= most
        assert len({one.caption for one in clip}) == len(clip)
        for one in clip:
            assert isinstance(one.caption, str)
            assert one.caption == " ".join(one.caption.split())
            assert one.log_probability <= 0
            assert 0 <= one.confidence <= 1
            assert math.isfinite(one.evidence)


def test_what_is_asked_of_one(captioner: CaptionModel, kind: tuple[str, Path]) -> None:
    for method in ("decoding_with", "caption"):
        wanted, found = (inspect.signature(getattr(each, method)) for each in (CaptionModel, type(captioner)))
        assert list(found.parameters) == list(wanted.parameters)
    assert captioner.name == str(kind[1])
    assert captioner.licence is None or captioner.licence.strip()
    assert isinstance(captioner.sampling_rate, int)
    assert captioner.sampling_rate >= 8_000
    assert captioner.longest >= 1
    assert captioner.device == CPU
    assert captioner.to("cpu") is captioner
    assert captioner.decoding_with() == captioner.decoding
    assert captioner.decoding_with(num_beams=7, max_tokens=None).num_beams == 7


def test_candidates(captioner: CaptionModel, sounds: list[np.ndarray]) -> None:
    beams = captioner.caption(sounds, num_beams=4, num_candidates=3, max_tokens=6)
    check_candidates(beams, 3, 3)
    assert max(map(len, beams)) > 1
    assert len({clip[0].caption for clip in beams}) > 1  # it hears
    torch.manual_seed(0)
    drawn = captioner.caption(sounds, num_beams=1, do_sample=True, num_candidates=5, max_tokens=6)
    check_candidates(drawn, 3, 5)
    assert max(map(len, drawn)) > 1
    for clip in drawn:
        assert clip == sorted(clip, key=lambda one: -one.log_probability)


def test_a_batch_equals_one_by_one(captioner: CaptionModel, sounds: list[np.ndarray]) -> None:
    together = captioner.caption(sounds, max_tokens=6, num_candidates=1)
    for sound, clip in zip(sounds, together, strict=True):
        (alone,) = captioner.caption([sound], max_tokens=6, num_candidates=1)
        assert said([alone]) == said([clip])
        assert alone[0].log_probability == pytest.approx(clip[0].log_probability, abs=1e-3)


def test_settings_of_decoding_are_honoured(captioner: CaptionModel, sounds: list[np.ndarray]) -> None:
    greedy = captioner.caption(sounds, num_beams=1, num_candidates=1, max_tokens=6)
    for likeliest in ({"temperature": 1e-3}, {"top_p": 1e-6}):
        drawn = captioner.caption(sounds, num_beams=1, num_candidates=1, max_tokens=6, do_sample=True, **likeliest)
        assert said(drawn) == said(greedy)
    shorter = captioner.caption(sounds, num_beams=1, num_candidates=1, max_tokens=1)
    for (short,), (long,) in zip(shorter, greedy, strict=True):
        assert len(short.caption) <= len(long.caption)
    assert said(shorter) != said(greedy)
    with pytest.raises(ValueError, match="got decoding setting 'beams'"):
        captioner.caption(sounds, beams=2)
    with pytest.raises(ValueError, match="got num_candidates=9 with num_beams=1"):
        captioner.caption(sounds, num_beams=1, num_candidates=9)


def test_what_a_kind_lacks_is_refused(
    captioner: CaptionModel, sounds: list[np.ndarray], kind: tuple[str, Path]
) -> None:
    with pytest.raises(ValueError, match=r"got cleaning=published.* expected text\.cleaning=none"):
        captioner.caption(sounds, cleaning="published")
    if kind[0] == "folder":
        assert said(captioner.caption(sounds, precision="bfloat16"))
    else:
        with pytest.raises(ValueError, match=r"got decoding\.precision=bfloat16 .*captioner\.dtype=bfloat16"):
            captioner.caption(sounds, precision="bfloat16")


def test_weights_of_lower_precision(settings: dict[str, Any], sounds: list[np.ndarray]) -> None:
    lower = load_captioner(settings, CPU, "bfloat16")
    check_candidates(lower.caption(sounds, max_tokens=4, num_candidates=1), 3, 1)
    with pytest.raises(ValueError, match=r"got dtype='?int4'?"):
        load_captioner(settings, CPU, "int4")
    with pytest.raises(ValueError, match="'colour'"):
        load_captioner(settings | {"colour": 1}, CPU)


def test_hardly_any_sound_and_silence(captioner: CaptionModel, sounds: list[np.ndarray]) -> None:
    odd = [np.ones(1, np.float32), sounds[0][:100], np.zeros(captioner.sampling_rate, np.float32)]
    check_candidates(captioner.caption(odd, max_tokens=4, num_candidates=1), 3, 1)
    together = captioner.caption([*odd, sounds[0]], max_tokens=4, num_candidates=1)
    assert said(together[:3]) == said(captioner.caption(odd, max_tokens=4, num_candidates=1))


@pytest.mark.parametrize("sound", [[], np.zeros(0, np.float32), np.zeros(9), np.full(9, np.nan, np.float32), "a.wav"])
def test_what_is_no_waveform_is_refused(captioner: CaptionModel, sound: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        captioner.caption([] if isinstance(sound, list) else [sound])


def test_an_array_of_any_rate(captioner: CaptionModel) -> None:
    a2i = AudioToImage.load(captioner, None)
    samples = (32767 * tone(300, 1.0, 44_100)).astype(np.int16)
    result = a2i(samples, sampling_rate=44_100, max_tokens=6)
    expected = captioner.caption([from_array(samples, 44_100, captioner.sampling_rate)], max_tokens=6)
    assert result.caption == expected[0][0].caption
    assert 0 < result.confidence <= 1
    again = [a2i(tone(300, 1.0), 5, sampling_rate=16_000, max_tokens=6, do_sample=True, num_beams=1) for _ in range(2)]
    assert again[0].candidates == again[1].candidates  # sampling from the seed


def test_a_long_recording_is_heard_to_its_end(captioner: CaptionModel) -> None:
    rate, seconds = captioner.sampling_rate, 2.5 * captioner.longest
    sound = np.random.default_rng(1).normal(0, 0.1, round(seconds * rate)).astype(np.float32)
    result = AudioToImage.load(captioner, None)(sound, sampling_rate=rate, max_tokens=2, num_beams=2)
    bounds = [captioner.longest, 1.75 * captioner.longest, seconds]
    assert [part.end for part in result.parts] == pytest.approx(bounds)
    assert result.confidence == max(part.confidence for part in result.parts)


def command(kind: tuple[str, Path]) -> list[str]:
    return [f"captioner={kind[0]}", *(f"captioner.{name}={value}" for name, value in place(kind).items()), "device=cpu"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    import soundfile

    folder = tmp_path / "sounds"
    folder.mkdir()
    for name, frequency in (("low", 200.0), ("high", 4000.0)):
        soundfile.write(folder / f"{name}.wav", tone(frequency, 0.5), 16_000)
    soundfile.write(folder / "still.wav", np.zeros(8_000), 16_000)
    (folder / "broken.wav").write_text("no sound")
    rows = ["file_name,caption_1,split", *(f"{name}.wav,A tone.,test" for name in ("low", "high", "still"))]
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.long
def test_infer_by_name(kind: tuple[str, Path], captioner: CaptionModel, recordings: Path, tmp_path: Path) -> None:
    chosen = [*command(kind), f"out={tmp_path / 'out'}", "image=none", "decoding.max_tokens=6", "batch_size=3"]
    done = run("infer", f"audio={recordings}", *chosen)
    assert done.returncode == 1  # of the one that is broken
    assert captioner.licence is None or f"captions by {kind[1]}, licence: {captioner.licence}" in done.stdout
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    rows = {Path(row["audio"]).stem: row for row in map(json.loads, lines)}
    assert {name: row["error"] is None for name, row in rows.items()} == {
        **{"low": True, "high": True, "still": True},
        "broken": False,
    }
    assert {row["captioner"] for row in rows.values()} == {str(kind[1])}
    again = run("infer", f"audio={recordings / 'low.wav'}", *chosen)
    assert "1 of 1 done, 1 of them already before" in again.stdout


@pytest.mark.long
def test_evaluate_by_name(kind: tuple[str, Path], settings: dict[str, Any], recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    chosen = [*command(kind), "data=folder", f"data.root={recordings}", "decoding.max_tokens=6", f"out={out}"]
    done = run("evaluate", *chosen, "metrics=[bleu_1]", "bootstrap_samples=10", "report.sounds=false")
    assert done.returncode == 0, done.stderr
    about = json.loads((out / "scores.json").read_text())
    assert str(kind[1]) in json.dumps(about)
    assert read_if_written(kind[0]) is None
    data = {"_target_": "a2i.data.folder.Folder", "root": str(recordings)}
    rows = predict(settings, data, decoding={"max_tokens": 6}, device="cpu")
    assert [row.file_name for row in rows] == ["high.wav", "low.wav", "still.wav"]
    assert all(row.candidates and 0 < (row.confidence or 0) <= 1 for row in rows)


def test_one_that_was_never_saved(tokenizer: CaptionTokenizer) -> None:
    made: CaptionModel = make_captioner(tokenizer)
    assert made.name == "captioner"
    assert made.licence is None
    assert made.decoding_with(num_beams=3) == Decoding(num_beams=3, num_candidates=2, max_tokens=8)
    assert len(made.caption([tone(300, 0.5)], num_candidates=1)[0]) == 1
