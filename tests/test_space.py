"""What a sweep varies, read from its configuration and the command line."""

import math

import pytest
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st

from a2i.sweep.space import Interval, read_space

KEYS = st.sampled_from(["training.warmup", "seed", "training.optimizer.lr", "loader.batch_size"])


@given(st.dictionaries(KEYS, st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)))
def test_all_combinations_come_once_in_hydras_order(values: dict[str, list[int]]) -> None:
    space = read_space({}, [f"{key}={','.join(map(str, each))}" for key, each in values.items()])
    found = [tuple(space.overrides(chosen)) for chosen in space.combinations()]
    assert len(found) == len(set(found)) == math.prod(map(len, values.values()))
    several = [key for key, each in values.items() if len(each) > 1]
    if several:  # the last one's values change fastest
        assert {key for key in several if space.combinations()[0][key] != space.combinations()[1][key]} == {several[-1]}


@given(KEYS, st.floats(1e-6, 1e3), st.floats(1.01, 1e3), st.booleans())
def test_an_interval_comes_through_exactly(key: str, low: float, factor: float, log: bool) -> None:
    interval = f"interval({low!r}, {low * factor!r})"
    space = read_space({key: f"tag(log, {interval})" if log else interval}, [])
    assert space.varied == {key: Interval(low, low * factor, False, log)}
    (distribution,) = space.distributions().values()
    assert (distribution.low, distribution.high, distribution.log) == (low, low * factor, log)


def test_the_command_line_stands_in_place_of_the_configuration() -> None:
    params = {"a": "interval(0.0, 1.0)", "b": "1,2", "c": "x", "d": None, "e": [3, 4]}
    assert read_space(params, []).fixed == ("c=x",)
    assert list(read_space(params, []).varied) == ["a", "b", "e"]
    space = read_space(params, ["b=range(0,0.2,step=0.05)", "a=0.5", "~f", "g=1"])
    assert space.fixed == ("a=0.5", "c=x", "~f", "g=1")
    assert space.varied == {"b": ("0.0", "0.05", "0.1", "0.15"), "e": ("3", "4")}
    assert space.overrides({"b": "0.1", "e": "4"}) == ["a=0.5", "c=x", "~f", "g=1", "b=0.1", "e=4"]


def test_every_value_is_composed_once_before_anything_is_trained() -> None:
    jobs = read_space({}, ["a=1,2,3", "b=x,y", "c=interval(0.5,1.5)", "d=int(interval(1,4))"]).each_value()
    assert jobs[0] == ["a=1", "b=x", "c=0.5", "d=1"]
    assert {item for job in jobs for item in job} == {"a=1", "a=2", "a=3", "b=x", "b=y", "c=0.5", "d=1"}
    assert len(jobs) == 4


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("interval(2.0, 1.0)", "the lower end first"),
        ("tag(log, interval(0.0, 1.0))", "ends above 0"),
        ("glob(x*)", "without a value"),
    ],
)
def test_what_is_no_space_is_told(value: str, said: str) -> None:
    class Loader:
        def get_group_options(self, *_: object, **__: object) -> list[str]:
            return ["a", "b"]

    with pytest.raises(ValueError, match=said):
        read_space({"model": value}, [], Loader())  # type: ignore[arg-type]


def test_the_grammar_and_endless_combinations_are_told() -> None:
    with pytest.raises(HydraException, match="choice"):
        read_space({"a": "choice(1"}, [])
    with pytest.raises(ValueError, match=r"an interval for a in a sweep over all combinations.*sweep=optuna"):
        read_space({"a": "interval(0.0, 1.0)"}, []).combinations()
