"""A number among the settings that is none, or out of bounds, is refused by its name, wherever it stands."""

import functools
from typing import Any

import pytest
import torch
from conftest import make_captioner

from a2i.bounds import number, switch
from a2i.captioner.text import CaptionTokenizer
from a2i.features import FeatureSettings
from a2i.training.augment import SpecAugment, WaveformAugment
from a2i.training.module import CaptionModule

NAN, INFINITE = float("nan"), float("inf")
NONE = (NAN, INFINITE, True, "1")


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"above": 0}, "got std=0; expected a number above 0"),
        (NAN, {"least": 0, "most": 1}, "got std=nan; expected a number of at least 0 and at most 1"),
        (-INFINITE, {}, "got std=-inf; expected a number"),
        (True, {"least": 1, "whole": True}, "got std=True; expected a whole number of at least 1"),
        (2.0, {"least": 1, "whole": True}, "got std=2.0; expected a whole number of at least 1"),
        ("3", {}, "got std='3'; expected a number"),
        (None, {}, "got std=None; expected a number"),
        (1, {"below": 1}, "got std=1; expected a number below 1"),
    ],
)
def test_what_is_refused(value: object, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        number("std", value, **limits)


def test_what_is_taken() -> None:
    for value in (1, 1.5, torch.tensor(1.5).numpy()[()]):
        number("std", value, above=1 - 1e-9, most=1.5)
    number("count", 3, 3, most=3, whole=True)
    switch("shift", False)
    with pytest.raises(ValueError, match="got shift=0; expected true or false"):
        switch("shift", 0)


@pytest.mark.parametrize("kind", ["ast", "panns_16k", "panns_32k"])
def test_feature_settings(kind: Any) -> None:
    wrong = [("num_mel_bins", value) for value in (*NONE, 0, 64.0)]
    wrong += [("mean", value) for value in NONE] + [("std", value) for value in (*NONE, 0, 0.0, -1.0)]
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"got {name}="):
            FeatureSettings(**{"kind": kind, name: value})
    assert FeatureSettings(kind=kind, mean=0, std=1).std == 1


def test_augmentation() -> None:
    for make, names in (
        (WaveformAugment, ("mix", "gap_db", "gain_db", "speed")),
        (
            SpecAugment,
            ("frequency_masks", "frequency_width", "time_masks", "time_share", "frequency_shift", "filter_std"),
        ),
    ):
        for name in names:
            for value in (*NONE, -1, -0.5):
                with pytest.raises(ValueError, match=f"got {name}="):
                    make(**{name: value})
    for name in ("frequency_masks", "frequency_width", "time_masks", "frequency_shift"):
        with pytest.raises(ValueError, match=f"got {name}=1.5; expected a whole number"):
            SpecAugment(**{name: 1.5})
    with pytest.raises(ValueError, match="got shift=1; expected true or false"):
        WaveformAugment(shift=1)  # type: ignore[arg-type]


def test_training_settings(tokenizer: CaptionTokenizer) -> None:
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    names = ("warmup", "new_layers_rate", "encoder_rate", "label_smoothing", "label_loss", "labels_first")
    for name in names:
        for value in (*NONE, -0.5):
            with pytest.raises(ValueError, match=f"got {name}="):
                CaptionModule(make_captioner(tokenizer), adam, schedule="linear", labels=3, **{name: value})
    with pytest.raises(ValueError, match="got freeze_encoder='false'"):
        CaptionModule(make_captioner(tokenizer), adam, freeze_encoder="false")  # type: ignore[arg-type]
