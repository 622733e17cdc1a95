"""Results as parquet: names, what is done, and that a row is lost or there twice at no time."""

import itertools
from pathlib import Path
from typing import Any

import fsspec
import hypothesis
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2i import parts as room
from a2i.audio.addresses import Address, Sound
from a2i.parts import TODO, PartPlaces, Parts, Plan, Todo, key, picture_of
from a2i.results import RowSettings

ASKED = RowSettings("caption", "picture")


def row(sound: Sound, error: str | None = None, settings: RowSettings = ASKED, **more: Any) -> dict[str, Any]:
    return {
        "key": key(sound),
        "audio": str(sound),
        "caption": None if error else "A dog barks.",
        "caption_settings": settings.caption,
        "image_settings": settings.image,
        "error": error,
    } | more


def rows(parts: Parts) -> list[dict[str, Any]]:
    return [each for name in parts.names() for each in parts.read(name).to_pylist()]


def test_a_picture_is_named_by_its_sound_alone() -> None:
    sounds: list[Sound] = [Address(f"s3://bucket/{folder}/rain.wav") for folder in range(300)]
    names = {picture_of(sound) for sound in sounds}
    assert len(names) == 300
    assert len({name.split("/")[1] for name in names}) > 100
    assert picture_of(sounds[0]) == f"pictures/{key(sounds[0])[:2]}/rain~{key(sounds[0])}.png"
    assert picture_of(sounds[0], ".grid").endswith(f"rain~{key(sounds[0])}.grid.png")
    assert key(Path("a.wav")) == key(Path("a.wav").absolute())
    assert len(picture_of(Path("é" * 120 + ".wav")).encode()) < 255
    assert key(Address("https://host/a.wav?sig=1")) == key(Address("https://host/a.wav?sig=2"))


def test_the_plan_leaves_out_what_is_done(tmp_path: Path) -> None:
    parts, sounds = Parts(str(tmp_path)), [Path(f"/s/{number}.wav") for number in range(10)]
    other = RowSettings("caption", "another picture")
    parts.add([row(sounds[0]), row(sounds[1], "broken"), row(sounds[2], settings=other)], 1, "a")
    plan = Plan.of(iter([*sounds, *sounds]), parts, ASKED, False, 4, 2)
    assert (plan.sounds, plan.left, plan.groups) == (10, 9, 3)
    assert (tmp_path / TODO).stat().st_mode & 0o077 == 0, "addresses may be signed"
    todo = Todo(parts)
    assert list(itertools.chain(*map(todo.group, range(3)))) == sounds[1:]
    assert Plan.of(sounds, parts, RowSettings("caption", None), False, 4, 1).left == 8
    assert Plan.of(sounds, parts, ASKED, True, 64, 4).groups == 4  # a share for each, though one could hold all
    with pytest.raises(ValueError, match="no sound in the manifest"):
        Plan.of([], parts, ASKED, False, 4, 1)
    parts.clear()
    assert not (tmp_path / TODO).exists()


def test_paths_and_addresses_of_any_kind_come_through(tmp_path: Path) -> None:
    sounds = [Path("/s/\udcff.wav"), Path("/s/é\n.wav"), Address("https://me:key@host/a.wav?sig=1&x=é")]
    Plan.of(sounds, Parts(str(tmp_path)), ASKED, False, 8, 1)
    assert Todo(Parts(str(tmp_path))).group(0) == sounds


