"""Several threads on one captioner: each gets the captions of its own clips."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_GPT2, tone

from a2i.captioner import Captioner, decoders
from a2i.captioner.encoders.cnn import CNNEncoder
from a2i.captioner.text import CaptionTokenizer

DECODERS = {
    "gpt2": {"config": TINY_GPT2},
    "gru": {"hidden": 12, "embedding": 8, "width": 16},
    "transformer": {"layers": 2, "width": 16, "heads": 2},
}
THREADS, ROUNDS = 4, 3


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns so often that one is within another's call."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_every_decoder_is_tried() -> None:
    assert sorted(DECODERS) == decoders.names()


@pytest.mark.long
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_threads_get_the_captions_of_their_own_clips(name: str, tokenizer: CaptionTokenizer) -> None:
    torch.manual_seed(0)
    decoder = decoders.build(name, len(tokenizer), DECODERS[name])
    captioner = Captioner(CNNEncoder(channels=[4, 8]), decoder, tokenizer).eval()
    for weight in captioner.decoder.parameters():
        weight.data *= 3  # so that captions differ from clip to clip
    sounds = [tone(200.0 * 1.4**index, 0.3 + 0.1 * index) for index in range(8)]
    calls: list[tuple[list[np.ndarray], dict[str, Any]]] = [
        (sounds[first : first + count], {"num_beams": beams, "num_candidates": candidates, "max_tokens": 6})
        for first, count, beams, candidates in ((0, 1, 4, 1), (1, 3, 1, 1), (4, 2, 3, 2), (6, 2, 2, 2), (2, 4, 5, 3))
    ]

    def caption(index: int) -> Any:
        clips, changes = calls[index % len(calls)]
        return captioner.caption(clips, **changes)

    expected = [caption(index) for index in range(len(calls))]
    assert len({clip[0].caption for call in expected for clip in call}) > 1
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(caption, range(len(calls) * THREADS * ROUNDS)))
    for index, call in enumerate(found):
        for clip, other in zip(call, expected[index % len(calls)], strict=True):
            assert [one.caption for one in clip] == [one.caption for one in other]
            assert [one.log_probability for one in clip] == pytest.approx(
                [one.log_probability for one in other], abs=1e-4
            )
