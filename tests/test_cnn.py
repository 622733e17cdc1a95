import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.captioner.encoders.cnn import CNNEncoder

torch.manual_seed(0)
ENCODER = CNNEncoder(channels=[4, 8, 6])
# Statistics other than the initial ones, so that normalisation shifts padding away from zero.
ENCODER.train()(torch.randn(4, 200, 128) + 0.5, torch.ones(4, 200, dtype=torch.bool))
ENCODER.eval()


@settings(max_examples=25)
@given(frames=st.lists(st.integers(1, 300), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_batch_equals_one_by_one_and_masked_frames_change_nothing(frames: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_mel = torch.randn(len(frames), max(frames), 128, generator=generator)
    mask = torch.arange(max(frames)) < torch.tensor(frames)[:, None]
    states, states_mask = ENCODER(log_mel, mask)
    assert states_mask.sum(1).tolist() == [-(-count // 16) for count in frames]
    for index, count in enumerate(frames):
        alone, alone_mask = ENCODER(log_mel[index : index + 1, :count], mask[index : index + 1, :count])
        assert alone_mask.all()
        assert torch.allclose(states[index][states_mask[index]], alone[0], atol=1e-5)


def test_settings_build_the_same_encoder_again() -> None:
    again = CNNEncoder(**json.loads(json.dumps(ENCODER.settings))).eval()
    again.load_state_dict(ENCODER.state_dict())
    log_mel, mask = torch.randn(1, 100, 128), torch.ones(1, 100, dtype=torch.bool)
    assert torch.equal(again(log_mel, mask)[0], ENCODER(log_mel, mask)[0])
    assert again.width == 6


def test_every_frame_reaches_the_states() -> None:
    log_mel = torch.randn(1, 333, 128, requires_grad=True)
    ENCODER(log_mel, torch.ones(1, 333, dtype=torch.bool))[0].pow(2).sum().backward()
    assert log_mel.grad is not None
    assert (log_mel.grad[0].abs().sum(1) > 0).all()


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="16 bins or more"):
        CNNEncoder(channels=[4, 8, 6], num_mel_bins=8)
    with pytest.raises(ValueError, match="64 mel bins"):
        ENCODER(torch.zeros(1, 100, 64), torch.ones(1, 100, dtype=torch.bool))
