import json

import pytest
import torch

from a2i.captioner.bridge import Bridge, Resampler, make_bridge

MASK = torch.ones(2, 3, dtype=torch.bool)


def test_identity_passes_states_through() -> None:
    states = torch.randn(2, 3, 8)
    bridged, mask, _ = Bridge(8, 8, "identity")(states, MASK)
    assert torch.equal(bridged, states)
    assert torch.equal(mask, MASK)
    assert Bridge(8, 8).kind == "identity"


def test_projection_fits_sizes() -> None:
    assert Bridge(8, 12)(torch.randn(2, 3, 8), MASK)[0].shape == (2, 3, 12)
    assert Bridge(8, 12).kind == "projection"
    assert Bridge(8, 8, "projection").kind == "projection"


def test_a_resampler_gives_as_many_states_for_any_length() -> None:
    resampler = Resampler(8, 12, queries=5, width=16, layers=2, heads=2).eval()
    for length in (1, 3, 40):
        states, mask, _ = resampler(torch.randn(2, length, 8), torch.ones(2, length, dtype=torch.bool))
        assert states.shape == (2, 5, 12)
        assert mask.shape == (2, 5)
        assert mask.all()


def test_a_resampler_sees_real_states_and_no_others() -> None:
    torch.manual_seed(0)
    resampler = Resampler(8, 12, queries=5, width=16, heads=2).eval()
    states, mask = torch.randn(2, 6, 8), torch.arange(6) < torch.tensor([[6], [3]])
    expected = resampler(states, mask).states
    padding_changed = resampler(states.masked_fill(~mask[:, :, None], 9.0), mask).states
    assert torch.allclose(padding_changed, expected, atol=1e-6)
    alone = resampler(states[1:, :3], mask[1:, :3]).states
    assert torch.allclose(alone, expected[1:], atol=1e-6)
    for index in range(3):
        changed = states.clone()
        changed[1, index] += 1.0
        assert not torch.allclose(resampler(changed, mask)[0][1], expected[1], atol=1e-4)


def test_every_weight_of_a_resampler_learns() -> None:
    resampler = Resampler(8, 12, queries=5, width=16, heads=2)
    resampler(torch.randn(2, 3, 8), MASK)[0].pow(2).sum().backward()
    assert [name for name, weight in resampler.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("bridge", ["identity", "projection", "resampler", {"kind": "resampler", "queries": 3}])
def test_settings_build_the_same_bridge_again(bridge: str | dict) -> None:
    made = make_bridge(8, 8, bridge)
    again = make_bridge(8, 8, json.loads(json.dumps(made.settings)))
    again.load_state_dict(made.state_dict())
    states = torch.randn(2, 3, 8)
    assert torch.equal(again(states, MASK)[0], made(states, MASK)[0])


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="bridge: projection"):
        Bridge(8, 12, "identity")
    with pytest.raises(ValueError, match="expected one of auto, identity, projection"):
        make_bridge(8, 8, "resample")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads that divide the width"):
        make_bridge(8, 12, {"kind": "resampler", "heads": 5})
    with pytest.raises(ValueError, match="querys"):
        make_bridge(8, 12, {"kind": "resampler", "querys": 5})
    with pytest.raises(ValueError, match="expected one of auto"):
        make_bridge(8, 12, {"queries": 5})
