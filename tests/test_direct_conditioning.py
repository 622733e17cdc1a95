"""Caption and sound mixed: what the projector learns, what a strength does, and what is told of the drawings."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1] / "experiments"
sys.path.insert(0, str(ROOT / "direct_conditioning"))

from hear_clips import Heard, read_heard, write_table  # noqa: E402
from measure_mixed import Drawn, chosen, read_drawn, share, weights, write_rows  # noqa: E402
from nearest_emoji import Album  # noqa: E402
from projector import Projector, draw, load_projector, mixed, save_projector, text_states  # noqa: E402
from train_projector import Training, parts  # noqa: E402

from a2i.diffusion import Painter  # noqa: E402

KINDS, TOKENS, WIDTH, INPUTS = 3, 4, 5, 12
SETTINGS = Namespace(steps=150, batch=16, contrast=0.0, learning_rate=5e-2, decay=0.0, seed=0)


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter("embedded", steps=2, guidance_scale=3.0, width=128, height=128, device="cpu")


@pytest.fixture(scope="module")
def toy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is read of 30 clips, their kinds, and the text states of these."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(30) % KINDS
    read = torch.eye(KINDS, INPUTS)[kinds] + 0.1 * torch.randn(30, INPUTS, generator=generator)
    return read, kinds, torch.randn(KINDS, TOKENS, WIDTH, generator=generator)


def projector_of(toy: tuple[torch.Tensor, ...], hidden: int = 0) -> Projector:
    torch.manual_seed(0)
    projector = Projector(INPUTS, KINDS, TOKENS, WIDTH, hidden=hidden, dropout=0.1)
    projector.fit_to(toy[0], toy[2])
    return projector


def heard(number: int, kind: str = "dog", set_: str = "", verdict: str = "") -> Heard:
    return Heard(f"esc10/{number}.ogg", set_, f"recording {number}", kind, "A dog barks." * bool(set_), verdict, 0.5)


def test_strength_0_is_the_caption_bit_for_bit(painter: Painter) -> None:
    caption = "A dog barks."
    text, negative = text_states(painter, [caption])
    sound = torch.randn(text.shape, generator=torch.Generator().manual_seed(1))
    (alone,), (same,), (other,) = (
        [painter.draw(caption, seed=3).image],
        draw(painter, mixed(text, sound, 0.0), negative, seed=3),
        draw(painter, mixed(text, sound, 0.5), negative, seed=3),
    )
    assert np.array_equal(np.asarray(alone), np.asarray(same))
    assert not np.array_equal(np.asarray(alone), np.asarray(other))


@given(strength=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_mixture_lies_between_both(strength: float, seed: int) -> None:
    text, sound = torch.randn(2, 3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    states = mixed(text, sound, strength)
    assert torch.equal(mixed(text, sound, 0.0), text)
    assert torch.equal(mixed(text, sound, 1.0), sound)
    assert bool((states >= torch.minimum(text, sound) - 1e-6).all())
    assert bool((states <= torch.maximum(text, sound) + 1e-6).all())


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_no_other_strength(strength: float) -> None:
    with pytest.raises(ValueError, match="expected a number from 0"):
        mixed(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), strength)


@pytest.mark.parametrize(("hidden", "contrast"), [(0, 0.0), (8, 1.0)])
def test_it_learns_to_land_on_the_text_states(
    toy: tuple[torch.Tensor, ...], hidden: int, contrast: float, tmp_path: Path
) -> None:
    read, kinds, targets = toy
    projector = projector_of(toy, hidden)
    before = projector.loss(read, kinds, contrast).item()
    Training(projector, Namespace(**{**vars(SETTINGS), "contrast": contrast})).run(read, kinds)
    assert projector(read).shape == (30, TOKENS, WIDTH)
    assert projector.loss(read, kinds, contrast).item() < before / 3
    assert torch.equal(projector.nearest(read), kinds)
    assert torch.equal(projector.nearest_to(projector(read)), kinds)
    distance = (projector(read) - targets[kinds]).square().mean()
    assert distance < 0.1 * (targets - targets.mean(dim=0)).square().mean()
    if contrast:  # which teaches the likelihoods
        assert torch.equal(projector.nearest_to(projector.likely(read)), kinds)
    save_projector(tmp_path, projector, {"steps": 150})
    assert torch.equal(load_projector(tmp_path)(read), projector(read))


def test_states_of_a_place_are_those_of_its_kind(toy: tuple[torch.Tensor, ...]) -> None:
    projector = projector_of(toy)
    projector.places = lambda read: projector.kinds  # type: ignore[method-assign]
    assert torch.allclose(projector(toy[0][:KINDS]), toy[2], atol=1e-5)


def test_a_stopped_run_ends_as_one_that_was_not(toy: tuple[torch.Tensor, ...], tmp_path: Path) -> None:
    read, kinds, _ = toy
    whole = Training(projector_of(toy), SETTINGS)
    whole.run(read, kinds)
    first = Training(projector_of(toy), SETTINGS)
    first.run(read, kinds, until=25)
    first.save(tmp_path)
    second = Training(projector_of(toy), SETTINGS)
    second.resume(tmp_path)
    assert second.step == 25
    second.run(read, kinds)
    for one, other in zip(whole.projector.parameters(), second.projector.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="of other settings"):
        Training(projector_of(toy, hidden=8), SETTINGS).resume(tmp_path)


def test_no_recording_is_learnt_from_and_chosen_by() -> None:
    clips = [heard(number // 2) for number in range(200)] + [heard(300, set_="esc10", verdict="right")]
    learns, chooses = parts(clips)
    assert int(learns.sum()) + int(chooses.sum()) == 200
    assert 2 <= int(chooses.sum()) < 60
    assert not bool(learns[-1])
    assert torch.equal(chooses[:200:2], chooses[1:200:2])


def test_what_was_heard_comes_back(tmp_path: Path) -> None:
    clips = [heard(0), heard(1, "rain", "esc10", "wrong")]
    write_table(tmp_path / "clips.csv", clips)
    read = torch.arange(12.0).view(3, 2, 2)
    save_file({"read": read}, tmp_path / "esc10.safetensors", {"names": "esc10/1.ogg|esc10/0.ogg"})
    found, numbers = read_heard(tmp_path)
    assert found == clips
    assert torch.equal(numbers, read[0].flip(0))


def test_as_many_right_captions_as_others_are_drawn_and_weighed_as_they_come() -> None:
    clips = [heard(number, set_="esc10", verdict="wrong" if number < 3 else "right") for number in range(12)]
    clips.append(heard(12))
    numbers = chosen(clips, 2)
    assert [clips[number].verdict for number in numbers] == ["right", "wrong"] * 2
    assert weights(clips, numbers) == {True: 4.5, False: 1.5}
    assert sorted(chosen(clips)) == list(range(12))


def test_shares_are_of_clips_and_their_intervals_of_recordings(tmp_path: Path) -> None:
    rows = [
        Drawn(f"{number}", "esc10", f"{number // 4}", "right" if number < 20 else "wrong", 0.5, number % 2 == 0, 0.5)
        for number in range(40)
    ]
    mean, low, high = share(rows, {True: 1, False: 1}, lambda row: row.right)
    assert mean == low == high == 0.5  # each recording has as many that are right
    mean, low, high = share(rows, {True: 3, False: 1}, lambda row: row.verdict == "right")
    assert low < mean == 0.75 < high
    write_rows(tmp_path / "drawn.csv", rows)
    assert read_drawn(tmp_path / "drawn.csv") == rows


def test_likeness_is_1_for_the_emoji_itself(tmp_path: Path) -> None:
    for colour in ("red", "green"):
        image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
        ImageDraw.Draw(image).ellipse((16, 16, 112, 70 if colour == "red" else 112), fill=colour)
        image.save(tmp_path / f"emoji_{colour}.png")
    album, red = Album(tmp_path), Image.open(tmp_path / "emoji_red.png")
    assert album.likeness(red, ("red",)) == pytest.approx(1.0, abs=1e-5)
    assert album.likeness(red, ("green",)) < 0.95
    assert album.found(red, 1) == ("red",)
