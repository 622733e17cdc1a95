"""The mini painter's training script on a handful of made pictures, and the painter that ships."""

import os
import random
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments" / "mini"))

import captioner_says  # noqa: E402
import painter_data  # noqa: E402
import painter_model  # noqa: E402
import train_painter  # noqa: E402

from a2i.captioner import Captioner  # noqa: E402
from a2i.data.kinds import KINDS  # noqa: E402
from a2i.paths import MINI_CAPTIONER  # noqa: E402

SHIPPED = ROOT / "a2i" / "assets" / "painter"
CONCEPTS = """# picture\tnouns\tverbs\tphrases
*red\ta dog, +dogs\tbark/barking\twoof
green\t?a person\tsneeze/sneezing, be still/being still\ta sneeze
blue\train\tfall/falling\t
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the emoji's, with three discs."""
    folder = tmp_path_factory.mktemp("emoji")
    (folder / "png").mkdir()
    rows = ["file\tcodepoint\tname"]
    for colour in ("red", "green", "blue"):
        image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
        ImageDraw.Draw(image).ellipse((16, 16, 112, 112), fill=colour)
        image.save(folder / "png" / f"emoji_{colour}.png")
        rows.append(f"emoji_{colour}.png\t0\t{colour} disc")
    (folder / "names.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "concepts.tsv").write_text(CONCEPTS, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def own_rounding() -> Iterator[None]:
    """The program flushes the smallest numbers to zero, for its whole process; those that test after it need them."""
    yield
    torch.set_flush_denormal(False)


def arguments(data: Path, out: Path, unet_steps: int, *more: str) -> list[str]:
    settings = {
        "data": data,
        "concepts": data / "concepts.tsv",
        "out": out,
        "vae-steps": 2,
        "text-steps": 2,
        "unet-steps": unet_steps,
    }
    settings |= {"batch": 2, "vae-batch": 4, "threads": 1, "precision": "no"}
    return [text for key, value in settings.items() for text in (f"--{key}", str(value))] + list(more)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, taken up again for a third."""
    out = tmp_path_factory.mktemp("run")
    train_painter.main(arguments(data, out, 2))
    first = torch.load(out / "unet.pt", weights_only=True)
    train_painter.main(arguments(data, out, 3, "--resume"))
    second = torch.load(out / "unet.pt", weights_only=True)
    assert (first["step"], second["step"]) == (2, 3)
    name = "conv_in.weight"
    assert not torch.equal(first["modules"]["unet"][name], second["modules"]["unet"][name])
    return out


@pytest.mark.long
def test_a_painter_may_start_from_another(data: Path, run: Path, tmp_path: Path) -> None:
    start = run / "painter"
    train_painter.main(
        [*arguments(data, tmp_path, 1), "--text-steps", "0", "--text-minutes", "0", "--start", str(start)]
    )
    before, after = (StableDiffusionPipeline.from_pretrained(folder) for folder in (start, tmp_path / "painter"))
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    kept, learnt = (pipeline.text_encoder.state_dict() for pipeline in (before, after))
    assert all(torch.equal(learnt[name], weight) for name, weight in kept.items())
    for part in ("vae", "unet"):
        old, new = (getattr(pipeline, part).state_dict() for pipeline in (before, after))
        change = max(float((new[name].float() - weight.float()).abs().max()) for name, weight in old.items())
        assert 0 < change < 0.1, part
    assert not (tmp_path / "text.pt").exists()
    # Where it came from is no part of what it is.
    for folder in (tmp_path / "painter", SHIPPED):
        assert not any(word in file.read_text() for file in folder.rglob("*.json") for word in (str(ROOT), str(run))), (
            folder
        )
    assert (tmp_path / "painter_record.json").exists()


def test_rare_hues_are_shown_as_often_as_common_ones() -> None:
    red, green, grey = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [0.2, 0.2, 0.2]])
    pictures = torch.stack([red, red, red, green, grey])[:, :, None, None].expand(-1, -1, 8, 8)
    weights = train_painter.hue_weights(pictures)
    assert weights.tolist() == pytest.approx([0.75 / 2 / 3 + 0.05] * 3 + [0.75 / 2 + 0.05, 0.05], rel=1e-4)
    greys = train_painter.hue_weights(pictures[4:].expand(4, -1, -1, -1))
    assert (greys == greys[0]).all()


def draw(pipeline: StableDiffusionPipeline, text: str, seed: int, steps: int = 2) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(text, num_inference_steps=steps, guidance_scale=2.0, generator=generator).images
    return np.asarray(images[0], np.float32)


@pytest.mark.long
def test_the_folder_loads_offline_and_draws_deterministically(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = StableDiffusionPipeline.from_pretrained(run / "painter", dtype=torch.float32)
    config = pipeline.text_encoder.config
    assert (config.eos_token_id, config.pad_token_id) == (
        pipeline.tokenizer.eos_token_id,
        pipeline.tokenizer.pad_token_id,
    )
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    pictures = [painter_data.load_picture(file, painter_model.SIZE) for file in sorted(data.glob("png/*.png"))]
    latents = painter_model.encode(pipeline.vae, torch.stack(pictures)) * pipeline.vae.config.scaling_factor
    assert latents.std() == pytest.approx(1, abs=0.02)
    first = draw(pipeline, "a dog barks", 0)
    assert first.shape == (128, 128, 3)
    assert np.array_equal(first, draw(pipeline, "a dog barks", 0))
    assert not np.array_equal(first, draw(pipeline, "a dog barks", 1))


def stage(out: Path, steps: int) -> train_painter.Stage:
    torch.manual_seed(0)
    settings = Namespace(
        out=out, seed=0, learning_rate=1e-2, ema=0.9, checkpoint_minutes=9, toy_steps=steps, toy_minutes=0
    )
    return train_painter.Stage("toy", {"line": torch.nn.Linear(3, 1)}, Accelerator(mixed_precision="no"), settings)


def test_interrupted_and_resumed_ends_where_an_undisturbed_run_ends(tmp_path: Path) -> None:
    def run(toy: train_painter.Stage, stop_at: int = -1) -> None:
        def loss(step: int) -> torch.Tensor:
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            x = torch.randn(8, 3)
            return (toy.modules["line"](x) - x.sum(1, keepdim=True)).square().mean()

        toy.run(loss)

    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = stage(tmp_path / "a", 12)
    run(whole)
    with pytest.raises(SystemExit, match="--resume"):
        run(stage(tmp_path / "b", 12), stop_at=4)
    resumed = stage(tmp_path / "b", 12)
    assert resumed.resume()
    assert resumed.step == 5
    run(resumed)
    for one, other in zip(whole.ema.shadow_params, resumed.ema.shadow_params, strict=True):
        torch.testing.assert_close(one, other)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["toy.pt"]


@pytest.mark.long
def test_captions_of_one_and_of_two_name_what_is_drawn(data: Path) -> None:
    concepts = painter_data.read_concepts(data / "concepts.tsv")
    assert [concept.weight for concept in concepts] == [2, 1, 1]
    rng = random.Random(0)
    dogs = {painter_data.clause(concepts[0], rng).lower() for _ in range(300)}
    assert {"a dog barks", "dogs bark"} <= dogs
    assert all("woof" in text or "dog" in text for text in dogs)
    people = {painter_data.clause(concepts[1], rng) for _ in range(300)}
    assert "a person" not in people
    assert "a person is still" in people
    writer = painter_data.Captions(concepts)
    words = (("dog", "woof"), ("person", "sneeze"), ("rain",))
    drawn = [writer.draw(rng) for _ in range(400)]
    for caption in drawn:
        named = {number for number, some in enumerate(words) if any(word in caption.text.lower() for word in some)}
        assert named == {caption.ground} | ({caption.sky} - {None}), caption
    share = sum(caption.sky is not None for caption in drawn) / len(drawn)
    # Without any kind of sound in the table, the shares that are of kinds fall to the others.
    assert share == pytest.approx(painter_data.TWO + painter_data.TWO_KINDS, abs=0.08)


def test_the_sky_is_above_whatever_is_named_first() -> None:
    dog, rain, cat = "1f415", "1f327", "1f408"
    dog, rain, cat = f"u{dog}", f"u{rain}", f"u{cat}"
    assert painter_data.layout(dog, rain) == painter_data.layout(rain, dog) == (dog, rain)
    assert painter_data.layout(dog, cat) == (dog, cat)
    assert painter_data.layout(cat, dog) == (cat, dog)


def test_scenes_of_two_show_both_in_their_corners() -> None:
    red, blue = torch.tensor([1.0, -1, -1]), torch.tensor([-1.0, -1, 1])
    ground, sky = (colour[None, :, None, None].expand(1, 3, 128, 128) for colour in (red, blue))
    scene = painter_data.compose(ground, sky)[0]
    assert torch.equal(scene[:, 127, 0], red)
    assert torch.equal(scene[:, 0, 127], blue)
    assert torch.equal(scene[:, 0, 0], torch.ones(3))
    assert torch.equal(scene[:, 127, 127], torch.ones(3))
    assert torch.equal(scene[:, 64, 64], -torch.ones(3))  # red and blue glass give black


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "concepts.tsv").write_text("red\ta dog\tbark\t\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"concepts.tsv:1: .*bark/barking"):
        painter_data.read_concepts(tmp_path / "concepts.tsv")


def test_the_tokenizer_takes_any_sentence(tmp_path: Path) -> None:
    made = painter_data.train_tokenizer(["a dog barks", "rain falls"] * 5, vocab_size=600, max_length=16)
    made.save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("a dog barks", "zyzzyva über 3 €", "犬"):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_the_shipped_painter_is_small_and_draws_what_it_is_told(real_data: Path) -> None:
    folder = real_data / "emoji" / "png"
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 25e6
    concepts = painter_data.read_concepts()
    known = torch.stack([painter_data.load_picture(folder / concept.file, 128) for concept in concepts]).flatten(1)
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
    for text, file in (("A dog barks.", "emoji_u1f415.png"), ("Rain falls.", "emoji_u1f327.png")):
        drawing = torch.from_numpy(draw(pipeline, text, 3, steps=8) / 127.5 - 1).permute(2, 0, 1).flatten()
        assert concepts[int((known - drawing).square().sum(1).argmin())].file == file


def test_what_the_captioner_says_is_learnt_as_the_pictures_of_what_it_names() -> None:
    assert painter_data.first_named("Together with rolling thunder, birds sing.") == "thunder"
    assert painter_data.first_named("A cat meows.") is None
    kinds = painter_data.read_kinds()
    sentences = painter_data.captioner_sentences(scenes=200)
    assert {key[0] for key in sentences if len(key) == 1} == kinds.keys() == KINDS.keys()
    assert "A dog barks." in sentences["dog",]
    assert "There is silence." in sentences["silence",]
    assert len([key for key in sentences if len(key) == 2]) > 30
    concepts = painter_data.read_concepts()
    assert len(concepts) >= 400
    assert {code for codes in kinds.values() for code in codes} <= {concept.code for concept in concepts}
    own = [{*concept.nouns, *concept.phrases} for concept in concepts]
    said = [text for some in own for text in some if "?" not in text[:2]]
    assert len(said) == len(set(said)), "words that stand for two pictures"


def test_kinds_of_sound_are_drawn_as_their_pictures() -> None:
    concepts = painter_data.read_concepts()
    writer = painter_data.Captions(concepts)

    def shown(caption: painter_data.Caption) -> tuple[str, ...]:
        return tuple(concepts[number].code for number in caption[1:3] if number is not None)

    kinds = painter_data.read_kinds()
    expected = {frozenset(codes) for codes in kinds.values()}
    rng = random.Random(0)
    drawn = [caption for caption in (writer.draw(rng) for _ in range(4000)) if caption.of_kinds]
    assert len(drawn) / 4000 == pytest.approx(painter_data.ONE_KIND + painter_data.TWO_KINDS, abs=0.05)
    assert {frozenset(shown(caption)) for caption in drawn} > expected
    snow = {caption.text for caption in drawn if shown(caption) == kinds["footsteps in snow"]}
    assert any("snow" in text for text in snow)
    for caption in drawn[:200]:
        number, sky = caption.ground, caption.sky
        words = writer.familiar(caption)
        assert words.count(" and ") == (sky is not None)
        assert writer.familiar(caption._replace(of_kinds=False)) == caption.text
        assert number != sky
    assert writer.numbers("thunder", "dog") == writer.numbers("dog", "thunder")


def test_a_table_of_kinds_that_lacks_one_is_told(tmp_path: Path) -> None:
    lines = painter_data.KINDS_FILE.read_text(encoding="utf-8").splitlines()
    (tmp_path / "kinds.tsv").write_text("\n".join(line for line in lines if not line.startswith("dog\t")))
    with pytest.raises(ValueError, match=r"amiss: \['dog'\]"):
        painter_data.read_kinds(tmp_path / "kinds.tsv")


@pytest.mark.long
def test_a_text_model_that_starts_from_another_stays_near_it(data: Path, run: Path, tmp_path: Path) -> None:
    told = [*arguments(data, tmp_path, 0), "--start", str(run / "painter"), "--vae-steps", "0"]
    told += [word for stage in ("vae", "text", "unet") for word in (f"--{stage}-minutes", "0")]
    train_painter.main(told)
    before, after = (
        StableDiffusionPipeline.from_pretrained(folder) for folder in (run / "painter", tmp_path / "painter")
    )
    for part in ("vae", "unet"):
        old, new = (getattr(pipeline, part).state_dict() for pipeline in (before, after))
        assert all(torch.equal(new[name], weight) for name, weight in old.items()), part
    old, new = (pipeline.text_encoder.state_dict() for pipeline in (before, after))
    assert 0 < max(float((new[name].float() - weight.float()).abs().max()) for name, weight in old.items()) < 0.1
    assert not (tmp_path / "unet.pt").exists()
    # One that is its own teacher has nothing to learn from the same words.
    ids = train_painter.tokenize(after.tokenizer, ["a dog barks", "rain"])
    loss = train_painter.taught_loss(before.text_encoder, before.text_encoder, ids, ids)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    # Of nothing that it learnt the former is left.
    train_painter.main([*told, "--resume", "--text-share", "0"])
    again = StableDiffusionPipeline.from_pretrained(tmp_path / "painter").text_encoder.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in old.items())


def test_pairs_are_learnt_in_the_order_that_the_captioner_names_them_in(tmp_path: Path) -> None:
    rows = [
        "# kinds told\twhat the captioner then says",
        "rain\tRain falls.",
        "rain\tIt rains.",
        "dog, cat\tA cat meows, and a dog barks.",  # told in one order, named in the other
        "cat, dog\tA cat meows, and a dog barks.",
        "dog, rain\tA dog barks.",  # does not name both
    ]
    (tmp_path / "said.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert captioner_says.read_said(tmp_path / "said.tsv") == {
        ("rain",): ("Rain falls.", "It rains."),
        ("cat", "dog"): ("A cat meows, and a dog barks.",),
    }


def test_what_the_painter_is_judged_by_it_has_not_learnt() -> None:
    held_out = painter_data.held_out_pairs()
    assert len(held_out) == painter_data.HELD_OUT
    writer = painter_data.Captions(painter_data.read_concepts())
    rng = random.Random(0)
    drawn = [caption for caption in (writer.draw(rng) for _ in range(3000)) if caption.of_kinds]
    assert {text for _, text in held_out}.isdisjoint(caption.text for caption in drawn)
    own = {text for texts in writer.said.values() for text in texts}
    for of_one in (True, False):
        some = [caption.text for caption in drawn if (caption.sky is None) == of_one]
        assert sum(text in own for text in some) / len(some) > painter_data.SAID / 2, of_one


def test_the_captioner_is_asked_in_its_own_words() -> None:
    captioner = Captioner.load(MINI_CAPTIONER)
    told = [("dog",), ("dog", "rain"), ("rain", "dog")]
    alone, *together = captioner_says.said(captioner, told)
    assert alone == list(captioner_says.read_said()["dog",])
    assert together[0] == together[1]  # the keywords have no order
    assert 1 < len(alone) == len(set(alone))
