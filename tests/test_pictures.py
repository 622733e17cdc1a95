"""Scores of pictures against what transformers' own models say, with tiny random CLIP and CLAP models on disk."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clap, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    ClapFeatureExtractor,
    ClapModel,
    CLIPModel,
    CLIPTokenizer,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from a2i.metrics import pictures as pic

CAPTIONS = ["a dog barks.", "rain falls on a roof", "birds sing", "a clock", "thunder, far away", "zzz"]
REFERENCES = [
    ["a dog", "one dog is barking", "bark"],
    ["rain on a roof"],
    ["birds", "songbirds sing in a wood"],
    ["a clock ticks", "tick tock"],
    ["thunder", "a storm"],
    ["someone snores", "snoring", "a person sleeps"],
]
SIZES = [(40, 30), (30, 40), (16, 16), (64, 20), (100, 100), (17, 33)]


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> pic.CLIP:
    return pic.CLIP(clip_folder, device="cpu")


@pytest.fixture(scope="module")
def clap(clap_folder: Path) -> pic.CLAP:
    return pic.CLAP(clap_folder, device="cpu")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    found = []
    for width, height in SIZES:
        coarse = Image.fromarray(generator.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        found.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return found


def hand_cosines(folder: Path, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
    """(pictures, texts) from `CLIPModel.forward`, every pair in a run of its own."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    rows = []
    for image in images:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            outputs = [model(**tokenizer(text, return_tensors="pt"), pixel_values=pixels) for text in texts]
        rows.append([float(output.logits_per_image / model.logit_scale.detach().exp()) for output in outputs])
    return torch.tensor(rows)


# --- CLIPScore


def test_clip_score_is_that_of_transformers(clip: pic.CLIP, clip_folder: Path, images: list[Image.Image]) -> None:
    cosines = hand_cosines(clip_folder, images, [f"A photo depicts {caption}" for caption in CAPTIONS]).diagonal()
    assert cosines.min() < -0.05, "no pair to tell clipping by"
    assert cosines.max() > 0.05
    got = pic.score_pictures(clip, images, CAPTIONS)
    torch.testing.assert_close(got.clip_score, 2.5 * cosines.clamp(min=0), atol=1e-5, rtol=0)
    assert got.ref_clip_score is None
    bare = pic.score_pictures(clip, images, CAPTIONS, prefix="")
    cosines = hand_cosines(clip_folder, images, CAPTIONS).diagonal()
    torch.testing.assert_close(bare.clip_score, 2.5 * cosines.clamp(min=0), atol=1e-5, rtol=0)
    assert not torch.allclose(bare.clip_score, got.clip_score, atol=0.01)


def test_ref_clip_score_and_reference_score(clip: pic.CLIP, clip_folder: Path, images: list[Image.Image]) -> None:
    got = pic.score_pictures(clip, images, CAPTIONS, REFERENCES, prefix="")
    assert got.ref_clip_score is not None
    assert got.reference_score is not None
    texts = clip.embed_texts(CAPTIONS).vectors
    for i, group in enumerate(REFERENCES):
        seen = 2.5 * max(0.0, float(hand_cosines(clip_folder, [images[i]], [CAPTIONS[i]])))
        said = max(0.0, *(float(texts[i] @ clip.embed_texts([reference]).vectors[0]) for reference in group))
        want = 2 * seen * said / (seen + said) if seen + said else 0.0
        assert float(got.ref_clip_score[i]) == pytest.approx(want, abs=1e-5)
        own = hand_cosines(clip_folder, [images[i]], group).clamp(min=0)
        assert float(got.reference_score[i]) == pytest.approx(2.5 * float(own.mean()), abs=1e-5)


def test_scores_of_known_vectors() -> None:
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    slope = torch.tensor([[0.6, 0.8]])
    assert pic.clip_score(east, slope).tolist() == pytest.approx([1.5])
    assert pic.clip_score(east, -slope).tolist() == [0]
    assert pic.clip_score(east, slope, w=100).tolist() == pytest.approx([60])
    references = [torch.cat([north, east])]
    assert pic.ref_clip_score(east, slope, references).tolist() == pytest.approx([2 * 1.5 * 0.8 / 2.3])
    assert pic.ref_clip_score(east, north, [-north]).tolist() == [0]
    assert pic.ref_clip_score(east, slope, [-slope]).tolist() == [0]
    assert pic.reference_score(east, references).tolist() == pytest.approx([1.25])


