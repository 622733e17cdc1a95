"""What every decoder that is trained from nothing owes; GPT-2's own tests are its own."""

import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from a2i.captioner import decoders
from a2i.captioner.decoders.transformer import _sinusoids
from a2i.captioner.decoding import Decoding

VOCABULARY, BOS, EOS = 60, 0, 5
SMALL = {
    "transformer": {"layers": 2, "width": 48, "heads": 4, "positions": 40},
    "gru": {"layers": 2, "width": 48, "hidden": 24, "embedding": 16},
}


def make(name: str, vocabulary: int = VOCABULARY, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    decoder = decoders.build(name, vocabulary, SMALL[name]).eval()
    for weight in decoder.parameters():
        if weight.requires_grad:
            weight.data *= 3  # so that captions differ from clip to clip
    return decoder


@pytest.fixture(scope="module", params=sorted(SMALL))
def decoder(request: pytest.FixtureRequest) -> torch.nn.Module:
    return make(request.param)


def states(clips: int = 3, length: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(clips, length, 48), torch.arange(length) < torch.tensor([length, 4, 1])[:clips, None]


def real(ids: Tensor) -> Tensor:
    return torch.ones(ids.shape, dtype=torch.bool)


def test_causal_by_gradients(decoder: torch.nn.Module) -> None:
    """The logits at a position depend on tokens up to it, and on none after: read from the words' embeddings."""
    sound, mask = states(1)
    inputs = torch.arange(10, 16)[None]  # six different words
    embed = decoder.model.get_input_embeddings() if hasattr(decoder.model, "model") else decoder.model.embed  # type: ignore[union-attr,operator]
    for position in range(6):
        logits = decoder(inputs, real(inputs), sound, mask)
        (gradient,) = torch.autograd.grad(logits[0, position].pow(2).sum(), embed.weight)
        # The output layer is not tied to the embedding here, so that only reading reaches it.
        assert (gradient[inputs[0]].abs().sum(1) > 0).tolist() == [i <= position for i in range(6)]


def test_masked_states_change_nothing_and_real_ones_do(decoder: torch.nn.Module) -> None:
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    logits = decoder(inputs, real(inputs), sound, mask)
    changed = decoder(inputs, real(inputs), torch.where(mask[:, :, None], sound, 9.0), mask)
    assert torch.allclose(changed, logits, atol=1e-5)
    heard = decoder(inputs, real(inputs), torch.where(mask[:, :, None], 9.0, sound), mask)
    assert (heard - logits).abs().amax((1, 2)).min() > 1e-3


def test_padded_tokens_change_nothing_before_them(decoder: torch.nn.Module) -> None:
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    tokens = torch.arange(5) < torch.tensor([5, 3, 2])[:, None]
    logits = decoder(inputs, tokens, sound, mask)
    assert torch.allclose(
        decoder(inputs.masked_fill(~tokens, 7), tokens, sound, mask)[tokens], logits[tokens], atol=1e-5
    )


def test_no_token_is_taken_for_padding(decoder: torch.nn.Module) -> None:
    """Every token, 1 (many models' padding) and EOS among them, is read and tells what comes after it."""
    sound, mask = states(1)
    ids = torch.arange(VOCABULARY)[:, None].expand(-1, 2)
    inputs = torch.cat((torch.full((VOCABULARY, 1), BOS), ids), dim=1)
    logits = decoder(inputs, real(inputs), sound.expand(VOCABULARY, -1, -1), mask.expand(VOCABULARY, -1))
    assert len({tuple(row) for row in logits[:, 1].round(decimals=3).tolist()}) == VOCABULARY
    assert not torch.allclose(logits[:, 1], logits[:, 2], atol=1e-3)  # and where it stands matters


def test_cached_equals_uncached_equals_by_hand(decoder: torch.nn.Module) -> None:
    sound, mask = states()
    decoding = Decoding(num_beams=1, max_tokens=9)
    cached = decoder.generate(sound, mask, BOS, EOS, decoding)  # type: ignore[operator]
    assert torch.equal(cached, decoder.generate(sound, mask, BOS, EOS, decoding, use_cache=False))  # type: ignore[operator]
    for index in range(3):
        ids = [BOS]
        while len(ids) < 11 and ids[1:][-1:] != [EOS]:
            prefix = torch.tensor([ids])
            logits = decoder(prefix, real(prefix), sound[index : index + 1], mask[index : index + 1])[0, -1]
            if len(ids) == 1:
                logits[EOS] = -torch.inf  # a caption has at least one token
            ids.append(int(logits.argmax()))
        row = cached[index].tolist()
        assert row[: len(ids)] == ids
        assert set(row[len(ids) :]) <= {EOS}


def test_beams_follow_their_own_pasts(decoder: torch.nn.Module) -> None:
    """With the cache reordered at every step the same captions come out as without one; none repeats what it may not."""
    sound, mask = states()
    decoding = Decoding(num_beams=4, num_candidates=3, max_tokens=9, no_repeat_ngram_size=2)
    cached = decoder.generate(sound, mask, BOS, EOS, decoding)  # type: ignore[operator]
    assert cached.shape[0] == 9
    assert torch.equal(cached, decoder.generate(sound, mask, BOS, EOS, decoding, use_cache=False))  # type: ignore[operator]
    for row in cached.tolist():
        row = row[: row.index(EOS)] if EOS in row else row
        assert len(set(itertools.pairwise(row))) == len(row) - 1


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@torch.no_grad()
def test_beam_search_finds_the_best_of_all_captions(name: str, length_penalty: float) -> None:
    """Four words and EOS, at most three of them: all 4 + 4·5 + 4·4·5 … are scored one by one."""
    vocabulary, eos, longest = 5, 4, 3
    for seed in range(3):
        decoder = make(name, vocabulary, seed)
        sound, mask = states(1)
        scores: dict[tuple[int, ...], float] = {}
        for words in itertools.product(range(vocabulary), repeat=longest):
            ids = words[: words.index(eos) + 1] if eos in words else words
            if ids[0] != eos and ids not in scores:
                inputs = torch.tensor([[BOS, *ids[:-1]]])
                chosen = decoder(inputs, real(inputs), sound, mask).log_softmax(-1)[0]
                total = float(chosen[torch.arange(len(ids)), torch.tensor(ids)].sum())
                scores[ids] = total / len(ids) ** length_penalty
        best = max(scores, key=scores.__getitem__)
        decoding = Decoding(num_beams=25, max_tokens=longest - 1, length_penalty=length_penalty)
        found = decoder.generate(sound, mask, BOS, eos, decoding)[0].tolist()  # type: ignore[operator]
        assert tuple(found[1 : 1 + len(best)]) == best
        assert set(found[1 + len(best) :]) <= {eos}


def test_sampling_follows_the_seed(decoder: torch.nn.Module) -> None:
    sound, mask = states()
    decoding = Decoding(num_beams=1, do_sample=True, num_candidates=5, max_tokens=8, temperature=1.5)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(decoder.generate(sound, mask, BOS, EOS, decoding).tolist())  # type: ignore[operator]
    assert runs[0] == runs[1] != runs[2]
    assert len({tuple(row) for row in runs[0]}) > 1


def test_settings_build_the_same_decoder_again(decoder: torch.nn.Module) -> None:
    again = decoders.build(decoder.name, VOCABULARY, json.loads(json.dumps(decoder.settings))).eval()
    again.load_state_dict(decoder.state_dict())
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 5))
    assert torch.equal(again(inputs, real(inputs), sound, mask), decoder(inputs, real(inputs), sound, mask))
    assert again.width == 48
    assert set(decoder.new_parameters()) == {name for name, _ in decoder.named_parameters()}  # type: ignore[operator]


