import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCES, TINY_AST, TINY_GPT2, make_captioner, tone

from a2i.captioner import Captioner
from a2i.cleaning import Lexicon, words
from a2i.confidence import Calibration
from a2i.decoders.gpt2 import GPT2Decoder
from a2i.encoders.ast import ASTEncoder
from a2i.encoders.cnn import CNNEncoder
from a2i.text import CaptionTokenizer

SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 12 * 16_000).astype(np.float32)]


def features(captioner: Captioner, sounds: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(sound) for sound in sounds])
    padded = torch.zeros(len(sounds), int(lengths.max()))
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    return captioner.log_mel(padded, lengths)


@torch.no_grad()
def test_loss_equals_a_step_by_step_reference(captioner: Captioner) -> None:
    """Each token's probability from the prefix alone, one clip, one caption, one step at a time."""
    tokens = captioner.tokenizer.encode(SENTENCES)
    clip_index = torch.tensor([0, 0, 1, 2, 2])
    log_mel, mask = features(captioner, SOUNDS)
    loss, count = captioner.loss(log_mel, mask, tokens, clip_index)
    surprises = []
    for caption, clip in zip(SENTENCES, clip_index.tolist(), strict=True):
        states, states_mask = captioner.encode(*features(captioner, [SOUNDS[clip]]))
        ids = captioner.tokenizer.tokenizer(caption, add_special_tokens=False)["input_ids"]
        prefix = [captioner.tokenizer.bos_id]
        for target in [*ids, captioner.tokenizer.eos_id]:
            ones = torch.ones(1, len(prefix), dtype=torch.bool)
            logits = captioner.decoder(torch.tensor([prefix]), ones, states, states_mask)
            surprises.append(-float(logits[0, -1].log_softmax(-1)[target]))
            prefix.append(target)
    assert int(count) == len(surprises)
    assert float(loss) == pytest.approx(sum(surprises) / len(surprises), abs=1e-5)


@torch.no_grad()
def test_first_loss_is_that_of_chance(captioner: Captioner) -> None:
    log_mel, mask = features(captioner, SOUNDS[:1])
    loss, _ = captioner.loss(log_mel, mask, captioner.tokenizer.encode(SENTENCES[:1]), torch.tensor([0]))
    assert abs(float(loss) - math.log(len(captioner.tokenizer))) < 0.5


