import json
from pathlib import Path

import pytest
import torch
from conftest import TINY_GPT2
from transformers import GPT2Config, GPT2LMHeadModel

from a2i.captioner.decoders.gpt2 import GPT2Decoder
from a2i.captioner.decoding import Decoding

VOCABULARY, BOS = 60, 0


@pytest.fixture(scope="module")
def decoder() -> GPT2Decoder:
    torch.manual_seed(0)
    model = GPT2Decoder(VOCABULARY, config={**TINY_GPT2, "initializer_range": 0.3})
    return model.eval()


def states(clips: int = 3, length: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(clips, length, 48), torch.arange(length) < torch.tensor([length, 4, 1])[:clips, None]


def test_causal_by_gradients(decoder: GPT2Decoder) -> None:
    """The logits at a position depend on tokens up to it, and on none after."""
    sound, mask = states(1)
    embedded = torch.randn(1, 6, 48, requires_grad=True)
    for position in range(6):
        output = decoder.model(inputs_embeds=embedded, encoder_hidden_states=sound, encoder_attention_mask=mask.float())
        (gradient,) = torch.autograd.grad(output.logits[0, position].pow(2).sum(), embedded)
        reached = gradient[0].abs().sum(1) > 0
        assert reached.tolist() == [i <= position for i in range(6)]


def test_masked_states_change_nothing_and_real_ones_do(decoder: GPT2Decoder) -> None:
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    tokens = torch.ones(3, 5, dtype=torch.bool)
    logits = decoder(inputs, tokens, sound, mask)
    assert torch.allclose(decoder(inputs, tokens, torch.where(mask[:, :, None], sound, 9.0), mask), logits, atol=1e-6)
    heard = decoder(inputs, tokens, torch.where(mask[:, :, None], 9.0, sound), mask)
    assert (heard - logits).abs().amax((1, 2)).min() > 1e-3


def test_padded_tokens_change_nothing_before_them(decoder: GPT2Decoder) -> None:
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    tokens = torch.arange(5) < torch.tensor([5, 3, 2])[:, None]
    logits = decoder(inputs, tokens, sound, mask)
    assert torch.allclose(
        decoder(inputs.masked_fill(~tokens, 7), tokens, sound, mask)[tokens], logits[tokens], atol=1e-6
    )


def greedy_by_hand(decoder: GPT2Decoder, sound: torch.Tensor, mask: torch.Tensor, eos: int, steps: int) -> list[int]:
    """One clip, no cache, the whole prefix anew at every step."""
    ids = [BOS]
    for step in range(steps):
        logits = decoder(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), sound, mask)[0, -1]
        if step == 0:
            logits[eos] = -torch.inf  # a caption has at least one token
        ids.append(int(logits.argmax()))
        if ids[-1] == eos:
            break
    return ids


@pytest.mark.parametrize("eos", [0, 5])
def test_cached_equals_uncached_equals_by_hand(decoder: GPT2Decoder, eos: int) -> None:
    sound, mask = states()
    decoding = Decoding(num_beams=1, max_tokens=9)
    cached = decoder.generate(sound, mask, BOS, eos, decoding)
    assert torch.equal(cached, decoder.generate(sound, mask, BOS, eos, decoding, use_cache=False))
    for index in range(3):
        expected = greedy_by_hand(decoder, sound[index : index + 1], mask[index : index + 1], eos, 10)
        row = cached[index].tolist()
        assert row[: len(expected)] == expected
        assert set(row[len(expected) :]) <= {eos}


def test_beams_find_nothing_less_likely_than_greedy(decoder: GPT2Decoder) -> None:
    sound, mask = states()
    eos = VOCABULARY - 1

    def likelihood(ids: torch.Tensor) -> torch.Tensor:
        logits = decoder(ids[:, :-1], torch.ones_like(ids[:, :-1], dtype=torch.bool), sound, mask)
        return logits.log_softmax(-1).gather(2, ids[:, 1:, None]).sum((1, 2))

    greedy = decoder.generate(sound, mask, BOS, eos, Decoding(num_beams=1, max_tokens=4))
    beams = decoder.generate(sound, mask, BOS, eos, Decoding(num_beams=VOCABULARY, max_tokens=4))
    assert greedy.shape == beams.shape == (3, 6)
    assert (likelihood(beams) >= likelihood(greedy) - 1e-4).all()
    cached = decoder.generate(sound, mask, BOS, eos, Decoding(num_beams=4, num_candidates=4, max_tokens=6))
    uncached = decoder.generate(
        sound, mask, BOS, eos, Decoding(num_beams=4, num_candidates=4, max_tokens=6), use_cache=False
    )
    assert cached.shape[0] == 12
    assert torch.equal(cached, uncached)


