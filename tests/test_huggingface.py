"""Data sets with an Audio column, as the package datasets writes them: no network."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from a2i import audio
from a2i.data.huggingface import HuggingFace

RATE = 16_000


def wav(number: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(number).normal(0, 0.1, 800).astype(np.float32), RATE, format="WAV")
    return file.getvalue()


def table(sounds: list[Any], captions: list[Any]) -> datasets.Dataset:
    columns = {"sound": sounds, "text": captions, "called": [f"n{number}" for number in range(len(sounds))]}
    return datasets.Dataset.from_dict(columns).cast_column("sound", datasets.Audio(decode=False))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for split, count in (("train", 6), ("validation", 2)):
        sounds = [{"bytes": wav(number), "path": f"{number}.wav" if number else None} for number in range(count)]
        table(sounds, [f"Noise  {number}." for number in range(count)]).to_parquet(
            tmp_path / "set" / f"{split}-0.parquet"
        )
    return tmp_path / "set"


def opened(name: Path, tmp_path: Path, **settings: Any) -> HuggingFace:
    chosen = {"splits": {"train": "train", "val": "validation"}, **settings}
    return HuggingFace(str(name), "sound", "text", tmp_path / "shards", **chosen)


@pytest.mark.parametrize("streaming", [True, False])
def test_parquet_becomes_shards_of_the_same_bytes(
    parquet: Path, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source = opened(parquet, tmp_path, streaming=streaming)
    with pytest.raises(FileNotFoundError, match=r"no shards; expected those that python -m a2i\.prepare writes"):
        source.clips("train")
    source.prepare()
    clips = source.clips("train")
    assert [clip.captions for clip in clips] == [(f"Noise {number}.",) for number in range(6)]
    assert [clip.path.read() for clip in clips] == [wav(number) for number in range(6)]  # type: ignore[union-attr]
    assert [clip.path.suffix for clip in clips] == [".wav"] * 6
    assert len(audio.load(clips[0].path, RATE)) == 800
    assert clips[0].seconds() == 0.05
    assert len(source.clips("val")) == 2
    with pytest.raises(ValueError, match=r"has no split for 'test'; expected one of train, val: data.splits"):
        source.clips("test")


@pytest.mark.long
def test_it_goes_on_where_it_was_interrupted(parquet: Path, tmp_path: Path) -> None:
    source = opened(parquet, tmp_path, shard_mb=0.005, name_column="called")
    source.prepare()
    whole = {path.name: path.read_bytes() for path in source.folder.iterdir() if path.suffix == ".tar"}
    assert len(whole) > 3
    for name in ("train-000001.tar", "train-000001.index.jsonl", "done.json"):
        (source.folder / name).unlink()
    again = opened(parquet, tmp_path, shard_mb=0.005, name_column="called")
    again.prepare()
    assert {path.name: path.read_bytes() for path in again.folder.iterdir() if path.suffix == ".tar"} == whole
    assert [clip.name for clip in again.clips("train")] == [f"n{number}" for number in range(6)]


def test_a_set_that_was_saved_to_disk(tmp_path: Path) -> None:
    table([{"bytes": wav(1), "path": None}], [["A hiss.", " ", "Noise."]]).save_to_disk(tmp_path / "disk")
    source = opened(tmp_path / "disk", tmp_path, splits={"train": "train"})
    source.prepare()
    assert source.clips("train")[0].captions == ("A hiss.", "Noise.")


def test_rows_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret, folder = tmp_path / "secret.wav", tmp_path / "set"
    secret.write_bytes(wav(0))
    folder.mkdir()
    inside = folder / "inside.dat"
    inside.write_bytes(wav(3))
    held = [
        (wav(1), None),
        (None, str(secret)),
        (b"no sound", "a.wav"),
        (None, None),
        (wav(2), None),
        (None, str(inside)),
    ]
    sounds = [{"bytes": content, "path": path} for content, path in held]
    columns = {"sound": sounds, "text": ["x", "x", "x", "x", " ", "x"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "train-0.parquet")
    with pytest.raises(ValueError, match=r"4 of 6 rows of .* can't be used, .*data.unusable=0.67 goes on without them"):
        opened(folder, tmp_path, splits={"train": "train"}).prepare()
    source = opened(folder, tmp_path, splits={"train": "train"}, unusable=0.7)
    source.prepare()
    assert [clip.name for clip in source.clips("train")] == ["00000000", "00000005"], (
        "what the set names elsewhere is not read"
    )
    assert "row 1 of train: its sound would be" in caplog.text
    assert "outside the data set" in caplog.text


def test_what_is_not_there(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has no column \['sound'\]|has no column \['nope'\]; expected some of \['sound'"
    ):
        HuggingFace(str(parquet), "nope", "text", tmp_path, splits={"train": "train"}).prepare()
    with pytest.raises(FileNotFoundError, match=r"\(split 'dev'\): can't be opened .*: data.name, data.splits"):
        opened(parquet, tmp_path, splits={"train": "dev"}).prepare()
    with pytest.raises(FileNotFoundError, match="can't be opened"):
        opened(tmp_path / "nothing", tmp_path).prepare()
    with pytest.raises(ValueError, match=r"got splits for \['dev'\]"):
        opened(parquet, tmp_path, splits={"dev": "dev"})


def test_a_stream_that_breaks_off_is_told_without_its_signature(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's files lie at addresses that are signed; what was written before stays."""

    class Breaking:
        features = ("sound", "text")

        def cast_column(self, *_: Any) -> Iterator[dict[str, Any]]:
            for number in range(3):
                yield {"sound": {"bytes": wav(number), "path": None}, "text": "x"}
            raise RuntimeError("no answer from https://cdn.host/a.parquet?Signature=HIDDEN-WORD&Key-Pair-Id=HIDDEN")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Breaking())
    source = opened(parquet, tmp_path, splits={"train": "train"}, shard_mb=0.004)
    with pytest.raises(OSError, match=r"breaks off \(RuntimeError: no answer from .*same command goes on") as raised:
        source.prepare()
    assert "HIDDEN" not in str(raised.value)
    assert len(list(source.folder.glob("train-*.tar"))) == 2


