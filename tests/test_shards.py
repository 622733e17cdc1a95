"""Shards as a data set: the same clips as in files, whoever wrote them, and what becomes of broken ones."""

import errno
import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from shard_sets import RATE, noises, served

from a2i import audio
from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.data.cache import waveforms
from a2i.data.shards import Shards
from a2i.data.shards.places import ShardError
from a2i.data.shards.writing import write_clips
from a2i.training.batches import ClipDataset
from a2i.training.datamodule import CaptionDataModule
from a2i.whole import write_whole


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    return noises(tmp_path / "sounds", 12)


@pytest.fixture
def shards(clips: list[Clip], tmp_path: Path) -> Path:
    """4 shards of 3 for training, and one for validation."""
    assert write_clips(tmp_path / "shards", "train", clips, 0.0095) == []
    assert write_clips(tmp_path / "shards", "val", clips[:2], 1) == []
    assert len(list((tmp_path / "shards").glob("train-*.tar"))) == 4
    return tmp_path / "shards"


def told(clip: Clip) -> tuple[object, ...]:
    return clip.name, clip.captions, clip.labels, clip.recording, clip.start, clip.end


def test_the_same_clips_as_in_files(clips: list[Clip], shards: Path, tmp_path: Path) -> None:
    found = Shards(shards).clips("train")
    assert list(map(told, found)) == list(map(told, clips))
    cache = waveforms(tmp_path / "cache", RATE)
    for clip, held in zip(clips, found, strict=True):
        assert np.array_equal(audio.load(clip.path, RATE), audio.load(held.path, RATE))
        assert held.seconds() == clip.seconds()
        cache(clip)
        assert cache.has(held), "a cache knows a sound by its content, wherever it lies"
    assert len(Shards(shards).clips("val")) == 2
    with pytest.raises(ValueError, match=r"no clip is of the split 'test' \(train 12, val 2, test 0\)"):
        Shards(shards).clips("test")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_training_reads_the_same_batches_and_goes_on_in_mid_epoch(
    workers: int, clips: list[Clip], shards: Path, tokenizer: CaptionTokenizer
) -> None:
    class Files:
        def prepare(self) -> None: ...

        def clips(self, split: str) -> list[Clip]:
            return clips if split == "train" else clips[:2]

    def batches(source: object, given: int = 0) -> list[tuple[list[str], list[float]]]:
        data = CaptionDataModule(source, tokenizer, RATE, batch_size=2, captions="random", num_workers=workers)  # type: ignore[arg-type]
        data.load_state_dict({"given": given})
        data.setup("fit")
        return [(batch.names, batch.waveforms.sum(1).tolist()) for batch in data.train_dataloader()]  # type: ignore[union-attr]

    whole = batches(Shards(shards))
    assert whole == batches(Files())
    assert batches(Shards(shards), 4) == whole[4:]


def test_shards_of_the_package_webdataset_need_no_index(clips: list[Clip], tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "valid-0.tar"), encoder=False) as writer:
        for number, clip in enumerate(clips[:3]):
            about = [{"captions": ["A hiss.", " "]}, {"caption": "A hiss."}, {"text": ["A hiss."], "duration": 0.05}][
                number
            ]
            content = clip.path.read_bytes()  # type: ignore[union-attr]
            writer.write({"__key__": f"a/{number}", "wav": content, "json": json.dumps(about).encode()})
        writer.write({"__key__": "a/3", "wav": clips[3].path.read_bytes(), "txt": b"A hiss.\n"})  # type: ignore[union-attr]
    found = Shards(folder).clips("val")
    assert [(clip.name, clip.captions) for clip in found] == [(f"a/{number}", ("A hiss.",)) for number in range(4)]
    assert [clip.seconds() for clip in found] == [clips[0].seconds(), clips[1].seconds(), 0.05, clips[3].seconds()]
    assert (folder / "valid-0.index.jsonl").is_file()
    assert Shards(folder).clips("val") == found


