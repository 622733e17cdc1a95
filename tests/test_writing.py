import pytest
import torch
from conftest import TINY_GPT2

from a2i.captioner import Captioner
from a2i.captioner.decoders.gpt2 import GPT2Decoder
from a2i.captioner.decoding import Decoding
from a2i.captioner.encoders.cnn import CNNEncoder
from a2i.captioner.text import CaptionTokenizer
from a2i.training.writing import learn_to_write

PAIRS = [
    *((frozenset({"dog"}), sentence) for sentence in ("A dog barks.", "A dog is barking.")),
    *((frozenset({"rain"}), sentence) for sentence in ("Rain falls.", "Rain is falling.")),
    (frozenset({"dog", "rain"}), "A dog barks in the rain."),
    (frozenset({"cat"}), "A cat meows."),
]


def made(inner: str = "none") -> Captioner:
    torch.manual_seed(0)
    tokenizer = CaptionTokenizer.train([text for _, text in PAIRS], 300, max_tokens=16)
    bridge = {"kind": "keywords", "names": ["dog", "rain"], "inner": inner}
    decoder = GPT2Decoder(len(tokenizer), config=TINY_GPT2)
    decoding = Decoding(num_beams=2, num_candidates=1, max_tokens=16)
    return Captioner(CNNEncoder(channels=[4, 8]), decoder, tokenizer, bridge, decoding=decoding)


@pytest.mark.long
def test_it_writes_what_it_is_told() -> None:
    captioner = made()
    before = {name: weight.clone() for name, weight in captioner.state_dict().items()}
    random = torch.get_rng_state()
    assert learn_to_write(captioner, PAIRS, seed=0, steps=150)
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, weight in captioner.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith(("decoder.", "bridge.embedding.")) for name in changed)
    shares = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]])
    with torch.no_grad():
        states = captioner.bridge.embedding(shares)[:, None]
        ids = captioner.decoder.generate(
            states,
            torch.ones(3, 1, dtype=torch.bool),
            captioner.tokenizer.bos_id,
            captioner.tokenizer.eos_id,
            captioner.decoding,
        )
    dog, rain, both = (captioner.tokenizer.decode(row) for row in ids.tolist())
    assert dog in {text for keywords, text in PAIRS if keywords == {"dog"}}
    assert rain in {text for keywords, text in PAIRS if keywords == {"rain"}}
    assert "dog" in both.lower()
    assert "rain" in both.lower()


def test_the_seed_decides() -> None:
    weights = []
    for seed in (0, 0, 1):
        captioner = made()
        learn_to_write(captioner, PAIRS, seed=seed, steps=3)
        weights.append(captioner.bridge.embedding.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_nothing_to_learn_from() -> None:
    assert not learn_to_write(made(), [(frozenset({"cat"}), "A cat meows."), (frozenset(), "A sound.")], seed=0)


def test_a_decoder_that_attends_to_sound() -> None:
    with pytest.raises(ValueError, match="bridge=none"):
        learn_to_write(made("auto"), PAIRS, seed=0)