def test_the_transformers_places_are_the_papers() -> None:
    table = _sinusoids(50, 48)
    for place, column in ((0, 0), (7, 12), (49, 47), (20, 1)):
        angle = place / 10_000 ** ((column - column % 2) / 48)
        assert float(table[place, column]) == pytest.approx(
            math.cos(angle) if column % 2 else math.sin(angle), abs=1e-5
        )
    decoder = make("transformer")
    places = decoder.model.model.decoder.embed_positions  # type: ignore[union-attr]
    assert not places.weight.requires_grad


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="that the heads divide"):
        decoders.build("transformer", 60, {"width": 50, "heads": 4})
    with pytest.raises(ValueError, match="expected one of"):
        decoders.build("transformer", 60, {"activation": "step"})
    with pytest.raises(ValueError, match="at least"):
        decoders.build("gru", 60, {"layers": 0})
    long = torch.zeros(1, 41, dtype=torch.long)
    with pytest.raises(ValueError, match="this decoder has 40 positions"):
        make("transformer")(long, real(long), *states(1))


@torch.no_grad()
def test_the_transformers_layers_are_pytorchs() -> None:
    """The same weights in `torch.nn.TransformerDecoder` give the same logits: the paper's layers, and as many weights."""
    decoder = make("transformer")
    ours = decoder.model.model.decoder  # type: ignore[union-attr]
    layer = torch.nn.TransformerDecoderLayer(48, 4, 192, batch_first=True)
    theirs = torch.nn.TransformerDecoder(layer, 2).eval()
    for own, other in zip(ours.layers, theirs.layers, strict=True):  # type: ignore[union-attr,arg-type]
        for attention, name in ((own.self_attn, "self_attn"), (own.encoder_attn, "multihead_attn")):
            projections = [attention.q_proj, attention.k_proj, attention.v_proj]
            getattr(other, name).in_proj_weight.copy_(torch.cat([one.weight for one in projections]))
            getattr(other, name).in_proj_bias.copy_(torch.cat([one.bias for one in projections]))
            getattr(other, name).out_proj.load_state_dict(attention.out_proj.state_dict())
        pairs = ((own.fc1, other.linear1), (own.fc2, other.linear2), (own.self_attn_layer_norm, other.norm1))
        for one, another in (*pairs, (own.encoder_attn_layer_norm, other.norm2), (own.final_layer_norm, other.norm3)):
            another.load_state_dict(one.state_dict())
    sound, mask = states()
    inputs = torch.randint(0, VOCABULARY, (3, 6))
    words = ours.embed_tokens.weight[inputs] * math.sqrt(48) + ours.embed_positions.weight[2:8]  # type: ignore[union-attr,index]
    later = torch.nn.Transformer.generate_square_subsequent_mask(6) < 0
    hidden = theirs(words, sound, tgt_mask=later, memory_key_padding_mask=~mask)
    expected = hidden @ decoder.model.output_projection.weight.T  # type: ignore[union-attr]
    assert torch.allclose(decoder(inputs, real(inputs), sound, mask), expected, atol=1e-3, rtol=1e-4)
    counted = sum(weight.numel() for weight in theirs.parameters())
    learnt = sum(weight.numel() for weight in decoder.parameters() if weight.requires_grad)
    assert learnt == counted + 2 * 48 * VOCABULARY
