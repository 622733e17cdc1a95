"""AudioCaps: the official tables, the names that programs give its sounds, and what is gone."""

import logging
from pathlib import Path

import pytest

from a2i.data.audiocaps import AudioCaps

HEADER = "audiocap_id,youtube_id,start_time,caption\n"


def write(root: Path, split: str, rows: str, files: tuple[str, ...]) -> Path:
    (root / "audio").mkdir(parents=True, exist_ok=True)
    (root / f"{split}.csv").write_text(HEADER + rows)
    for name in files:
        (root / "audio" / name).parent.mkdir(exist_ok=True)
        (root / "audio" / name).touch()
    return root


@pytest.mark.parametrize(
    "name",
    [
        "-aB_c_30.wav",
        "Y-aB_c.flac",
        "-aB_c.mp3",
        "7.wav",
        "val/-aB_c_30.opus",
        "-aB_c_30_40.wav",
        "-aB_c_30000_40000.m4a",
    ],
)
def test_the_names_of_sounds(name: str, tmp_path: Path) -> None:
    root = write(tmp_path, "val", '7,-aB_c,30,A dog barks\n8,-aB_c,30,"Barks, and wind"\n', (name,))
    (clip,) = AudioCaps(root).clips("val")
    assert (clip.name, clip.captions, clip.recording) == ("-aB_c_30", ("A dog barks", "Barks, and wind"), "-aB_c")
    assert clip.path == root / "audio" / name


def test_clips_without_a_file_are_counted_or_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"{number},v{number},0,Caption {number}\n" for number in range(10))
    root = write(tmp_path, "train", rows, tuple(f"v{number}_0.wav" for number in range(8)))
    with caplog.at_level(logging.WARNING):
        source = AudioCaps(root)
        assert len(source.clips("train")) == len(source.clips("train")) == 8
    (record,) = caplog.records
    assert record.getMessage().startswith("AudioCaps train: 2 of 10 clips have no file in ")
    with pytest.raises(FileNotFoundError, match=r"at most 10% may be missing; data.missing=0.20 goes on without them"):
        AudioCaps(root, missing=0.1).clips("train")
    for path in (root / "audio").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="put the sounds there"):
        AudioCaps(root, missing=1).clips("train")


@pytest.mark.parametrize(
    ("rows", "message"),
    [("1,,0,A dog\n", "row 2: youtube_id ''"), ("1,a,x,A dog\n", "start_time 'x'"), ("1,a,0,\n", "row 2: no caption")],
)
def test_a_bad_row_is_told(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        AudioCaps(write(tmp_path, "train", rows, ("a_0.wav",))).clips("train")


def test_no_table(tmp_path: Path) -> None:
    AudioCaps(tmp_path).prepare()
    with pytest.raises(FileNotFoundError, match=r"no caption table at .*test.csv; put there dataset/test.csv of https"):
        AudioCaps(tmp_path).clips("test")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        AudioCaps(tmp_path).clips("dev")
    with pytest.raises(ValueError, match="got missing=2"):
        AudioCaps(tmp_path, missing=2)


def test_the_real_tables(real_data: Path, tmp_path: Path) -> None:
    """Their numbers are those of the tables here; sounds are empty files."""
    import csv

    (tmp_path / "audio").mkdir()
    for split, clips, captions in (("val", 495, 5), ("test", 975, 5)):
        content = (real_data / "audiocaps" / f"{split}.csv").read_text()
        (tmp_path / f"{split}.csv").write_text(content)
        for row in csv.DictReader(content.splitlines()):
            (tmp_path / "audio" / f"{row['youtube_id']}_{row['start_time']}.wav").touch()
        found = AudioCaps(tmp_path, missing=0).clips(split)
        assert len(found) == clips
        assert {len(clip.captions) for clip in found} == {captions}
