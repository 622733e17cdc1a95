"""Sharing what the states are projected to changes nothing but the time it takes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from conftest import TINY_GPT2
from torch import Tensor

from a2i.captioner import decoders
from a2i.captioner.attention import Sharing
from a2i.captioner.decoding import Decoding

SETTINGS = {
    "gpt2": {"config": TINY_GPT2},
    "gru": {"hidden": 12, "embedding": 8, "width": 16},
    "transformer": {"layers": 2, "width": 16, "heads": 2},
}
CLIP_INDEX = torch.tensor([0, 0, 1, 2, 2, 2, 1])
EVEN_INDEX = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture(params=sorted(SETTINGS))
def decoder(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return decoders.build(request.param, 40, SETTINGS[request.param]).eval()


def sound(decoder: torch.nn.Module, masked: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    lengths = torch.tensor([7, 4, 1] if masked else [7, 7, 7])
    return torch.randn(3, 7, decoder.width), torch.arange(7) < lengths[:, None]  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("index", [CLIP_INDEX, EVEN_INDEX], ids=["uneven", "even"])
def test_captions_that_share_their_clips_states_are_as_with_states_of_their_own(
    decoder: torch.nn.Module, masked: bool, precision: torch.dtype, index: Tensor
) -> None:
    """Logits and all gradients, those of the states too."""
    states, mask = sound(decoder, masked)
    inputs = torch.randint(0, 40, (len(index), 5))
    tokens = torch.arange(5) < torch.tensor([5, 3, 5, 1, 2, 5, 4])[: len(index), None]
    found = {}
    for shared in (True, False):
        states = states.detach().requires_grad_()
        decoder.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            if shared:
                logits = decoder(inputs, tokens, states, mask, index)
            else:
                logits = decoder(inputs, tokens, states[index], mask[index])
        logits.float()[tokens].pow(2).sum().backward()
        gradients = [weight.grad.clone() for weight in decoder.parameters() if weight.grad is not None]
        assert states.grad is not None
        found[shared] = [logits.detach().float()[tokens], states.grad, *gradients]
    tolerance = 1e-5 if precision == torch.float32 else 3e-2
    assert len(found[True]) == len(found[False])
    for one, other in zip(found[True], found[False], strict=True):
        assert (one - other).abs().max() <= tolerance * max(1.0, float(other.abs().max()))


def test_states_are_projected_once_for_captions_and_beams() -> None:
    for name in ("gpt2", "transformer"):
        decoder = decoders.build(name, 40, SETTINGS[name]).eval()
        states, mask = sound(decoder, masked=True)
        seen: list[int] = []
        layers = decoder.model.transformer.h if name == "gpt2" else decoder.model.model.decoder.layers  # type: ignore[union-attr]
        projection = layers[0].crossattention.c_attn if name == "gpt2" else layers[0].encoder_attn.k_proj
        projection.register_forward_hook(lambda _, given, __, seen=seen: seen.append(len(given[0])))
        decoder(torch.zeros(7, 3, dtype=torch.long), torch.ones(7, 3, dtype=torch.bool), states, mask, CLIP_INDEX)
        decoder.generate(states, mask, 0, 5, Decoding(num_beams=4, max_tokens=6))  # type: ignore[operator]
        sampled = Decoding(num_beams=1, num_candidates=5, do_sample=True, max_tokens=6)
        decoder.generate(states, mask, 0, 5, sampled)  # type: ignore[operator]
        assert seen == [3, 3, 3]


@pytest.mark.parametrize(
    "decoding", [Decoding(num_beams=1), Decoding(num_beams=4, num_candidates=3)], ids=["greedy", "beams"]
)
def test_generation_is_that_without_sharing(
    decoder: torch.nn.Module, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the token, against each row with states of its own, and against keeping nothing between steps."""
    states, mask = sound(decoder, masked=True)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(3)
    ids = decoder.generate(states, mask, 0, 5, decoding)  # type: ignore[operator]
    assert torch.equal(decoder.generate(states, mask, 0, 5, decoding, use_cache=False), ids)  # type: ignore[operator]
    if hasattr(decoder, "sharing"):
        monkeypatch.setattr(Sharing, "beams", lambda sharing, rows: sharing.captions(ids, states, mask, None))
        assert torch.equal(decoder.generate(states, mask, 0, 5, decoding), ids)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("gpt2", {"config": {**TINY_GPT2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}}),
        ("transformer", {**SETTINGS["transformer"], "dropout": 0.0}),
    ],
)
def test_gradient_checkpointing_sees_the_same_captions(name: str, off: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decoder = decoders.build(name, 40, off)
    checkpointed = decoders.build(name, 40, off | {"gradient_checkpointing": True})
    checkpointed.load_state_dict(decoder.state_dict())
    states, mask = sound(decoder, masked=True)
    inputs = torch.randint(0, 40, (7, 5))
    gradients = []
    for each in (decoder.train(), checkpointed.train()):
        each(inputs, torch.ones_like(inputs, dtype=torch.bool), states, mask, CLIP_INDEX).pow(2).mean().backward()
        gradients.append([weight.grad for weight in each.parameters() if weight.requires_grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_gradients_are_computed_in_any_thread() -> None:
    """PyTorch runs checkpointed layers again in a thread of its own, where the device is a GPU."""
    torch.manual_seed(0)
    decoder = decoders.build("transformer", 40, {**SETTINGS["transformer"], "gradient_checkpointing": True}).train()
    states, mask = sound(decoder, masked=True)
    inputs = torch.randint(0, 40, (7, 5))
    gradients = []
    for threads in (False, True):
        decoder.zero_grad()
        torch.manual_seed(1)
        loss = decoder(inputs, torch.ones_like(inputs, dtype=torch.bool), states, mask, CLIP_INDEX).pow(2).mean()
        if threads:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(loss.backward).result()
        else:
            loss.backward()
        gradients.append([weight.grad for weight in decoder.parameters() if weight.requires_grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
