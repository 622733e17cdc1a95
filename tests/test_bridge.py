import pytest
import torch

from a2i.bridge import Bridge


def test_identity_passes_states_through() -> None:
    states = torch.randn(2, 3, 8)
    assert torch.equal(Bridge(8, 8, "identity")(states), states)
    assert Bridge(8, 8).kind == "identity"


def test_projection_fits_sizes() -> None:
    assert Bridge(8, 12)(torch.randn(2, 3, 8)).shape == (2, 3, 12)
    assert Bridge(8, 12).kind == "projection"
    assert Bridge(8, 8, "projection").kind == "projection"


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="bridge: projection"):
        Bridge(8, 12, "identity")
    with pytest.raises(ValueError, match="expected one of auto, identity, projection"):
        Bridge(8, 8, "resampler")  # type: ignore[arg-type]