def test_sampling_follows_the_seed(decoder: GPT2Decoder) -> None:
    sound, mask = states()
    decoding = Decoding(num_beams=1, do_sample=True, num_candidates=5, max_tokens=8, temperature=1.5)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(decoder.generate(sound, mask, BOS, 5, decoding).tolist())
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len({tuple(row) for row in runs[0]}) > 1


@pytest.mark.parametrize("with_head", [True, False])
def test_a_hub_checkpoint_loads_whole(tmp_path: Path, with_head: bool) -> None:
    """GPT-2 as it lies on the Hub: the bare model, without prefix or head; or with both, as people save their own."""
    torch.manual_seed(3)
    original = GPT2LMHeadModel(GPT2Config(**TINY_GPT2, vocab_size=VOCABULARY))
    (original if with_head else original.transformer).save_pretrained(tmp_path)
    loaded = GPT2Decoder(VOCABULARY, pretrained=str(tmp_path))
    weights = loaded.model.state_dict()
    for name, weight in original.state_dict().items():
        assert torch.equal(weights[name], weight), name
    new = loaded.new_parameters()
    assert {name.removeprefix("model.") for name in new} == set(weights) - set(original.state_dict())
    assert all("cross" in name for name in new)


def test_another_vocabulary_or_model_is_refused(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(**TINY_GPT2, vocab_size=VOCABULARY)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="belong together"):
        GPT2Decoder(VOCABULARY + 1, pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="could not load a GPT-2 checkpoint from"):
        GPT2Decoder(VOCABULARY, pretrained=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="expected one"):
        GPT2Decoder(VOCABULARY, pretrained="x", config={})


def test_settings_build_the_same_decoder_again(decoder: GPT2Decoder) -> None:
    again = GPT2Decoder(VOCABULARY, **json.loads(json.dumps(decoder.settings))).eval()
    again.load_state_dict(decoder.state_dict())
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    tokens = torch.ones(3, 5, dtype=torch.bool)
    assert torch.equal(again(inputs, tokens, sound, mask), decoder(inputs, tokens, sound, mask))


def test_padded_rows_are_dropped_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    """64 rows for 60 tokens, as trainers pad an embedding; no row that no token has can be said."""
    torch.manual_seed(3)
    original = GPT2LMHeadModel(GPT2Config(**TINY_GPT2, vocab_size=64)).eval()
    original.save_pretrained(tmp_path)
    loaded = GPT2Decoder(VOCABULARY, pretrained=str(tmp_path)).eval()
    assert loaded.vocab_size == VOCABULARY
    weights = loaded.model.state_dict()
    assert torch.equal(weights["lm_head.weight"], original.state_dict()["lm_head.weight"][:VOCABULARY])
    assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight
    again = GPT2Decoder(VOCABULARY, **json.loads(json.dumps(loaded.settings))).eval()
    again.load_state_dict(loaded.state_dict())
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    tokens = torch.ones(3, 5, dtype=torch.bool)
    assert torch.equal(again(inputs, tokens, sound, mask), loaded(inputs, tokens, sound, mask))
    assert again(inputs, tokens, sound, mask).shape[-1] == VOCABULARY


def test_captions_that_have_no_place_are_told(decoder: GPT2Decoder) -> None:
    sound, mask = states(1)
    inputs = torch.zeros(1, TINY_GPT2["n_positions"] + 1, dtype=torch.long)
    with pytest.raises(ValueError, match="this decoder has 40 positions: set"):
        decoder(inputs, torch.ones_like(inputs, dtype=torch.bool), sound, mask)