def test_all_of_it_is_of_one_commit(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody changes the set on the Hub between an interruption and what goes on from there."""
    asked: list[str | None] = []
    commits = iter(("a" * 40, "b" * 40))
    load = datasets.load_dataset

    class Api:
        def dataset_info(self, name: str, revision: str | None = None) -> SimpleNamespace:
            assert (name, revision) == ("owner/set", None)
            return SimpleNamespace(sha=next(commits))

    def opened_from(*_: Any, revision: str | None, **settings: Any) -> Any:
        asked.append(revision)
        if len(asked) == 2:
            raise OSError("interrupted")
        return load(str(parquet), split=settings["split"])

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(datasets, "load_dataset", opened_from)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def source() -> HuggingFace:
        return HuggingFace("owner/set", "sound", "text", tmp_path / "shards", splits={"train": "train", "val": "train"})

    with pytest.raises(FileNotFoundError, match="interrupted"):
        source().prepare()
    source().prepare()
    assert asked == ["a" * 40] * 3


def test_a_set_is_opened_as_asked_where_the_hub_cannot_tell_its_commit(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in the cache, without a network."""
    asked: list[str | None] = []
    load = datasets.load_dataset

    class Unreachable:
        def dataset_info(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("no network")

    def opened_from(*_: Any, revision: str | None, **settings: Any) -> Any:
        asked.append(revision)
        return load(str(parquet), split=settings["split"])

    monkeypatch.setattr("huggingface_hub.HfApi", Unreachable)
    monkeypatch.setattr(datasets, "load_dataset", opened_from)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    settings = {"splits": {"train": "train"}, "revision": "v2"}
    source = HuggingFace("owner/set", "sound", "text", tmp_path / "shards", **settings)  # type: ignore[arg-type]
    source.prepare()
    assert asked == ["v2"]
    assert not (source.folder / "commit").exists(), "a branch is no commit"


def test_no_code_of_a_set_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    (folder / "data.json").write_text(json.dumps({"sound": "x", "text": "y"}))
    with pytest.raises((ValueError, FileNotFoundError)):
        opened(folder, tmp_path, splits={"train": "train"}).prepare()
    assert not (tmp_path / "was run").exists()
