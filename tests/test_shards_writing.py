"""Shards as they are written: whole or not at all, to the byte the same after a kill, and WebDataset's own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shard_sets import RATE, noises
from webdataset.tariterators import group_by_keys, tar_file_expander

from a2i import audio
from a2i.data import Clip
from a2i.data.shards import Shards, read_list
from a2i.data.shards.places import Place
from a2i.data.shards.writing import told, write_clips


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_package_webdataset_reads_them(tmp_path: Path) -> None:
    clips = noises(tmp_path, 7, ".flac")
    write_clips(tmp_path / "shards", "train", clips, 0.01)
    files = sorted((tmp_path / "shards").glob("*.tar"))
    assert len(files) > 1
    found = []
    for path in files:
        with path.open("rb") as stream:  # WebDataset(url) leaves it open
            found += group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}]))
    assert [json.loads(each["json"])["name"] for each in found] == [clip.name for clip in clips]
    assert [json.loads(each["json"])["captions"] for each in found] == [list(clip.captions) for clip in clips]
    assert [each["flac"] for each in found] == [clip.path.read_bytes() for clip in clips]  # type: ignore[union-attr]


def test_any_character_may_stand_in_a_caption(tmp_path: Path) -> None:
    """Some end a line for `str.splitlines`, and none in JSON."""
    texts = ("A\u2028hiss.", "A\x85hiss.", 'A "\x1c\x0b\x00 hiss\r\n".', "Ein Zischen, «höher» 🐍.")
    clips = [replace(clip, name=f"{clip.name}\u2029", captions=texts) for clip in noises(tmp_path, 2)]
    write_clips(tmp_path / "shards", "train", clips, 1)
    assert [(clip.name, clip.captions) for clip in Shards(tmp_path / "shards").clips("train")] == [
        (clip.name, texts) for clip in clips
    ]


def test_the_list_says_what_each_shard_holds(tmp_path: Path) -> None:
    clips = noises(tmp_path, 7)
    write_clips(tmp_path / "shards", "train", clips, 0.01)
    shards = read_list(Place(str(tmp_path / "shards"), tmp_path, 0))
    for shard in shards:
        content = (tmp_path / "shards" / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert sum(shard.clips for shard in shards) == 7
    assert sum(shard.seconds for shard in shards) == pytest.approx(sum(clip.seconds() for clip in clips))
    assert told(shards).startswith(f"{len(shards)} shards, 7 clips, 0.00 hours")


def test_a_second_call_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    clips = noises(tmp_path, 9)
    clips.insert(4, Clip("gone.wav", tmp_path / "gone.wav", ("Nothing.",)))
    one, two = tmp_path / "one", tmp_path / "two"
    problems = write_clips(one, "train", clips, 0.0095)
    assert len(problems) == 1
    assert problems[0].startswith("'gone.wav': ")
    whole = contents(one)
    write_clips(two, "train", clips, 0.0095)
    for name in ("train-000002.tar", "train-000002.index.jsonl", "shards.json", "train-000001.index.jsonl"):
        (two / name).unlink()
    kept = (two / "train-000000.tar").stat().st_mtime_ns
    assert write_clips(two, "train", clips, 0.0095) == problems
    assert contents(two) == whole
    assert (two / "train-000000.tar").stat().st_mtime_ns == kept, "what was done is not done again"


@pytest.mark.long
def test_killed_anywhere_it_goes_on(tmp_path: Path) -> None:
    clips = noises(tmp_path / "sounds", 60)
    write_clips(tmp_path / "whole", "train", clips, 0.0095)
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from shard_sets import noises\n"
        "from a2i.data.shards.writing import write_clips; folder = Path(sys.argv[2])\n"
        "clips = noises(folder / 'sounds', 60); print('begins', flush=True)\n"
        "write_clips(folder / 'killed', 'train', clips, 0.0095)"
    )
    for wait in (0.05, 0.1, 0.2):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    write_clips(tmp_path / "killed", "train", clips, 0.0095)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_flac_holds_what_is_heard_of_a_clip(tmp_path: Path) -> None:
    (clip,) = noises(tmp_path, 1, seconds=0.5)
    part = Clip("part", clip.path, ("A hiss.",), start=0.1, end=0.3)
    write_clips(tmp_path / "flac", "train", [part], 1, "flac", 8_000)
    write_clips(tmp_path / "original", "train", [part], 1)
    (kept,), (whole,) = Shards(tmp_path / "flac").clips("train"), Shards(tmp_path / "original").clips("train")
    assert (kept.start, kept.end, kept.seconds()) == (None, None, pytest.approx(0.2))
    assert (whole.start, whole.end) == (0.1, 0.3)
    assert whole.path.read() == clip.path.read_bytes()  # type: ignore[union-attr]
    heard = audio.load(clip.path, 8_000, 0.1, 0.3)
    assert np.abs(audio.load(kept.path, 8_000) - heard).max() <= 1 / 32768
    assert np.array_equal(audio.load(whole.path, RATE, 0.1, 0.3), audio.load(clip.path, RATE, 0.1, 0.3))
    write_clips(tmp_path / "again", "train", [whole], 1)
    assert Shards(tmp_path / "again").clips("train")[0].path.read() == whole.path.read()  # type: ignore[union-attr]


def test_shards_of_two_sets_are_not_mixed(tmp_path: Path) -> None:
    write_clips(tmp_path / "shards", "train", noises(tmp_path, 3), 1)
    with pytest.raises(
        ValueError, match=r"holds shards of other clips: the first is '000.wav', expected '001.wav'; choose a new"
    ):
        write_clips(tmp_path / "shards", "train", noises(tmp_path, 3)[1:], 1)
    (tmp_path / "shards" / "train-000000.index.jsonl").unlink()
    assert len(Shards(tmp_path / "shards").clips("train")) == 3  # the index made anew is not of this writer
    with pytest.raises(ValueError, match="was written by another program"):
        write_clips(tmp_path / "shards", "train", noises(tmp_path, 3), 1)


def test_a_set_that_has_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    """One clip less before those that are to come, and the next would be left out; one more, and one would come twice."""
    clips, folder = noises(tmp_path, 9), tmp_path / "shards"
    write_clips(folder, "train", clips[:7], 0.0095)
    assert write_clips(folder, "train", clips, 0.0095) == [], "more behind them may come"
    assert [clip.name for clip in Shards(folder).clips("train")] == [clip.name for clip in clips]
    for other in ([*clips[:3], *clips[4:]], [*clips[:3], clips[8], *clips[3:]], clips[:8], clips[::-1]):
        with pytest.raises(ValueError, match=r"holds shards of other clips: .*; choose a new folder"):
            write_clips(folder, "train", other, 0.0095)


def test_shards_of_an_earlier_size_do_not_stay(tmp_path: Path) -> None:
    clips, folder = noises(tmp_path, 9), tmp_path / "shards"
    write_clips(folder, "train", clips, 0.004)
    (folder / "train-000000.index.jsonl").unlink()
    write_clips(folder, "train", clips, 1)
    assert [clip.name for clip in Shards(folder).clips("train")] == [clip.name for clip in clips], "none is there twice"
    assert sorted(contents(folder)) == ["shards.json", "train-000000.index.jsonl", "train-000000.tar"]


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0 MB for a shard"):
        write_clips(tmp_path, "train", [], 0)
    with pytest.raises(ValueError, match="got 'mp3'; expected one of original, flac"):
        write_clips(tmp_path, "train", [], 1, "mp3")  # type: ignore[arg-type]