def test_every_weight_learns(captioner: Captioner) -> None:
    captioner.train()
    log_mel, mask = features(captioner, SOUNDS)
    captioner.loss(log_mel, mask, captioner.tokenizer.encode(SENTENCES[:3]), torch.arange(3))[0].backward()
    still = [name for name, weight in captioner.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A key's bias shifts all scores of a query alike.
    assert [name for name in still if not name.endswith("k_proj.bias")] == []


def test_batch_equals_one_by_one(captioner: Captioner) -> None:
    together = captioner.caption(SOUNDS)
    for sound, candidates in zip(SOUNDS, together, strict=True):
        alone = captioner.caption([sound])[0]
        assert [candidate.caption for candidate in alone] == [candidate.caption for candidate in candidates]
        for one, other in zip(alone, candidates, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


@torch.no_grad()
def test_candidates_are_scored_as_the_loss_would(captioner: Captioner) -> None:
    (candidate, *others) = captioner.caption(SOUNDS[:1], num_beams=4, num_candidates=4, max_tokens=6)[0]
    assert len({candidate.caption, *(other.caption for other in others)}) == 1 + len(others)
    log_mel, mask = features(captioner, SOUNDS[:1])
    states, states_mask = captioner.encode(log_mel, mask)
    ids = captioner.decoder.generate(
        states, states_mask, captioner.tokenizer.bos_id, captioner.tokenizer.eos_id,
        captioner.decoding.with_changes(num_beams=4, max_tokens=6, num_candidates=1),
    )  # fmt: skip
    row = ids[0].tolist()
    row = row[: row.index(captioner.tokenizer.eos_id, 1) + 1] if captioner.tokenizer.eos_id in row[1:] else row
    logits = captioner.decoder(
        torch.tensor([row[:-1]]), torch.ones(1, len(row) - 1, dtype=torch.bool), states, states_mask
    )
    chosen = logits[0].log_softmax(-1)[torch.arange(len(row) - 1), torch.tensor(row[1:])]
    assert candidate.log_probability == pytest.approx(float(chosen.mean()), abs=1e-4)


@pytest.mark.parametrize("length", [1, 6])
def test_sampled_candidates_come_best_first(captioner: Captioner, length: int) -> None:
    """Also where one caption is drawn several times, as short ones are."""
    sampled = {"num_beams": 1, "do_sample": True, "num_candidates": 40, "max_tokens": length, "temperature": 0.3}
    for seed in range(3):
        torch.manual_seed(seed)
        candidates = captioner.caption(SOUNDS[:1], **sampled)[0]
        scores = [candidate.log_probability for candidate in candidates]
        assert scores == sorted(scores, reverse=True)
        assert len({candidate.caption for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load_give_identical_captions(captioner: Captioner, tmp_path: Path, dtype: torch.dtype) -> None:
    expected = captioner.caption(SOUNDS)
    folder = captioner.save(tmp_path / "captioner", card="# mine\n", dtype=dtype)
    loaded = Captioner.load(folder)
    captions = [[candidate.caption for candidate in clip] for clip in loaded.caption(SOUNDS)]
    if dtype == torch.float32:
        assert loaded.caption(SOUNDS) == expected
    else:
        again = Captioner.load(loaded.save(tmp_path / "again"))
        assert captions == [[candidate.caption for candidate in clip] for clip in again.caption(SOUNDS)]
    assert not loaded.training
    assert next(loaded.parameters()).dtype == torch.float32
    assert (folder / "README.md").read_text() == "# mine\n"
    assert {file.name for file in folder.iterdir()} == {"README.md", "captioner.json", "model.safetensors", "tokenizer"}


def test_a_calibration_is_kept_and_gives_the_confidence(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    plain, *_ = captioner.caption(SOUNDS[:1])[0]
    assert plain.confidence == pytest.approx(math.exp(plain.log_probability))
    captioner.calibration = Calibration(scale=2.0, offset=1.0)
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    calibrated, *_ = loaded.caption(SOUNDS[:1])[0]
    assert calibrated.caption == plain.caption
    assert calibrated.confidence == pytest.approx(1 / (1 + math.exp(-(2 * plain.log_probability + 1))))


def test_the_published_recipe_is_kept_in_the_folder(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """Without a BOS in what it learns from, and with a lexicon by which its captions are cleaned."""
    captioner = make_captioner(CaptionTokenizer(tokenizer.tokenizer, 20, bos=False))
    raw = [clip[0].caption for clip in captioner.caption(SOUNDS)]
    with pytest.raises(ValueError, match="lacks the words of its training captions"):
        captioner.caption(SOUNDS, cleaning="published")
    with pytest.raises(ValueError, match="expected none or published"):
        captioner.caption(SOUNDS, cleaning="thorough")
    captioner.lexicon = Lexicon.of(SENTENCES, captioner.tokenizer)
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert not loaded.tokenizer.bos
    assert loaded.lexicon == captioner.lexicon
    cleaned = loaded.caption(SOUNDS, cleaning="published")
    assert [clip[0].caption for clip in cleaned] == [loaded.lexicon.clean(caption) for caption in raw]
    assert {word for clip in cleaned for one in clip for word in words(one.caption)} <= loaded.lexicon.words
    assert [clip[0].caption for clip in loaded.caption(SOUNDS)] == raw


def test_a_folder_from_before_these_settings_loads(captioner_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(captioner_folder, copy)
    settings = json.loads((copy / "captioner.json").read_text())
    assert settings["bridge"] == "projection"
    del settings["bos"], settings["decoding"]["cleaning"]
    (copy / "captioner.json").write_text(json.dumps(settings))
    assert Captioner.load(copy).caption(SOUNDS) == Captioner.load(captioner_folder).caption(SOUNDS)


def test_a_resampler_is_kept_in_the_folder(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = CNNEncoder(channels=[4, 8]), GPT2Decoder(len(tokenizer), config=TINY_GPT2)
    captioner = Captioner(*parts, tokenizer, bridge={"kind": "resampler", "queries": 3, "width": 16}).eval()
    states, mask = captioner.encode(*features(captioner, SOUNDS))
    assert states.shape == (3, 3, 48)
    assert mask.all()
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert loaded.caption(SOUNDS, max_tokens=6) == captioner.caption(SOUNDS, max_tokens=6)


def test_saving_replaces_a_captioner_and_nothing_else(captioner: Captioner, tmp_path: Path) -> None:
    folder = captioner.save(tmp_path / "captioner")
    captioner.save(folder, card="second")
    assert (folder / "README.md").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["captioner"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="no captioner"):
        captioner.save(other)
    assert (other / "thesis.txt").read_text() == "precious"


def test_a_folder_that_is_no_captioner(captioner_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no captioner\.json there"):
        Captioner.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(captioner_folder, copy)
    settings = json.loads((copy / "captioner.json").read_text())
    (copy / "captioner.json").write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Captioner.load(copy)
    for change in ({"encoder": {"name": "ast", "settings": {"pretrained": "some/repository"}}}, {"bridge": None}):
        (copy / "captioner.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(ValueError, match="Expected a captioner folder as a2i writes it"):
            Captioner.load(copy)
    for text in ("{", '{"format": 1}'):
        (copy / "captioner.json").write_text(text)
        with pytest.raises(ValueError, match=str(copy)):
            Captioner.load(copy)
    settings["encoder"]["settings"]["channels"] = [4, 16]
    (copy / "captioner.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="weights don't fit"):
        Captioner.load(copy)


def test_full_size_parts_load_from_folders_in_the_hubs_format(tmp_path: Path, real_data: Path) -> None:
    """AST and GPT-2 of the published shapes in all but depth and width, with the real tokenizer."""
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    ASTForAudioClassification(ASTConfig(**TINY_AST, num_labels=527)).save_pretrained(tmp_path / "ast")
    GPT2LMHeadModel(GPT2Config(**TINY_GPT2)).save_pretrained(tmp_path / "gpt2")
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    encoder = ASTEncoder(pretrained=str(tmp_path / "ast"))
    decoder = GPT2Decoder(len(tokenizer), pretrained=str(tmp_path / "gpt2"))
    captioner = Captioner(encoder, decoder, tokenizer).eval()
    caption = captioner.caption(SOUNDS[:1], num_beams=1, max_tokens=5)[0][0].caption
    assert caption
    assert Captioner.load(captioner.save(tmp_path / "captioner")).caption(SOUNDS[:1], num_beams=1, max_tokens=5)


@pytest.mark.slow
def test_the_full_size_captioner_is_built_from_folders(tmp_path: Path, real_data: Path) -> None:
    """AST-base and GPT-2 base at full size: every key loaded but the cross-attention."""
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    ASTForAudioClassification(ASTConfig(num_labels=527)).save_pretrained(tmp_path / "ast")
    GPT2LMHeadModel(GPT2Config()).save_pretrained(tmp_path / "gpt2")
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    captioner = Captioner(
        ASTEncoder(pretrained=str(tmp_path / "ast")),
        GPT2Decoder(len(tokenizer), pretrained=str(tmp_path / "gpt2")),
        tokenizer,
    ).eval()
    new = sum(captioner.decoder.get_parameter(name).numel() for name in captioner.decoder.new_parameters())
    assert 28e6 < new < 29e6
    assert captioner.bridge.kind == "identity"
    expected = captioner.caption(SOUNDS[:2], num_beams=1, max_tokens=4)
    assert (
        Captioner.load(captioner.save(tmp_path / "captioner")).caption(SOUNDS[:2], num_beams=1, max_tokens=4)
        == expected
    )


def test_an_encoder_of_another_width_is_projected(tokenizer: CaptionTokenizer) -> None:
    assert make_captioner(tokenizer, "ast").bridge.kind == "projection"


def test_bfloat16_learns_alike(captioner: Captioner) -> None:
    """Mixed precision: the spectrogram stays float32, the loss is that of float32 but for rounding."""
    tokens, clips = captioner.tokenizer.encode(SENTENCES[:3]), torch.arange(3)
    expected = captioner.loss(*features(captioner, SOUNDS), tokens, clips)[0].detach()
    with torch.autocast("cpu", torch.bfloat16):
        log_mel, mask = features(captioner, SOUNDS)
        assert log_mel.dtype == torch.float32
        loss, _ = captioner.loss(log_mel, mask, tokens, clips)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=0.02)
    assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in captioner.parameters())


def test_captions_in_bfloat16(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """From sounds and from states alike, as validation has them; the setting is this call's alone."""
    seen = []
    monkeypatch.setattr(
        captioner.decoder,
        "generate",
        lambda *given: seen.append(torch.is_autocast_enabled("cpu")) or torch.ones(2, 4, dtype=torch.long),
    )
    monkeypatch.setattr(captioner, "_log_probabilities", lambda *_: torch.zeros(2))
    states, mask = captioner.encoder(*features(captioner, SOUNDS[:2]))
    for changes in ({}, {"precision": "bfloat16"}):
        one = {"num_candidates": 1, **changes}
        captioner.caption(SOUNDS[:2], **one)
        captioner.caption_states(states, mask, captioner.decoding_with(**one))
    assert seen == [False, False, True, True]


def test_gradient_checkpointing_changes_no_gradient(tokenizer: CaptionTokenizer) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        captioner = Captioner(
            ASTEncoder(config=TINY_AST, gradient_checkpointing=checkpointing),
            GPT2Decoder(len(tokenizer), config={**TINY_GPT2, **no_dropout}, gradient_checkpointing=checkpointing),
            tokenizer,
        ).train()
        captioner.loss(*features(captioner, SOUNDS), tokenizer.encode(SENTENCES[:3]), torch.arange(3))[0].backward()
        gradients.append({name: weight.grad for name, weight in captioner.named_parameters()})
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0])