def test_neither_batch_nor_order_matters(
    clip: pic.CLIP, clip_folder: Path, clap: pic.CLAP, clap_folder: Path, images: list[Image.Image]
) -> None:
    whole = pic.score_pictures(clip, images, CAPTIONS, REFERENCES)
    single = pic.score_pictures(pic.CLIP(clip_folder, device="cpu", batch_size=1), images, CAPTIONS, REFERENCES)
    order = [3, 0, 5, 1, 4, 2]
    turned = pic.score_pictures(
        clip, *([values[i] for i in order] for values in (images, CAPTIONS)), [REFERENCES[i][::-1] for i in order]
    )
    for name in ("clip_score", "ref_clip_score", "reference_score"):
        torch.testing.assert_close(getattr(single, name), getattr(whole, name), atol=1e-5, rtol=0)
        torch.testing.assert_close(getattr(turned, name), getattr(whole, name)[order], atol=1e-5, rtol=0)
    sounds = [tone(200 * (i + 1), 0.3 + 0.6 * i, 4000) for i in range(4)]
    alone = pic.CLAP(clap_folder, device="cpu", batch_size=1)
    torch.testing.assert_close(alone.embed_sounds(sounds, 4000), clap.embed_sounds(sounds, 4000), atol=1e-5, rtol=0)
    together, apart = clap.embed_texts(CAPTIONS), alone.embed_texts(CAPTIONS)
    torch.testing.assert_close(together.vectors, apart.vectors, atol=1e-5, rtol=0)


def test_what_is_cut_is_told(clip: pic.CLIP, clap: pic.CLAP, images: list[Image.Image]) -> None:
    """A letter is a token; a start and an end belong to every text. CLIP here takes 40, CLAP 32."""
    got = clip.embed_texts(["a " * 38, "a " * 45, "a " * 45 + "dog", "b"])
    assert got.unseen_tokens == (0, 7, 10, 0)
    torch.testing.assert_close(got.vectors[1], got.vectors[0], atol=1e-5, rtol=0)
    assert not torch.allclose(got.vectors[3], got.vectors[0], atol=0.01)
    assert clap.embed_texts(["a" * 30, "a" * 33]).unseen_tokens == (0, 3)
    scores = pic.score_pictures(clip, images[:1], ["a" * 45], [["a", "b" * 40, "b" * 41]], prefix="")
    assert scores.unseen_tokens == (7,)
    assert scores.unseen_reference_tokens == (2 + 3,)


def test_a_blank_caption_scores_nothing(clip: pic.CLIP, images: list[Image.Image]) -> None:
    whole = pic.score_pictures(clip, images, CAPTIONS, REFERENCES)
    best = int(whole.clip_score.argmax())
    blank = ["  " if i == best else caption for i, caption in enumerate(CAPTIONS)]
    got = pic.score_pictures(clip, images, blank, [[*group, " "] for group in REFERENCES])
    assert got.clip_score[best] == got.ref_clip_score[best] == 0
    torch.testing.assert_close(got.reference_score, whole.reference_score, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"clip 0.*at least one reference"):
        pic.score_pictures(clip, images[:1], ["a"], [[" "]])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_pictures_of_any_mode(clip: pic.CLIP, images: list[Image.Image], mode: str) -> None:
    picture = images[0].convert(mode)
    got = clip.embed_pictures([picture])
    torch.testing.assert_close(got, clip.embed_pictures([picture.convert("RGB")]))
    torch.testing.assert_close(got.norm(dim=1), torch.ones(1))


def test_settings_say_what_made_the_scores(clip: pic.CLIP, clip_folder: Path, images: list[Image.Image]) -> None:
    found = json.loads(json.dumps(pic.score_pictures(clip, images, CAPTIONS).settings))
    assert found["model"] == str(clip_folder)
    assert (found["w"], found["prefix"], found["max_tokens"], found["revision"]) == (2.5, "A photo depicts ", 40, None)
    assert found["versions"]["transformers"].startswith("5.")


