"""Shards in a bucket: a local stand-in for S3."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_store import s3_store
from shard_sets import noises, served

from a2i.data.shards import Shards
from a2i.data.shards.places import Place
from a2i.data.shards.writing import write_clips


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3_store():
        yield "s3://sounds"


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of botocore's
def test_shards_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    import s3fs

    clips = noises(tmp_path / "sounds", 6)
    write_clips(tmp_path / "shards", "train", clips, 0.0095)
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("sounds")
    system.put(str(tmp_path / "shards") + "/", "sounds/set/", recursive=True)
    for fetch in ("shards", "clips"):
        found = Shards(f"{bucket}/set", tmp_path / fetch, fetch=fetch).clips("train")  # type: ignore[arg-type]
        assert [clip.path.read() for clip in found] == [clip.path.read_bytes() for clip in clips]  # type: ignore[union-attr]
    with pytest.raises(FileNotFoundError, match="no such file or address"):
        Shards("s3://no-such-bucket/set", tmp_path / "none").clips("train")


def test_a_system_that_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got nothing://x, an address of an unknown kind; expected s3://BUCKET"):
        Place("nothing://x", tmp_path, 0).names(".tar")


def test_what_is_being_fetched_takes_room_too(tmp_path: Path) -> None:
    """Two are fetched at the same time into a folder that has room for two, and holds two that were used before."""
    remote, size = tmp_path / "remote", 1000
    remote.mkdir()
    for name in "abcd":
        (remote / f"{name}.tar").write_bytes(name.encode() * size)
    with served(remote) as (address, _):
        place = Place(address, tmp_path / "keep", 2 * size)
        for name in "ab":
            place.whole(f"{name}.tar", size)
        both = threading.Barrier(2)

        class Together(Place):
            def _fetch(self, name: str, partial: Path) -> None:
                both.wait(timeout=30)
                super()._fetch(name, partial)

        together = Together(address, tmp_path / "keep", 2 * size)
        with ThreadPoolExecutor(2) as threads:
            fetched = list(threads.map(lambda name: together.whole(f"{name}.tar", size).read_bytes(), "cd"))
    assert fetched == [b"c" * size, b"d" * size]
    assert sorted(path.name for path in (tmp_path / "keep").glob("*/*.tar")) == ["c.tar", "d.tar"]


def test_no_password_of_an_address_is_told(tmp_path: Path) -> None:
    place = Place("http://me:HIDDEN@127.0.0.1:9/set", tmp_path, 0)
    for ask in (lambda: place.names(".tar"), lambda: place.small("shards.json"), lambda: place.size("a.tar")):
        with pytest.raises(OSError, match=r"127\.0\.0\.1:9/set") as told:
            ask()
        assert "HIDDEN" not in str(told.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    place = Place(str(tmp_path), tmp_path, 0)
    assert place.small("shards.json") is None
    with contextlib.suppress(FileNotFoundError):
        place.size("a.tar")
        raise AssertionError("no error")
