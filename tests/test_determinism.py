"""The same seed gives the same captions, pictures and weights: on repeat, in any batch and order, by any number of threads.

Captions are equal to the letter. Sums come out in another order in another batch: numbers differ by their rounding alone.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from programs import run
from safetensors.torch import load_file
from test_golden import ENVIRONMENT, TRAINING

from a2i import AudioToImage
from a2i.result import Result

PIXEL = 1  # of 255, by which a pixel may differ
SURE = 1e-4  # by which a confidence may differ
LENGTHS = (0.3, 0.5, 2.0, 1.1, 3.7, 0.5)  # seconds: batches are padded
SAMPLED = {"do_sample": True, "num_beams": 1, "num_candidates": 2, "temperature": 1.5}


def write_sounds(folder: Path) -> list[Path]:
    """Noise that swells, and each time another."""
    folder.mkdir()
    paths = [folder / f"{index}.wav" for index in range(len(LENGTHS))]
    for index, (path, seconds) in enumerate(zip(paths, LENGTHS, strict=True)):
        noise = np.random.default_rng(index).standard_normal(round(seconds * 16_000)) * np.linspace(
            0.01, 0.2, round(seconds * 16_000)
        )
        soundfile.write(path, noise.astype(np.float32), 16_000)
    return paths


@pytest.fixture(scope="module")
def sounds_of(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sounds(tmp_path_factory.mktemp("determinism") / "sounds")


@pytest.fixture(scope="module")
def tiny(captioner_folder: Path, painter_folder: Path) -> AudioToImage:
    """Random weights."""
    return AudioToImage.load(captioner=captioner_folder, image={"model": str(painter_folder), "steps": 2}, device="cpu")


@pytest.fixture(scope="module")
def mini() -> AudioToImage:
    """The models that come with a2i."""
    return AudioToImage.load(device="cpu")


def results(a2i: AudioToImage, sounds: list[Path], seed: int = 3, **more: Any) -> dict[str, Result]:
    found = {path.name: each for path, each in zip(sounds, a2i.each(sounds, seed, **more), strict=True)}
    assert not [each for each in found.values() if isinstance(each, Exception)]
    return found  # type: ignore[return-value]


def difference(one: dict[str, Result], other: dict[str, Result]) -> tuple[int, float]:
    """By how much pixels and confidences differ at most; captions have to be equal."""
    assert one.keys() == other.keys()
    pixel, sure = 0, 0.0
    for name, each in one.items():
        assert (each.caption, each.candidates) == (other[name].caption, other[name].candidates)
        pictures = [np.asarray(found.image, np.int16) for found in (each, other[name]) if found.image is not None]
        if pictures:
            pixel = max(pixel, int(np.abs(pictures[0] - pictures[1]).max()))
        sure = max(sure, abs(each.confidence - other[name].confidence))
    return pixel, sure


def changes(sounds: list[Path], few: bool = False) -> Iterator[tuple[str, list[Path], dict[str, Any], int]]:
    """Ways to ask for the same: a name, the sounds, how they are batched, and threads."""
    mixed = random.Random(1).sample(sounds, len(sounds))
    yield "reversed", sounds[::-1], {}, 1
    yield "mixed, in batches, 2 threads", mixed, {"batch_size": 3, "picture_batch": 2}, 2
    if few:
        return
    yield "again", sounds, {}, 1
    for size in (2, 4, len(sounds)):
        yield f"batches of {size}", sounds, {"batch_size": size, "picture_batch": size}, 1
    for threads in (2, 3):
        yield f"{threads} threads", sounds, {}, threads


def table(a2i: AudioToImage, sounds: list[Path], few: bool = False, **decoding: Any) -> dict[str, tuple[int, float]]:
    """The differences from one sound at a time by one thread."""
    before, found = torch.get_num_threads(), {}
    try:
        torch.set_num_threads(1)
        base = results(a2i, sounds, **decoding)
        for name, order, batches, threads in changes(sounds, few):
            torch.set_num_threads(threads)
            found[name] = difference(base, results(a2i, order, **batches, **decoding))
    finally:
        torch.set_num_threads(before)
    return found


def check(found: dict[str, tuple[int, float]]) -> None:
    assert [found[name] for name in ("again", "reversed") if name in found if found[name] != (0, 0.0)] == [], (
        "bit for bit"
    )
    assert all(pixel <= PIXEL and sure <= SURE for pixel, sure in found.values()), found


def test_captions_and_pictures_are_the_same(tiny: AudioToImage, sounds_of: list[Path]) -> None:
    check(table(tiny, sounds_of[:3], few=True))


def test_sampled_captions_are_the_same_and_another_seed_gives_others(tiny: AudioToImage, sounds_of: list[Path]) -> None:
    captions = AudioToImage(tiny.captioner, None)
    check(table(captions, sounds_of[:2], few=True, **SAMPLED))
    one, other = (results(captions, sounds_of[:2], seed, **SAMPLED) for seed in (0, 1))
    assert any(each.candidates != other[name].candidates for name, each in one.items())


def test_another_seed_gives_another_picture(tiny: AudioToImage) -> None:
    assert tiny.painter is not None
    one, other = (np.asarray(tiny.painter.draw("a dog", seed).image) for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("decoding", [{}, SAMPLED], ids=["beams", "sampled"])
def test_those_of_the_embedded_models_too(
    mini: AudioToImage, sounds_of: list[Path], decoding: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = table(mini, sounds_of, **decoding)
    with capsys.disabled():
        for name, (pixel, sure) in found.items():
            print(f"\n{name}: pixels by {pixel}, confidences by {sure:.1e} at most", end="")
    check(found)


@pytest.mark.slow
def test_the_program_gives_what_a_call_gives(mini: AudioToImage, sounds_of: list[Path], tmp_path: Path) -> None:
    """And the same with other batches in a folder of its own."""
    from PIL import Image

    for out, batch in (("one", "1"), ("many", "4")):
        done = run(
            "infer",
            f"audio={sounds_of[0].parent}",
            f"out={tmp_path / out}",
            "seed=3",
            f"batch_size={batch}",
            f"picture_batch={batch}",
        )
        assert done.returncode == 0, done.stderr
        for name, result in results(mini, sounds_of).items():
            with Image.open(tmp_path / out / f"{Path(name).stem}.png") as image:
                assert image.info["caption"] == result.caption
                assert np.abs(np.asarray(image, np.int16) - np.asarray(result.image, np.int16)).max() <= PIXEL


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_weights_are_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    """Bit for bit, with augmentation by chance and captions by chance; another seed gives others."""
    from test_golden import make_sounds

    make_sounds(tmp_path / "sounds")
    weights = {}
    for name, workers, seed in (("none", 0, 0), ("again", 0, 0), ("one", 1, 0), ("two", 2, 0), ("other", 0, 1)):
        more = [
            f"data.root={tmp_path / 'sounds'}",
            f"hydra.run.dir={tmp_path / name}",
            "trainer.max_epochs=2",
            f"seed={seed}",
        ]
        loader = [
            f"loader.num_workers={workers}",
            "loader.captions=random",
            "loader.augment._target_=a2i.training.augment.WaveformAugment",
        ]
        taken = [item for item in TRAINING if not item.startswith("loader.num_workers")]
        done = run("train", *taken, *more, *loader, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stdout + done.stderr
        weights[name] = load_file(tmp_path / name / "captioner" / "model.safetensors")
    for name in ("again", "one", "two"):
        assert all(torch.equal(value, weights[name][key]) for key, value in weights["none"].items()), name
    assert not all(torch.equal(value, weights["other"][key]) for key, value in weights["none"].items())