def test_splits_by_a_rule_where_nothing_names_one(clips: list[Clip], tmp_path: Path) -> None:
    write_clips(tmp_path / "s", "train", clips, 1)
    content = (tmp_path / "s" / "train-000000.tar").read_bytes().replace(b'"split": "train"', b'"split": null   ')
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "sounds.tar").write_bytes(content)
    source = Shards(tmp_path / "t", val_share=0.3, test_share=0.3, seed=1)
    sides = {split: {clip.recording for clip in source.clips(split)} for split in ("train", "val", "test")}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 6, "a recording is on one side"


def test_broken_shards_are_told_and_the_others_go_on(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut, gone, garbage = (shards / f"train-00000{number}.tar" for number in (0, 1, 2))
    cut.write_bytes(cut.read_bytes()[:-700])
    gone.unlink()
    garbage.with_name("train-000002.index.jsonl").write_text("{}\n")
    with caplog.at_level(logging.WARNING):
        assert len(Shards(shards).clips("train")) == 3
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert "train-000000.tar left out" in lines[0]
    assert "bytes" in lines[0]
    assert "train-000001.tar left out" in lines[1]
    assert "train-000002.tar left out" in lines[2]
    assert "delete it, and a new one is made" in lines[2]
    assert lines[3].endswith("3 of 5 shards left out")
    with pytest.raises(
        ShardError, match=r"train-000000.tar: has .* bytes.*; or go on without that shard: data.broken=leave_out"
    ):
        Shards(shards, broken="stop").clips("train")


def test_a_clip_that_is_broken_is_told_or_replaced(
    shards: Path, tokenizer: CaptionTokenizer, capfd: pytest.CaptureFixture
) -> None:
    bad = Shards(shards).clips("train")[4].path
    content = bytearray((shards / bad.shard).read_bytes())  # type: ignore[union-attr]
    content[bad.offset + 50] ^= 1  # type: ignore[union-attr]
    (shards / bad.shard).write_bytes(content)  # type: ignore[union-attr]
    with pytest.raises(
        ShardError, match=r"train-000001.tar: '00000000.': is not what the index of .* says; copy that shard anew"
    ):
        audio.load(bad, RATE)

    def names(broken: str) -> list[str]:
        data = CaptionDataModule(Shards(shards, broken=broken), tokenizer, RATE, batch_size=3)  # type: ignore[arg-type]
        data.setup("fit")
        return [name for batch in data.train_dataloader() for name in batch.names]

    with pytest.raises(ValueError, match=r"'004.wav': .*is not what the index"):
        names("stop")
    found = names("leave_out")
    assert len(found) == 12
    assert "004.wav" not in found
    assert names("leave_out") == found, "the same clip in its place each time"


def test_a_broken_clip_is_told_once_however_often_it_is_asked_for(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = Shards(shards, broken="leave_out").clips("train")
    for index in (4, 7):
        bad = clips[index].path
        content = bytearray((shards / bad.shard).read_bytes())  # type: ignore[union-attr]
        content[bad.offset + 50] ^= 1  # type: ignore[union-attr]
        (shards / bad.shard).write_bytes(content)  # type: ignore[union-attr]
    dataset = ClipDataset(clips, "all", 0, RATE, replace=True)
    for epoch in range(3):
        assert dataset[epoch, 4][0].name not in ("004.wav", "007.wav")  # type: ignore[index,union-attr]
        assert dataset[epoch, 7][0].name not in ("004.wav", "007.wav")  # type: ignore[index,union-attr]
    told = [line for line in caplog.messages if "another clip in its place" in line]
    assert len(told) == 2, told


def test_shards_at_an_address(shards: Path, tmp_path: Path) -> None:
    here = [clip.path.read() for clip in Shards(shards).clips("train")]  # type: ignore[union-attr]
    size = max(path.stat().st_size for path in shards.glob("*.tar"))
    with served(shards) as (address, asked):
        keep = tmp_path / "keep"
        whole = Shards(address, keep).clips("train")
        assert not [path for path, _ in asked if path.endswith(".tar")], "nothing is fetched before it is wanted"
        assert [clip.path.read() for clip in whole] == here  # type: ignore[union-attr]
        assert len(list(keep.glob("*/train-*.tar"))) == 4
        small = Shards(address, tmp_path / "small", keep_gb=2.5 * size / 1e9, fetch="shards").clips("train")
        assert [clip.path.read() for clip in small] == here  # type: ignore[union-attr]
        assert len(list((tmp_path / "small").glob("*/train-*.tar"))) == 2, "no more than fit"
        asked.clear()
        alone = Shards(address, tmp_path / "alone", keep_gb=size / 1e9).clips("train")
        assert [clip.path.read() for clip in alone] == here  # type: ignore[union-attr]
        assert not list((tmp_path / "alone").glob("*/*.tar"))
        assert sum(path.endswith(".tar") and bool(range_) for path, range_ in asked) == 12
        (shards / "shards.json").unlink()
        assert [told(clip) for clip in Shards(address, keep).clips("train")] == [told(clip) for clip in whole]


def test_a_copy_that_is_damaged_is_fetched_anew(shards: Path, tmp_path: Path) -> None:
    here = [clip.path.read() for clip in Shards(shards).clips("train")]  # type: ignore[union-attr]
    with served(shards) as (address, asked):
        clips = Shards(address, tmp_path / "keep").clips("train")
        for _ in range(2):
            assert [clip.path.read() for clip in clips] == here  # type: ignore[union-attr]
            for path in (tmp_path / "keep").glob("*/train-000001.tar"):
                path.write_bytes(b"x" * path.stat().st_size)
        asked.clear()
        for clip in clips[3:6]:
            with pytest.raises(ShardError, match=r"is not what the index of train-000001\.tar says"):
                clip.path.read()  # type: ignore[union-attr]
        assert not asked, "once is enough"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_where_nothing_may_be_written_the_index_is_kept_elsewhere(
    number: int, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is read-only gives another error than a folder that is another's."""

    def write(path: Path, content: bytes) -> None:
        if path.parent == folder:
            raise OSError(number, "not here", str(path))
        write_whole(path, content)

    folder = tmp_path / "theirs"
    folder.mkdir()
    tar_of(folder / "train.tar", clips[:2], ['{"caption": "x"}'] * 2, [b"0", b"1"])
    monkeypatch.setattr("a2i.data.shards.write_whole", write)
    found = Shards(folder, tmp_path / "keep").clips("train")
    assert len(found) == 2
    assert len(list((tmp_path / "keep" / "indices").iterdir())) == 1
    assert Shards(folder, tmp_path / "keep").clips("train") == found


def test_shards_that_were_exchanged_get_a_new_index(clips: list[Clip], tmp_path: Path) -> None:
    """Of shards without an index of their own one is kept here, beside copies of them."""
    folder, keep = tmp_path / "theirs", tmp_path / "keep"
    folder.mkdir()
    tar_of(folder / "train.tar", clips[:2], ['{"caption": "x"}'] * 2, [b"0", b"1"])
    with served(folder) as (address, _):
        assert [clip.path.read() for clip in Shards(address, keep, fetch="shards").clips("train")]  # type: ignore[union-attr]
        tar_of(folder / "train.tar", clips[2:5], ['{"caption": "y"}'] * 3, [b"0", b"1", b"2"])
        found = Shards(address, keep, fetch="shards").clips("train")
        assert [clip.path.read() for clip in found] == [clip.path.read_bytes() for clip in clips[2:5]]  # type: ignore[union-attr]
        (index,) = (keep / "indices").iterdir()
        index.write_text("{}")
        assert Shards(address, keep, fetch="shards").clips("train") == found


def test_an_address_that_is_none(shards: Path, tmp_path: Path) -> None:
    with served(shards, ranged=False) as (address, _):
        clip = Shards(address, tmp_path / "keep", fetch="clips").clips("train")[0]
        with pytest.raises(ShardError, match=r"does not know ranges of bytes; set data.fetch=shards"):
            audio.load(clip.path, RATE)
        with pytest.raises(
            FileNotFoundError, match=r"/nothing: no such file or address; expected one that holds shards"
        ):
            Shards(f"{address}/nothing", tmp_path / "keep").clips("train")
    with pytest.raises(OSError, match=r"can't be read \(ClientConnectorError"):
        Shards(f"{address}", tmp_path / "other").clips("train")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Shards(tmp_path / "nothing").clips("train")
    with pytest.raises(FileNotFoundError, match="no shard there"):
        Shards(tmp_path).clips("train")


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    for wrong in ({"fetch": "all"}, {"broken": "ignore"}, {"keep_gb": 0}, {"val_share": 0.6, "test_share": 0.6}):
        with pytest.raises(ValueError, match=f"got .*{next(iter(wrong))}="):
            Shards(tmp_path, **wrong)  # type: ignore[arg-type]


def test_one_clip_that_is_wrong_takes_no_other(
    clips: list[Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = clips[0].path.read_bytes()  # type: ignore[union-attr]
    bad = [b"{", b"[]", b'{"captions": [1]}', b'{"captions": []}', b'{"caption": "x", "seconds": -1}']
    bad += [b'{"caption": "x", "name": 3}', b'{"caption": "x", "labels": [null]}', b'{"caption": "x", "start": NaN}']
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for number, about in enumerate([*bad, b'{"caption": "x"}']):
            for ending, content in ((".json", about), (".wav", sound)):
                member = tarfile.TarInfo(f"{number}{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for name in ("alone.json", "no_json.wav"):
            tar.addfile(tarfile.TarInfo(name))
    with caplog.at_level(logging.WARNING):
        assert [clip.name for clip in Shards(tmp_path).clips("train")] == ["8"]
    assert "10 of its clips left out: '0': " in caplog.text


def tar_of(path: Path, clips: list[Clip], about: list[str], keys: list[bytes]) -> None:
    """A shard as another program writes it."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for clip, text, key in zip(clips, about, keys, strict=True):
            for ending, content in ((".json", text.encode()), (".wav", clip.path.read_bytes())):  # type: ignore[union-attr]
                member = tarfile.TarInfo(key.decode("utf-8", "surrogateescape") + ending)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def test_what_is_no_text_takes_no_other_clip(
    clips: list[Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = ['{"caption": "x"}', '{"caption": "x \\ud800"}', '{"a": ' + "[" * 100_000, '{"caption": "x"}']
    tar_of(tmp_path / "train.tar", clips[:4], about, [b"caf\xe9", b"half", b"deep", b"good"])
    assert [clip.name for clip in Shards(tmp_path).clips("train")] == ["caf\\xe9", "good"]
    assert "2 of its clips left out: 'half': " in caplog.text
    assert [clip.name for clip in Shards(tmp_path).clips("train")] == ["caf\\xe9", "good"], "from the index, too"


def test_a_split_of_another_name_is_never_learnt_from(
    clips: list[Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = ["holdout", "training", "Evaluation", "holdout"]
    about = [json.dumps({"caption": "x", "split": split}) for split in splits]
    tar_of(tmp_path / "train-0.tar", clips[:4], about, [b"0", b"1", b"2", b"3"])
    assert [clip.name for clip in Shards(tmp_path).clips("train")] == ["1"]
    assert [clip.name for clip in Shards(tmp_path).clips("test")] == ["2"]
    assert (
        "train-0.tar: 2 of its clips left out, of the split 'holdout'; expected one of train, training" in caplog.text
    )


def test_clips_of_one_name_are_told_apart(clips: list[Clip], tmp_path: Path) -> None:
    """Programs number anew in each shard; an evaluation knows a clip by its name."""
    for number in range(2):
        some = clips[2 * number : 2 * number + 2]
        tar_of(tmp_path / f"train-{number}.tar", some, ['{"caption": "x"}'] * 2, [b"0", [b"1", b"2"][number]])
    found = Shards(tmp_path).clips("train")
    assert [clip.name for clip in found] == ["train-0/0", "1", "train-1/0", "2"]