def test_nothing_in_nothing_out(clip: pic.CLIP, clap: pic.CLAP) -> None:
    assert clip.embed_texts([]).vectors.shape == clip.embed_pictures([]).shape == (0, 12)
    assert clap.embed_sounds([], 4000).shape == (0, 12)


# --- Loading


def test_the_older_kind_of_folder(clip: pic.CLIP, clip_folder: Path, images: list[Image.Image], tmp_path: Path) -> None:
    """As the first CLIPs on the Hub are: sizes as numbers, an older class name, an end token of 2."""
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 16, "crop_size": 16, "do_convert_rgb": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    older = pic.CLIP(folder, device="cpu")
    torch.testing.assert_close(older.embed_pictures(images), clip.embed_pictures(images))
    torch.testing.assert_close(older.embed_pictures([images[0].convert("RGBA")]), clip.embed_pictures(images[:1]))
    torch.testing.assert_close(older.embed_texts(CAPTIONS).vectors, clip.embed_texts(CAPTIONS).vectors)


def test_a_model_that_is_not_to_be_had(clip_folder: Path, clap_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody/no-such-clip: no CLIP model to be had there"):
        pic.CLIP("nobody/no-such-clip")
    with pytest.raises(ValueError, match="no CLAP model to be had"):
        pic.CLAP(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="its type is 'clap', not 'clip'"):
        pic.CLIP(clap_folder)
    with pytest.raises(ValueError, match="batch_size 0"):
        pic.CLIP(clip_folder, batch_size=0)
    broken = Path(shutil.copytree(clip_folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="no CLIP model to be had"):
        pic.CLIP(broken)


def test_a_model_that_lacks_weights(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing: text_projection.weight"):
        pic.CLIP(folder)


def test_an_end_token_that_no_text_has(clip_folder: Path, tmp_path: Path) -> None:
    """All sentences would be embedded alike."""
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 49407
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="ends texts with token 49407"):
        pic.CLIP(folder)


def test_what_does_not_fit_is_refused(clip: pic.CLIP, clap: pic.CLAP, images: list[Image.Image]) -> None:
    with pytest.raises(ValueError, match="'pictures': 6, 'captions': 1"):
        pic.score_pictures(clip, images, ["a"])
    with pytest.raises(ValueError, match="a string"):
        pic.score_pictures(clip, images, "abcdef")
    with pytest.raises(ValueError, match="picture 0: got ndarray"):
        clip.embed_pictures([np.zeros((4, 4, 3))])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="clip 1: got the references 'abc'"):
        pic.score_pictures(clip, images[:2], ["a", "b"], [["a"], "abc"])
    with pytest.raises(ValueError, match="list of strings"):
        clip.embed_texts(["a", None])  # type: ignore[list-item]
    for bad in (np.zeros((2, 9)), np.zeros(0), np.array([np.nan])):
        with pytest.raises(ValueError, match="sound 1"):
            clap.embed_sounds([tone(200, 0.1), bad], 4000)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
        pic.clip_score(unit(2, 3), unit(3, 3))
    with pytest.raises(ValueError, match="R at least 1"):
        pic.ref_clip_score(unit(2, 3), unit(2, 3), [unit(1, 3), torch.empty(0, 3)])


# --- Sounds


def test_a_short_sound_is_embedded_as_transformers_does(clap: pic.CLAP, clap_folder: Path) -> None:
    model, sound = ClapModel.from_pretrained(clap_folder).eval(), tone(300, 0.7, 4000)
    features = ClapFeatureExtractor.from_pretrained(clap_folder)(sound, sampling_rate=4000, return_tensors="pt")
    with torch.no_grad():
        want = model.get_audio_features(input_features=features["input_features"].float()).pooler_output
    torch.testing.assert_close(clap.embed_sounds([sound], 4000), want, atol=1e-5, rtol=0)
    other = clap.embed_sounds([tone(1500, 0.7, 4000)], 4000)
    assert float((other * want).sum()) < 0.99


def test_all_of_a_long_sound_is_heard_and_always_alike(clap: pic.CLAP) -> None:
    """2.4 s in windows of 1 s: three of 0.8 s; the processor alone would draw a second of it at random."""
    parts = [tone(frequency, 0.8, 4000) for frequency in (200, 700, 1500)]
    whole = np.concatenate(parts)
    got = clap.embed_sounds([parts[0], whole], 4000)
    want = normalize(clap.embed_sounds(parts, 4000).mean(dim=0), dim=0)
    torch.testing.assert_close(got[1], want, atol=1e-5, rtol=0)
    torch.testing.assert_close(clap.embed_sounds([parts[0], whole], 4000), got, rtol=0, atol=0)


def test_sounds_are_resampled(clap: pic.CLAP) -> None:
    want = clap.embed_sounds([tone(400, 0.9, 4000)], 4000)
    got = clap.embed_sounds([tone(400, 0.9, 16_000)], 16_000)
    assert float((got * want).sum()) > 0.999
    assert float((clap.embed_sounds([tone(400, 0.9, 16_000)], 4000) * want).sum()) < 0.999
    assert clap.embed_sounds([np.zeros(1, dtype=np.float32)], 48_000).isfinite().all()


def test_a_fusion_model_hears_the_same_every_time(tmp_path: Path) -> None:
    model = pic.CLAP(make_clap(tmp_path / "clap", fusion=True), device="cpu")
    sounds = [tone(200 * (i + 1), 0.5, 4000) for i in range(6)]
    first = model.embed_sounds(sounds, 4000)
    for _ in range(3):
        torch.testing.assert_close(model.embed_sounds(sounds, 4000), first, rtol=0, atol=0)


def two_spaces(count: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Profiles of sounds and pictures of the same things in two spaces that share no direction, each with a cone."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    things, sentences = rand(count, 8), rand(60, 8)
    found = []
    for width in (32, 48):
        axes, cone_of_things, cone_of_texts = rand(8, width), 3 * rand(width), 3 * rand(width)
        seen = normalize((things + noise * rand(count, 8)) @ axes + cone_of_things, dim=1)
        said = normalize(sentences @ axes + cone_of_texts, dim=1)
        found.append(seen @ said.T)
    return found[0], found[1]


def test_profiles_match_across_spaces() -> None:
    """And better than without standardising, where sentences near to everything hide the rest."""
    audio, image = two_spaces(40, noise=0.1)
    got = pic.audio_image_similarity(audio, image)
    assert got.shape == (40, 40)
    plain = torch.corrcoef(torch.cat([audio, image]))[:40, 40:]
    for ranking, without in zip(pic.retrieval(got), pic.retrieval(plain), strict=True):
        assert ranking.summary["recall_at_1"] > 0.85
        assert ranking.summary["recall_at_1"] > without.summary["recall_at_1"] + 0.1
    strangers = pic.retrieval(pic.audio_image_similarity(audio, two_spaces(40, noise=0.1, seed=1)[1])).forward
    assert strangers.summary["mean_reciprocal_rank"] < 0.25  # chance: 0.107


def test_profiles_are_correlated_after_standardising() -> None:
    audio, image = two_spaces(10, noise=0.3)
    by_hand = []
    for profiles in (audio.double().numpy(), image.double().numpy()):
        by_hand.append((profiles - profiles.mean(axis=0)) / profiles.std(axis=0))
    want = np.corrcoef(by_hand[0], by_hand[1])[:10, 10:]
    np.testing.assert_allclose(pic.audio_image_similarity(audio, image).numpy(), want, atol=1e-9)
    scaled = pic.audio_image_similarity(0.1 * audio + 0.3, image - torch.linspace(0, 1, 60))
    np.testing.assert_allclose(scaled.numpy(), want, atol=1e-3)


def test_a_painter_that_always_draws_the_same_gets_nothing() -> None:
    audio, image = two_spaces(20, noise=0.3)
    same = image[:1].repeat(20, 1) + 1e-7 * torch.randn(20, 60)
    got = pic.audio_image_similarity(audio, same)
    assert got.abs().max() == 0
    summary = pic.retrieval(got).forward.summary
    assert summary["recall_at_1"] == pytest.approx(1 / 20)
    assert summary["median_rank"] == 10.5


def test_sounds_and_pictures_through_both_models(clip: pic.CLIP, clap: pic.CLAP, images: list[Image.Image]) -> None:
    sounds = [tone(200 * (i + 1), 0.5, 4000) for i in range(6)]
    got = pic.compare_audio_image(clap, clip, sounds, 4000, images, [*CAPTIONS, "a" * 36])
    assert got.unseen_tokens == {"audio": 6, "image": 0}
    audio = clap.embed_sounds(sounds, 4000) @ clap.embed_texts([*CAPTIONS, "a" * 36]).vectors.T
    image = clip.embed_pictures(images) @ clip.embed_texts([*CAPTIONS, "a" * 36]).vectors.T
    torch.testing.assert_close(got.similarity, pic.audio_image_similarity(audio, image), atol=1e-3, rtol=0)
    assert got.similarity.abs().max() > 0.1
    found = json.loads(json.dumps(got.settings))
    assert (found["audio"]["model"], found["image"]["model"]) == (clap.name, clip.name)
    # printf %s '["a", "é"]' | sha256sum
    pinned = pic.pool_settings(["a", "é"])
    assert pinned == {"sentences": 2, "sha256": "3cfa89335744ad95c75227994aabbdb229dbdde691fc2d9ed875d248b410a2b7"}
    assert pic.pool_settings(["é", "a"]) != pinned
    with pytest.raises(ValueError, match="all different"):
        pic.compare_audio_image(clap, clip, sounds, 4000, images, ["a", "b", "a"])
    with pytest.raises(ValueError, match=r"shape \(6, 2\)"):
        pic.compare_audio_image(clap, clip, sounds, 4000, images, ["a", "b"])
    with pytest.raises(ValueError, match="3 and 4 sentences"):
        pic.audio_image_similarity(torch.rand(2, 3), torch.rand(2, 4))


# --- Retrieval

MATRICES = st.integers(1, 14).flatmap(
    lambda n: st.lists(st.lists(st.integers(-3, 3), min_size=n, max_size=n), min_size=n, max_size=n)
)


@settings(max_examples=60)
@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_the_pool_does_not_matter(rows: list[list[int]], random: object) -> None:
    matrix = torch.tensor(rows, dtype=torch.float32)
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for got, want in zip(pic.retrieval(matrix[order][:, order]), pic.retrieval(matrix), strict=True):
        torch.testing.assert_close(got.rank, want.rank[order])
        assert got.summary == pytest.approx(want.summary)


@settings(max_examples=60)
@given(MATRICES)
def test_ties_count_as_the_mean_over_their_orders(rows: list[list[int]]) -> None:
    """Against ranks counted one by one, a row at a time, in each place that the partner may have among its equals."""
    matrix = torch.tensor(rows, dtype=torch.float32)
    got = pic.retrieval(matrix)
    for ranking, table in ((got.forward, rows), (got.backward, list(zip(*rows, strict=True)))):
        for i, row in enumerate(table):
            places = [r + 1 for r, value in enumerate(sorted(row, reverse=True)) if value == row[i]]
            assert float(ranking.rank[i]) == pytest.approx(np.mean(places))
            assert float(ranking.reciprocal_rank[i]) == pytest.approx(np.mean([1 / place for place in places]))
            for k in (1, 5, 10):
                assert float(ranking.recall[k][i]) == pytest.approx(np.mean([place <= k for place in places]))


@pytest.mark.parametrize("count", [1, 2, 11, 40])
def test_perfect_and_all_equal(count: int) -> None:
    for ranking in pic.retrieval(torch.eye(count)):
        assert ranking.summary == {
            **{f"recall_at_{k}": 1 for k in (1, 5, 10)},
            "median_rank": 1,
            "mean_reciprocal_rank": 1,
            "count": count,
        }
    equal = torch.full((count, count), 0.3) + 1e-8 * torch.randn(count, count)  # but for rounding
    for ranking in pic.retrieval(equal):
        assert ranking.rank.tolist() == [(count + 1) / 2] * count
        for k in (1, 5, 10):
            assert ranking.summary[f"recall_at_{k}"] == pytest.approx(min(1, k / count))


def test_the_two_directions_differ() -> None:
    got = pic.retrieval(torch.tensor([[3.0, 2.0, 1.0], [4.0, 3.0, 0.0], [5.0, 6.0, 7.0]]))
    assert got.forward.rank.tolist() == [1, 2, 1]
    assert got.backward.rank.tolist() == [3, 2, 1]
    assert got.backward.summary["median_rank"] == 2
    assert got.backward.summary["mean_reciprocal_rank"] == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    for bad in (torch.rand(2, 3), torch.rand(0, 0), torch.tensor([[torch.nan]])):
        with pytest.raises(ValueError, match="expected"):
            pic.retrieval(bad)


# --- Blame


def test_blame_by_hand() -> None:
    axes = torch.eye(3)
    references = [axes[:1], torch.stack([axes[1], normalize(axes[1] + axes[2], dim=0)]), -axes[2:]]
    human = axes.clone()
    predicted = torch.stack([axes[1], axes[1], axes[0]])
    got = pic.blame(predicted, human, references)
    half = 2.5 * (1 + 0.5**0.5) / 2
    assert got.human.tolist() == pytest.approx([2.5, half, 0])
    assert got.predicted.tolist() == pytest.approx([0, half, 0])
    assert got.captioner.tolist() == pytest.approx([2.5, 0, 0])
    near = 2.5 * 0.5**0.5 / 2  # the third picture with the second clip's references
    assert got.human_chance.tolist() == pytest.approx([0, 0, near / 2])
    assert got.conveyed.tolist() == pytest.approx([2.5, half, -near / 2])
    assert got.predicted_chance.tolist() == pytest.approx([half / 2, 0, 1.25])
    with pytest.raises(ValueError, match="at least 2"):
        pic.blame(predicted[:1], human[:1], references[:1])


def test_blame_finds_who_failed() -> None:
    """Pictures are made from the truth with the captioner's error, the painter's, or none."""
    truth, noise, confusion = unit(60, 16), 0.5 * unit(60, 16, seed=1), unit(60, 16, seed=2)
    references = [normalize(row + 0.5 * unit(4, 16, seed=100 + i), dim=1) for i, row in enumerate(truth)]
    painted, again = normalize(truth + noise, dim=1), normalize(truth - noise, dim=1)

    def judge(predicted: Tensor, human: Tensor) -> str:
        found = pic.blame(predicted, human, references)
        intervals = []
        for values in (found.captioner, found.conveyed):
            half = 1.96 * float(values.std()) / len(values) ** 0.5
            intervals.append((float(values.mean()) - half, float(values.mean()) + half))
        return pic.verdict(intervals[0], intervals[1]).who

    assert judge(confusion, painted) == "captioner"
    assert judge(painted, painted) == "nobody"
    assert judge(again, painted) == "nobody"
    assert judge(painted, normalize(truth + 4 * noise, dim=1)) == "human"
    assert judge(painted, confusion) == "painter"
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        pic.verdict((2, 1), (0, 1))


def test_the_drawn_caption_is_no_reference(clip: pic.CLIP, images: list[Image.Image]) -> None:
    drawn = [group[0] for group in REFERENCES[2:]]
    got = pic.blame_pictures(clip, images[:4], images[2:], drawn, REFERENCES[2:])
    rest = [clip.embed_texts([f"A photo depicts {text}" for text in group[1:]]).vectors for group in REFERENCES[2:]]
    seen = clip.embed_pictures(images)
    want = pic.blame(seen[:4], seen[2:], rest)
    for name in ("predicted", "human", "human_chance", "captioner", "conveyed"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), atol=1e-5, rtol=0)
    assert got.captioner.abs().max() > 0.01
    torch.testing.assert_close(got.human, pic.reference_score(seen[2:], rest), atol=1e-5, rtol=0)
    assert got.settings is not None
    assert json.loads(json.dumps(got.settings))["w"] == 2.5
    with pytest.raises(ValueError, match=r"clip 1.*at least one reference"):
        pic.blame_pictures(clip, images[:2], images[:2], ["a dog", "rain on a roof"], REFERENCES[:2])
