"""Keys that are misspelt and values of no use: each is refused in one line that names the key, before anything begins."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments" / "reliability"))

import settings as bad_settings
from settings import PROGRAMS, VALUES, Trial, checks, composed, leaves, misspelt, trials, try_key, try_value


def wrong(found: list[Trial]) -> list[str]:
    """Those that were not as they should be."""
    return [
        str(each) for each in found if each.fate in ("crashed", "unclear") or (each.fate == "accepted" and each.never)
    ]


LONG = ("evaluate", "infer", "listen", "train")


@pytest.mark.parametrize(
    "program", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in PROGRAMS]
)
def test_every_value_of_the_defaults(program: str, tmp_path: Path) -> None:
    chosen = [f"{group}={choice}" for group, choice in bad_settings.CHOSEN.get(program, {}).items()]
    with contextlib.chdir(tmp_path):
        base, check = composed(program, chosen), checks()[program]
        found = [try_value(program, "", base, key, what, check) for key in leaves(base) for what in VALUES]
        found += [try_key(program, "", chosen, key) for key in list(leaves(base))[:3]]
    assert wrong(found) == []
    assert sum(each.fate == "refused" for each in found) > len(found) / 3
    assert os.listdir(tmp_path) == [], "nothing is written"


def test_a_misspelt_key_is_another() -> None:
    for key in ("seed", "to", "out", "trainer.max_epochs", "loader.batch_size", "aa"):
        assert misspelt(key) != key


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_some_keys_of_every_choice(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        found = list(trials(keys=2))
    assert wrong(found) == []
    assert os.listdir(tmp_path) == []
