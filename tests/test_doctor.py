"""What a machine has, and what it is told to do with it."""

import csv
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from a2i import doctor, hub
from a2i.doctor import Model, advice, command
from a2i.names import offered


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, which is asked about once in a process."""
    monkeypatch.setattr(hub, "_reached", ["the Hub can't be reached at nowhere"])


def test_every_named_model_has_a_row_with_a_source() -> None:
    with doctor.TABLE.open(encoding="utf-8", newline="") as file:
        rows = {(row["group"], row["name"]): row for row in csv.DictReader(file, delimiter="\t")}
    named = {(group, name) for group in ("captioner", "image") for name in offered(group) if name != "none"}
    assert named <= set(rows)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for row in rows.values():
        assert row["source"]
        assert row["cpu"] in ("", "yes")
        assert row["gated"] in ("", "yes")
        assert not row["extra"] or row["extra"] in extras
        assert all(not row[size] or float(row[size]) >= 0 for size in ("download_gb", "memory_gb"))


def test_what_is_found_is_told_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.main(["--json"])
    told = json.loads(capsys.readouterr().out)
    found = {each["what"]: each for each in told["findings"]}
    assert {"Python", "PyTorch", "GPU", "disk", "FFmpeg", "Java", "Hub", "W&B", "a2i[eval]"} <= set(found)
    assert not [each for each in found.values() if each["found"].startswith("can't be told")]
    licences = {(each["group"], each["name"]): each["licence"] for each in told["models"]}
    assert licences["captioner", "mini"] == "cc-by-nc-4.0"
    assert told["command"].startswith("python -m a2i.infer audio=FILE captioner=")
    doctor.main([])
    shown = capsys.readouterr().out
    assert "captioner=qwen2_audio" in shown
    assert told["command"] in shown


def test_what_fails_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def ill() -> doctor.Finding:
        raise RuntimeError("no such driver\nand more")

    monkeypatch.setattr(doctor, "_gpu", ill)
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = {each.what: each for each in doctor.findings()}
    assert found["GPU"].found == "can't be told (RuntimeError: no such driver)"
    assert found["Java"].to_do.startswith("METEOR and SPICE need Java")


def test_the_largest_that_is_known_to_fit() -> None:
    small = Model("captioner", "mini", "", 0, None, True, "")
    middle = replace(small, name="middle", memory_gb=10, cpu=False, model="someone/middle")
    large = replace(middle, name="large", memory_gb=24, model="someone/large")
    unknown = replace(middle, name="unknown", memory_gb=None)
    known = [small, middle, large, unknown]
    for card, reachable, name in (
        (None, True, "mini"),
        (12.0, True, "middle"),
        (80.0, True, "large"),
        (80.0, False, "mini"),
    ):
        assert advice(known, card, reachable)["captioner"].name == name
    assert advice([small, replace(middle, cached_gb=3.0)], 12.0, False)["captioner"].name == "middle"
    for told, name in (
        ({"lacking": {"lora"}}, "mini"),
        ({"lacking": {"eval"}}, "middle"),
        ({"token": False}, "mini"),
        ({"token": True}, "middle"),
        ({"free_gb": 2.0}, "mini"),
        ({"free_gb": 4.0}, "middle"),
    ):
        picky = replace(middle, extra="lora", gated=True, download_gb=3.0)
        assert advice([small, picky], 12.0, True, **told)["captioner"].name == name
        kept = advice([small, replace(picky, cached_gb=3.0)], 12.0, True, **told)["captioner"].name
        assert kept == ("mini" if told == {"lacking": {"lora"}} else "middle")
    painter = replace(small, group="image", name="small")
    assert command(advice([*known, painter], 12.0, True)).endswith("captioner=middle image=small")


@pytest.mark.parametrize(
    ("card", "names"),
    [
        (None, ["slow", "sketch"]),  # the largest of each that a CPU bears
        (1.0, ["slow", "sketch"]),
        (12.0, ["slow", "oil"]),  # both lie on the card together
        (20.0, ["large", "oil"]),
        (23.0, ["large", "fresco"]),
        (80.0, ["large", "fresco"]),
    ],
)
def test_two_models_share_a_card(card: float | None, names: list[str]) -> None:
    mini = Model("captioner", "mini", "", 0, None, True, "")
    known = [mini, replace(mini, name="slow", memory_gb=1.0), replace(mini, name="large", memory_gb=10.0, cpu=False)]
    sketch = replace(mini, group="image", name="sketch")
    known += [
        sketch,
        *(replace(sketch, name=name, memory_gb=size, cpu=False) for name, size in (("oil", 10.0), ("fresco", 13.0))),
    ]
    found = advice(known, card, reachable=True)
    assert [found[group].name for group in ("captioner", "image")] == names
