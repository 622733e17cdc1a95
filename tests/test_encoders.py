"""What every encoder owes, whichever there are; and every encoder with every decoder."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SENTENCES, TINY_AST, TINY_GPT2, tone
from torch import Tensor

from a2i.captioner import Captioner, decoders, encoders
from a2i.captioner.decoding import Decoding
from a2i.captioner.text import CaptionTokenizer
from a2i.features import FeatureSettings

SMALL = {
    "act": {"layers": 2, "width": 16, "heads": 2, "patch_frames": 4, "positions": 20},
    "ast": {"config": {**TINY_AST, "num_mel_bins": 64}},
    "cnn": {"channels": [4, 8], "num_mel_bins": 64},
    "crnn": {"channels": 8, "hidden": 6},
    "gru": {"layers": 3, "hidden": 6, "subsample": 2},
    "mobilenet": {"width_multiplier": 0.1, "num_mel_bins": 64},
    "panns": {"blocks": 4, "channels": 2},
    "sound_effects": {"channels": [2, 4, 4, 8], "num_mel_bins": 64},
}
SMALL_DECODERS = {
    "gpt2": {"config": TINY_GPT2},
    "gru": {"hidden": 12, "embedding": 8, "width": 8},
    "transformer": {"layers": 1, "width": 16, "heads": 2},
}


def make(name: str) -> torch.nn.Module:
    """With statistics other than the initial ones, so that normalisation shifts padding away from zero."""
    torch.manual_seed(0)
    encoder = encoders.build(name, SMALL[name])
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the batch's own statistics: after many layers nothing would be left of a sound else
    with torch.no_grad():
        encoder.train()(*batch(200, 170, scale=2.0))
    return encoder.eval()


def batch(*frames: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(frames))
    longest = max(frames)
    log_mel = scale * torch.randn(len(frames), longest, 64, generator=generator) + 0.5
    return log_mel, torch.arange(longest) < torch.tensor(frames)[:, None]


def test_every_file_is_found_and_offers_its_class() -> None:
    assert encoders.names() == sorted(SMALL)
    assert decoders.names() == sorted(SMALL_DECODERS)
    assert encoders.build("cnn", {"channels": [4, 8]}).width == 8
    assert decoders.build("gpt2", 300, {"config": {"n_embd": 16, "n_layer": 1, "n_head": 2}}).width == 16


@pytest.mark.parametrize("room", [encoders, decoders])
def test_an_unknown_name_is_refused(room: object) -> None:
    """A captioner folder can name only what lies in this package; nothing else is imported."""
    for name in ("os", "../../evil", "a2i.infer"):
        with pytest.raises(ValueError, match="expected one of"):
            room.build(name, *([1] if room is decoders else []), {})  # type: ignore[attr-defined]


def test_decoding_settings() -> None:
    assert Decoding(num_beams=4).with_changes(num_candidates=4).num_candidates == 4
    with pytest.raises(ValueError, match="no more candidates than"):
        Decoding(num_beams=1).with_changes(num_candidates=2)
    assert Decoding(num_beams=1, do_sample=True, num_candidates=2).num_candidates == 2
    with pytest.raises(ValueError, match="'beams'"):
        Decoding().with_changes(beams=4)


@pytest.mark.parametrize("bad", [
    *({"num_beams": value} for value in (0, True, 2.0, "4", 10**9)),
    *({"do_sample": value} for value in (1, 0, "true")),
    *({"temperature": value} for value in (math.nan, math.inf, 0.0, -1.0, 1e-30, True, "1")),
    *({"top_p": value} for value in (math.nan, 0.0, 1.5, True)),
    *({"length_penalty": value} for value in (math.nan, math.inf, 1e300, False)),
    *({"max_tokens": value} for value in (0, True, math.inf, 10**9)),
    *({"num_candidates": value, "do_sample": True} for value in (0, True, 1.0)),
    {"no_repeat_ngram_size": -1},
], ids=str)  # fmt: skip
def test_a_decoding_setting_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    """Truth values are no numbers, NaN lies within no range, and the message names the setting."""
    for make in (Decoding, Decoding().with_changes):
        with pytest.raises(ValueError, match=rf"got {next(iter(bad))}=.*; expected"):
            make(**bad)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("frames", [(200, 131, 77, 33), (1, 190), (40, 3, 15, 16, 17), (250, 80)])
def test_a_clip_alone_equals_the_clip_in_a_batch(name: str, frames: tuple[int, ...]) -> None:
    encoder = make(name)
    log_mel, mask = batch(*frames)
    states, states_mask = encoder(log_mel, mask)
    assert states.shape == (*states_mask.shape, encoder.width)
    for index, count in enumerate(frames):
        alone, alone_mask = encoder(log_mel[index : index + 1, :count], mask[index : index + 1, :count])
        assert alone_mask.any()
        assert torch.allclose(states[index][states_mask[index]], alone[alone_mask], atol=1e-4)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_what_stands_in_padding_changes_nothing(name: str) -> None:
    encoder = make(name)
    log_mel, mask = batch(180, 70)
    states, states_mask = encoder(log_mel, mask)
    changed, _ = encoder(torch.where(mask[:, :, None], log_mel, 7.0), mask)
    assert torch.equal(states[states_mask], changed[states_mask])


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_frame_is_heard_that_fills_a_state(name: str) -> None:
    encoder = make(name)
    log_mel, mask = batch(192)
    log_mel.requires_grad_(True)
    states, states_mask = encoder(log_mel, mask)
    states[states_mask].pow(3).sum().backward()
    assert log_mel.grad is not None
    assert (log_mel.grad[0].abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_settings_are_plain_and_build_the_same_again(name: str) -> None:
    encoder = make(name)
    again = encoders.build(name, json.loads(json.dumps(encoder.settings))).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(*batch(100))[0], encoder(*batch(100))[0])
    assert not {"pretrained", "revision"} & set(encoder.settings)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_another_number_of_mel_bins_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="80 mel bins"):
        make(name)(torch.zeros(1, 100, 80), torch.ones(1, 100, dtype=torch.bool))


@pytest.mark.long
@pytest.mark.parametrize("decoder", sorted(SMALL_DECODERS))
@pytest.mark.parametrize("encoder", sorted(SMALL))
def test_every_pair_learns_captions_saves_and_loads(
    encoder: str, decoder: str, tokenizer: CaptionTokenizer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    captioner = Captioner(
        encoders.build(encoder, SMALL[encoder]),
        decoders.build(decoder, len(tokenizer), SMALL_DECODERS[decoder]),
        tokenizer,
        features=FeatureSettings(num_mel_bins=64, kind="panns_16k" if encoder == "panns" else "ast"),
        decoding=Decoding(num_beams=2, num_candidates=2, max_tokens=6),
    )
    sounds = [tone(300, 1.2), np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)]
    padded = torch.zeros(2, 30_000)
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    heard = captioner.log_mel(padded, torch.tensor([len(sound) for sound in sounds]))
    tokens, clips = tokenizer.encode(SENTENCES[:3]), torch.tensor([0, 1, 1])
    optimizer = torch.optim.AdamW(captioner.parameters(), 1e-2)
    losses = []
    for _ in range(3):
        loss, _ = captioner.train().loss(*heard, tokens, clips)
        optimizer.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients = {name: weight.grad for name, weight in captioner.named_parameters() if weight.requires_grad}
        still = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
        # A key's bias shifts all scores of a query alike.
        assert [name for name in still if not name.endswith("k_proj.bias")] == []
        assert all(bool(gradient.isfinite().all()) for gradient in gradients.values() if gradient is not None)
        optimizer.step()
    assert losses[-1] < losses[0]
    expected = captioner.eval().caption(sounds)
    alone = [captioner.caption([sound])[0] for sound in sounds]
    assert [[one.caption for one in clip] for clip in alone] == [[one.caption for one in clip] for clip in expected]
    assert Captioner.load(captioner.save(tmp_path / "captioner")).caption(sounds) == expected


def test_both_ways_equal_torchs_packed_sequences() -> None:
    """Outputs and gradients, from the same weights, of clips of different lengths."""
    torch.manual_seed(0)
    ours, theirs = encoders.BidirectionalGRU(5, 4), torch.nn.GRU(5, 4, batch_first=True, bidirectional=True)
    for name, weight in ours.forwards.named_parameters():
        theirs.get_parameter(name).data.copy_(weight)
    for name, weight in ours.backwards.named_parameters():
        theirs.get_parameter(f"{name}_reverse").data.copy_(weight)
    states, frames = torch.randn(4, 30, 5), torch.tensor([30, 12, 1, 29])
    packed = torch.nn.utils.rnn.pack_padded_sequence(states, frames, batch_first=True, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found = ours(states, frames)
    assert torch.allclose(found, expected, atol=1e-6)
    expected.pow(2).sum().backward()
    found.pow(2).sum().backward()
    for name, weight in ours.forwards.named_parameters():
        assert torch.allclose(weight.grad, theirs.get_parameter(name).grad, atol=1e-5)
    for name, weight in ours.backwards.named_parameters():
        assert torch.allclose(weight.grad, theirs.get_parameter(f"{name}_reverse").grad, atol=1e-5)
