"""WavCaps: the official JSON, and what other data sets hold out is left out or refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from a2i.data.wavcaps import ALL, TABLES, WavCaps

TEST = "blacklist_exclude_test_ac.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten sounds of each source; 3 of Freesound and 2 of AudioSet are in a list."""
    for source, table in TABLES.items():
        ids = [f"Y{source}{number}.wav" if source == "AudioSet_SL" else f"{source}{number}" for number in range(10)]
        rows = [
            {"id": id_, "caption": f" {id_} is heard. ", "duration": 5.0 + 100 * (id_[-1] == "9"), "author": "-"}
            for id_ in ids
        ]
        content: Any = {"num_captions_per_audio": 1, "data": rows} if source != "SoundBible" else rows
        (tmp_path / "json_files" / source).mkdir(parents=True)
        (tmp_path / "json_files" / source / table).write_text(json.dumps(content))
        sounds = tmp_path / "waveforms" / (source + ("_flac" if source == "FreeSound" else ""))
        sounds.mkdir(parents=True)
        for id_ in ids:
            (sounds / f"{id_.removesuffix('.wav')}.flac").touch()
    lists = tmp_path / "json_files" / "blacklist"
    lists.mkdir()
    sets = {
        "AudioSet": ["YAudioSet_SL0.wav", "YAudioSet_SL1.wav"],
        "FreeSound": ["FreeSound1", "FreeSound2", "FreeSound3"],
    }
    (lists / ALL).write_text(json.dumps(sets))
    (lists / TEST).write_text(json.dumps({"AudioSet": [], "FreeSound": ["FreeSound1"]}))
    return tmp_path


def names(source: WavCaps) -> set[str]:
    return {clip.name for clip in source.clips("train")}


def test_what_clotho_and_audiocaps_have_is_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    everything = names(WavCaps(root, exclude=[], val_share=0))
    assert len(everything) == 40
    with caplog.at_level(logging.WARNING):
        found = names(WavCaps(root, val_share=0))
    gone = {"AudioSet_SL/YAudioSet_SL0", "AudioSet_SL/YAudioSet_SL1", "FreeSound/FreeSound1", "FreeSound/FreeSound2",
            "FreeSound/FreeSound3"}  # fmt: skip
    assert everything - found == gone
    assert f"WavCaps FreeSound: 3 of 10 clips left out, by {ALL}" in caplog.text
    assert everything - names(WavCaps(root, exclude=[TEST], val_share=0)) == {"FreeSound/FreeSound1"}


def test_without_the_list_it_is_refused(root: Path) -> None:
    (root / "json_files" / "blacklist" / ALL).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no list of what Clotho and others have too .* or set data.exclude=\[\]"
    ):
        WavCaps(root).prepare()
    (root / "json_files" / "blacklist" / ALL).write_text('{"FreeSound": [1]}')
    with pytest.raises(ValueError, match="has no list 'AudioSet' of ids; expected the official file"):
        WavCaps(root).prepare()


def test_clips(root: Path) -> None:
    source = WavCaps(root, sources=["FreeSound"], exclude=[], val_share=0.3, test_share=0.3, max_seconds=30)
    sides = [source.clips(split) for split in ("train", "val", "test")]
    clips = {clip.name: clip for side in sides for clip in side}
    assert len(clips) == sum(map(len, sides)) == 10
    assert clips["FreeSound/FreeSound2"].captions == ("FreeSound2 is heard.",)
    assert (clips["FreeSound/FreeSound2"].end, clips["FreeSound/FreeSound9"].end) == (None, 30)
    with pytest.raises(ValueError, match=r"no sound of WavCaps is of the split 'test'; set data\.test_share"):
        WavCaps(root).clips("test")


def test_missing_sounds(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "waveforms" / "SoundBible" / "SoundBible4.flac").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"WavCaps SoundBible: 1 of 10 .* at most 5% may be missing; data.missing=0.10"
    ):
        WavCaps(root).prepare()
    WavCaps(root, missing=0.1).prepare()
    assert "WavCaps SoundBible: 1 of 10 clips have no file" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\n", "is no JSON file .*is it a Git LFS pointer"),
        ("{}", "has no list 'data' with a row"),
        ('{"data": [{"id": "1", "caption": "x"}]}', "row 1 of data: expected id, caption and duration"),
        ('[{"id": 1, "caption": "x", "duration": 1}]', "row 1 of data"),
        ('[{"id": "../../etc/passwd", "caption": "x", "duration": 1}]', "leads out of"),
    ],
)
def test_json_that_is_none_of_wavcaps(content: str, message: str, root: Path) -> None:
    (root / "json_files" / "SoundBible" / "sb_final.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        WavCaps(root, sources=["SoundBible"]).prepare()


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    for wrong in ({"sources": []}, {"sources": ["Vimeo"]}, {"exclude": TEST}, {"max_seconds": 0}, {"missing": 2}):
        with pytest.raises(ValueError, match="got "):
            WavCaps(tmp_path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"no captions at .*; put there json_files of https"):
        WavCaps(tmp_path, exclude=[]).prepare()