@hypothesis.settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]), st.booleans()), max_size=6), max_size=6
    ),
    st.integers(1, 8),
)
def test_tidied_every_sound_has_its_row_once(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[tuple[int, str, bool]]], large: int
) -> None:
    """Of several runs the last row, but for an error where the same was done."""
    folder = tmp_path_factory.mktemp("out")
    parts, expected = Parts(str(folder)), dict[str, tuple[int, str, bool]]()
    for number, run in enumerate(runs, 1):
        once = {sound: (number, settings, failed) for sound, settings, failed in run}
        made = []
        for sound, (_, settings, failed) in once.items():
            path = Path(f"/{sound}.wav")
            made.append(row(path, "broken" if failed else None, RowSettings(settings, None), seed=number))
            before = expected.get(str(path))
            if not (failed and before and before[1] == settings and not before[2]):
                expected[str(path)] = (number, settings, failed)
        for place in range(0, len(made), 2):
            parts.add(made[place : place + 2], number, f"{place:016}")
    before_that = room.LARGE
    try:
        room.LARGE = large
        assert parts.tidy() == len(expected)
        kept = parts.tidy()
    finally:
        room.LARGE = before_that
    assert kept == len(expected)
    found = {each["audio"]: (each["seed"], each["caption_settings"], each["error"] is not None) for each in rows(parts)}
    assert found == expected
    assert len(rows(parts)) == len(expected)
    assert parts.next_run() >= max((run for run, _, _ in expected.values()), default=0) + 1


def test_a_kill_while_parts_are_put_together_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(str(tmp_path))
    for number in range(5):
        parts.add([row(Path(f"/{number}.wav"))], 1, f"{number:016}")
    monkeypatch.setattr(Parts, "remove", lambda self, names: None)  # dead before the old ones are gone
    parts.tidy()
    assert len(rows(parts)) == 10
    monkeypatch.undo()
    assert parts.tidy() == 5
    assert sorted(each["audio"] for each in rows(parts)) == [f"/{number}.wav" for number in range(5)]
    assert len(parts.names()) == 1


def test_a_row_keeps_all_that_it_had(tmp_path: Path) -> None:
    part = {"start": 0.0, "end": 60.0, "caption": "A dog barks.", "confidence": 0.5}
    mark = {"name": "/a.wav", "bytes": 3, "modified": 1_700_000_000_123_456_789, "sha256": "ab"}
    given = row(Path("/a.wav"), candidates=["A dog barks."], parts=[part], audio_file=mark, seed=-(2**63), later=[1])
    parts = Parts(str(tmp_path))
    parts.add([given], 3, "a")
    (found,) = pyarrow.parquet.read_table(tmp_path / "rows").to_pylist()
    assert found["more"] == '{"later": [1]}'
    assert {name: found[name] for name in given if name != "later"} == {k: v for k, v in given.items() if k != "later"}


def test_results_elsewhere(tmp_path: Path) -> None:
    system, sound = fsspec.filesystem("memory"), Address("memory://in/a.wav")
    parts = Parts("memory://results/here")
    assert parts.names() == []
    parts.add([row(sound)], 1, "a")
    assert parts.kept()[key(sound)].answers(ASKED)
    plan = Plan.of([sound, Path("/b.wav")], parts, ASKED, False, 4, 1)
    assert (plan.left, Todo(parts).group(0)) == (1, [Path("/b.wav")])
    places = PartPlaces(parts, tmp_path / "way")
    file = places.folder / places.picture_name(sound)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a picture")
    sent = places.sent({"image": str(file), "grid": None}, sound)
    assert sent["image"] == f"memory://results/here/{picture_of(sound)}"
    assert system.cat(sent["image"]) == b"a picture"
    assert not file.exists()
    parts.clear()
    system.rm("/results", recursive=True)


def test_two_runs_that_write_to_one_address_have_a_plan_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """None can lock a bucket; with one plan the first would do what the second has to do, and leave out its own."""
    plans = [[Path(f"/s/{run} {number}.wav") for number in range(3)] for run in range(2)]
    runs = [Parts.of_a_run("memory://results/of two") for _ in plans]
    for parts, sounds in zip(runs, plans, strict=True):
        Plan.of(sounds, parts, ASKED, False, 8, 1)
    assert [Todo(parts).group(0) for parts in runs] == plans
    runs[1].clear()
    assert Todo(runs[0]).group(0) == plans[0]
    monkeypatch.setattr(room, "ABANDONED", room.timedelta(0))
    runs[1].clear()
    assert not fsspec.filesystem("memory").glob("/results/of two/.todo*"), "the first was killed long ago"
    assert Parts.of_a_run("results") == Parts("results"), "where a lock keeps them apart"
