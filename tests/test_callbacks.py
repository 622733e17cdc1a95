import random

import numpy as np
import torch

from a2i.training.callbacks import RandomStates


def draw() -> list[float]:
    return [float(torch.rand(1)), float(np.random.rand()), random.random()]


def test_random_states_survive_a_checkpoint(tmp_path: object) -> None:
    states = RandomStates()
    torch.save(states.state_dict(), f"{tmp_path}/states.pt")
    expected = draw()
    restored = RandomStates()
    restored.load_state_dict(torch.load(f"{tmp_path}/states.pt", weights_only=True))
    draw()
    restored.on_train_start(None, None)  # type: ignore[arg-type]
    assert draw() == expected
    # Only once: a second fit goes on from where it is.
    restored.on_train_start(None, None)  # type: ignore[arg-type]
    assert draw() != expected
