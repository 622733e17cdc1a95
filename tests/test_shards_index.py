"""The index of a shard: hostile tar files and hostile indices do no harm, and are told in one line."""

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_sets import noises

from a2i.data.shards import Shards
from a2i.data.shards.index import Shard, indexed, packed, unpacked
from a2i.data.shards.places import ShardError
from a2i.data.shards.writing import write_clips


def test_no_name_and_no_link_leads_anywhere(tmp_path: Path) -> None:
    """Names that climb, absolute ones, links, devices and pipes: only regular members are read, where they lie."""
    (clip,) = noises(tmp_path / "sounds", 1)
    secret, outside = tmp_path / "secret.wav", tmp_path / "outside"
    secret.write_bytes(clip.path.read_bytes())  # type: ignore[union-attr]
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w") as tar:
        for key in ("../outside/1", str(outside / "2"), "a/../../3", "\x1b[2J4", "..5"):
            for ending, content in ((".wav", secret.read_bytes()), (".json", b'{"caption": "A hiss."}')):
                member = tarfile.TarInfo(key + ending)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for number, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        ):
            member = tarfile.TarInfo(f"link{number}.wav")
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
            text = tarfile.TarInfo(f"link{number}.txt")
            text.size = 6
            tar.addfile(text, io.BytesIO(b"A hiss"))
    before = set(tmp_path.rglob("*"))
    found = Shards(folder).clips("train")
    assert len(found) == 4, "one has no name before its dot"
    assert all(found_.path.read() == secret.read_bytes() for found_ in found)  # type: ignore[union-attr]
    assert set(tmp_path.rglob("*")) - before == {folder / "train.index.jsonl"}


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"no tar file", b"\x1f\x8b" + b"0" * 600, os.urandom(4096)])
def test_what_is_no_tar_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    if content.strip(b"\0"):
        with pytest.raises(ShardError, match=r"expected a \.tar without compression, whole"):
            indexed(tmp_path / "a.tar")
    else:
        with contextlib.suppress(ShardError):  # zeros are the end of a tar file
            assert indexed(tmp_path / "a.tar")[1] == []


def test_a_member_that_is_cut_short(tmp_path: Path) -> None:
    write_clips(tmp_path, "train", noises(tmp_path / "sounds", 3), 1)
    path = tmp_path / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ShardError, match=r"cut short in|can't be read as a tar file"):
        indexed(path)


def test_an_index_is_its_own_and_sound(tmp_path: Path) -> None:
    write_clips(tmp_path, "train", noises(tmp_path / "sounds", 3), 1)
    content = (tmp_path / "train-000000.index.jsonl").read_bytes()
    shard, rows = unpacked(content, "train-000000.tar")
    assert packed(shard, rows) == content
    assert isinstance(shard, Shard)
    bad = [("offset", -1), ("size", 10**12), ("offset", "0"), ("sha256", "00"), ("captions", [1]), ("seconds", None)]
    for key, value in [*bad, ("name", None), ("labels", "noise"), ("key", 3)]:
        wrong = [{**rows[0], key: value}, *rows[1:]]
        with pytest.raises(ShardError, match=r"is no index of train-000000\.tar"):
            unpacked(packed(shard, wrong), "train-000000.tar")
    for text in (
        b"",
        b"[]\n",
        content[:-10],
        content.replace(b'"format": 1', b'"format": 9'),
        b"\xff\n",
        content.splitlines()[0],
    ):
        with pytest.raises(ShardError, match="is no index"):
            unpacked(text, "train-000000.tar")
    with pytest.raises(ShardError, match=r"is no index of other\.tar"):
        unpacked(content, "other.tar")


@pytest.mark.parametrize("name", ["../a.tar", "/etc/a.tar", "a/b.tar", "..\\a.tar", "a.txt", 3])
def test_a_list_names_files_of_its_folder_alone(name: object, tmp_path: Path) -> None:
    write_clips(tmp_path, "train", noises(tmp_path / "sounds", 1), 1)
    content = json.loads((tmp_path / "shards.json").read_bytes())
    content["shards"][0]["name"] = name
    (tmp_path / "shards.json").write_text(json.dumps(content))
    with pytest.raises(ShardError, match="is no list of shards"):
        Shards(tmp_path).clips("train")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 9_000), st.binary(min_size=1, max_size=40))
def test_any_damage_is_one_error_or_none(tmp_path: Path, place: int, damage: bytes) -> None:
    folder = tmp_path / "some"
    if not (folder / "train-000000.tar").exists():
        write_clips(folder, "train", noises(tmp_path / "sounds", 2), 1)
    content = bytearray((folder / "train-000000.tar").read_bytes())
    content[place : place + len(damage)] = damage
    (tmp_path / "damaged.tar").write_bytes(content)
    with contextlib.suppress(ShardError):
        _, rows = indexed(tmp_path / "damaged.tar")
        assert len(rows) <= 2
