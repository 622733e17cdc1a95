import random

import numpy as np
import torch
from conftest import tone

from a2i.training.callbacks import RandomStates, spectrogram_image


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


def test_spectrogram_image_has_low_frequencies_at_the_bottom() -> None:
    low, high = (spectrogram_image(tone(frequency, 1.0)) for frequency in (100.0, 6000.0))
    assert low.shape == (128, 25, 3)
    assert low.dtype == np.uint8
    brightest = [int(image.sum((1, 2)).argmax()) for image in (low, high)]
    assert brightest[0] > 100
    assert brightest[1] < 30
    assert spectrogram_image(np.zeros(100, np.float32)).shape == (128, 1, 3)
