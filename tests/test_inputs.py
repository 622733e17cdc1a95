import os
from pathlib import Path

import pytest
import soundfile
from conftest import tone

from a2i import audio
from a2i.audio.inputs import Skipped, find_sounds, readable


def names(found: list[Path]) -> list[str]:
    return [path.name for path in found]


def make(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"sound")
    return folder


def test_what_audio_means(sounds: Path, tmp_path: Path) -> None:
    below = sounds / "below"
    below.mkdir()
    (below / "DEEP.WAV").write_bytes((sounds / "low.wav").read_bytes())
    assert sorted(names(find_sounds(str(sounds)))) == ["DEEP.WAV", "high.wav", "low.wav", "middle.wav"]
    assert names(find_sounds(f"{sounds}/*i*.wav")) == ["high.wav", "middle.wav"]
    assert names(find_sounds(f"{sounds}/**/*.WAV")) == ["DEEP.WAV"]
    assert names(find_sounds([str(sounds / "low.wav"), str(below)])) == ["low.wav", "DEEP.WAV"]
    assert names(find_sounds(f"{sounds / 'low.wav'},{sounds / 'high.wav'}")) == ["low.wav", "high.wav"]
    assert names(find_sounds(f"{sounds}/l*.wav, {below}/*")) == ["low.wav", "DEEP.WAV"]
    assert find_sounds("missing.wav") == [Path("missing.wav")]
    assert find_sounds("~x.wav") == [Path("~x.wav")]
    assert find_sounds("no\0name.wav") == [Path("no\0name.wav")]
    comma = sounds / "rain, wind.wav"
    comma.touch()
    assert find_sounds(str(comma)) == [comma]
    empty = make(tmp_path / "empty", "notes.txt", ".hidden.wav")
    with pytest.raises(ValueError, match=r"no sound files in this folder; skipped 2 files: 1 hidden, 1 \.txt"):
        find_sounds(str(empty))
    with pytest.raises(ValueError, match=r"no file matches this pattern, but 1 folder \(\*\*/ looks below\)"):
        find_sounds(f"{sounds}/bel*")
    many = [str(sounds / f"{index}.wav") for index in range(200)]
    assert find_sounds(",".join(many)) == [Path(name) for name in many]


@pytest.mark.parametrize(
    "nothing", ["", " ", [], [""], ["a.wav", ""], ["a.wav", " "], "a.wav,", ["a.wav", None], [["a"]]]
)
def test_nothing_is_not_the_working_folder(sounds: Path, nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sounds)
    with pytest.raises(ValueError, match=r"audio=.*expected FILE, a folder"):
        find_sounds(nothing)
    assert len(find_sounds(".")) == 3


def test_a_folder_a_pattern_and_a_list_mean_the_same(tmp_path: Path) -> None:
    """Links are followed, loops end, each file is there once; what is no sound is left out, and said."""
    inside = make(
        tmp_path / "in", "a.wav", "b/c.MKV", "b/.d.wav", "._a.wav", "n.txt", "app.ts", "__MACOSX/a.wav", ".Trash/x.wav"
    )
    (inside / "talk.ts").write_bytes((b"G" + bytes(187)) * 3)
    outside = make(tmp_path / "elsewhere", "e.3gp", "f/g.wv")
    (inside / "alias").symlink_to(inside / "b")
    (inside / "b" / "loop").symlink_to(inside)
    (inside / "b" / "up").symlink_to(tmp_path)
    (inside / "linked").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "0.wav").symlink_to(inside / "a.wav")
    (inside / "gone.wav").symlink_to(inside / "nothing.wav")
    os.mkfifo(inside / "pipe.wav")
    expected = ["a.wav", "b/c.MKV", "linked/e.3gp", "linked/f/g.wv", "talk.ts"]
    skipped = Skipped()
    found = find_sounds(str(inside), skipped)
    assert [path.relative_to(inside).as_posix() for path in found] == expected
    assert skipped.files == {
        "hidden": 2, ".txt": 1, ".ts": 1, "no regular files": 1, "links to nothing": 1, "found twice": 1
    }  # fmt: skip
    (line,) = skipped.lines()
    assert line.startswith("skipped 7 files: 2 hidden, 1 ")
    assert line.endswith("and 2 hidden folders")
    assert find_sounds(f"{inside}/**") == find_sounds(f"{inside}/**/*") == find_sounds([str(inside)]) == found
    assert find_sounds([str(inside), f"{inside}/*", str(inside / "a.wav")]) == found
    listing = tmp_path / "list.txt"
    listing.write_text("in\n")
    assert find_sounds(str(listing)) == found
    assert names(find_sounds(f"{inside}/**/*.wv")) == ["g.wv"]
    assert names(find_sounds(f"{inside}/**/f/*.wv")) == ["g.wv"]
    assert names(find_sounds(f"{tmp_path}/*/a.wav")) == ["a.wav"]


def test_what_is_named_is_taken_whatever_it_is(tmp_path: Path) -> None:
    make(tmp_path, ".hidden.wav", "noend", "notes.md")
    os.mkfifo(tmp_path / "pipe")
    for name in (".hidden.wav", "noend", "notes.md", "pipe"):
        assert find_sounds(str(tmp_path / name)) == [tmp_path / name]
    assert find_sounds("/dev/null") == [Path("/dev/null")]
    assert names(find_sounds(f"{tmp_path}/*.md")) == ["notes.md"]


def test_a_folder_that_can_not_be_opened_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "in", "a.wav", "closed/b.wav")
    scandir = os.scandir

    def refuse(path: Path) -> object:  # not even chmod closes a folder to root
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    skipped = Skipped()
    assert names(find_sounds(str(folder), skipped)) == ["a.wav"]
    assert skipped.lines() == [f"can't open the folder {folder / 'closed'} (Permission denied); went on without it"]


def test_lists_as_people_have_them(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listing = sounds / "list.txt"

    def listed(text: str | bytes, name: str = "list.txt") -> list[str]:
        (sounds / name).write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
        found = find_sounds(str(sounds / name))
        return [path.relative_to(sounds).as_posix() if path.is_relative_to(sounds) else str(path) for path in found]

    # Relative to the list's own folder, or else to the working folder.
    make(sounds, "sub/deep.wav", "#1 hit.wav", " blank .wav", "50%.wav")
    make(tmp_path, "here.wav")
    assert listed("low.wav\n\n  high.wav  \nsub/deep.wav\nhere.wav\n") == [
        "low.wav",
        "high.wav",
        "sub/deep.wav",
        "here.wav",
    ]
    # As Windows, editors and players write them.
    assert listed("\ufefflow.wav\r\nsub\\deep.wav\r\n") == ["low.wav", "sub/deep.wav"]
    assert listed("low.wav\nsub\\deep.wav".encode("utf-16")) == ["low.wav", "sub/deep.wav"]
    assert listed("low.wav\rhigh.wav") == ["low.wav", "high.wav"]
    assert listed(f'"low.wav"\n{(sounds / "high.wav").as_uri()}\n50%25.wav\n50%.wav\n') == [
        "low.wav",
        "high.wav",
        "50%.wav",
    ]
    assert listed("# mine\nlow.wav\n#1 hit.wav\n blank .wav") == ["low.wav", "#1 hit.wav", " blank .wav"]
    for name in ("a.m3u", "a.m3u8", "A.M3U"):
        assert listed("#EXTM3U\n#EXTINF:5,Low\nlow.wav\n#1 hit.wav\n", name) == ["low.wav"]
    assert names(find_sounds([str(sounds / "a.m3u"), str(sounds / "high.wav")])) == ["low.wav", "high.wav"]
    # Names that are older than UTF-8: the bytes as they are, or as Windows wrote them.
    soundfile.write(os.fsencode(sounds) + b"/\xe9.wav", tone(300.0, 0.1), 16_000, format="WAV")
    assert listed(b"\xe9.wav\n") == ["\udce9.wav"]
    make(sounds, "für.wav")
    assert listed("fu\u0308r.wav\n") == ["für.wav"]
    assert listed(b"f\xfcr.wav\n") == ["für.wav"]
    # A pattern and a folder are as good as a file; what is missing is kept, to be told as such; a list in a list is a file.
    assert listed("l*.wav\nsub\ngone [live].wav\nlist.txt") == [
        "low.wav",
        "sub/deep.wav",
        "gone [live].wav",
        "list.txt",
    ]
    assert listed("low.wav\nrain, wind.wav") == ["low.wav", "rain, wind.wav"]
    assert listed('low.wav\n""\nfile:\n') == ["low.wav", '""', "file:"]  # not the folder
    assert listed("low.wav\nlow.wav\n./low.wav") == ["low.wav"]
    with pytest.raises(
        ValueError, match=rf"lists 2 files, and none is there \(first: {sounds}/x.wav\).*relative to {sounds} or to"
    ):
        listed("x.wav\ny.wav")
    with pytest.raises(ValueError, match="lists no files"):
        listed("\n# nothing\n")
    with pytest.raises(ValueError, match=r"list\.txt: is no text"):
        listed(b"RIFF\0\0\0\0WAVE")
    assert listing.exists()


def test_thousands_of_files_are_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links are resolved for a folder, not for each of its files."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(2000):
        (folder / f"{index}.wav").touch()
    resolved, realpath = [], os.path.realpath

    def count(path: Path) -> str:
        resolved.append(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", count)
    assert len(find_sounds(str(folder))) == 2000
    assert len(resolved) < 10


@pytest.mark.parametrize(
    ("ending", "form"),
    [
        *((".mkv", "matroska"), (".mov", "mov"), (".3gp", "3gp"), (".m4b", "ipod"), (".mp2", "mp2"), (".avi", "avi")),
        *((".ts", "mpegts"), (".m2ts", "mpegts"), (".flv", "flv"), (".m4v", "mp4"), (".mpg", "mpeg"), (".ac3", "ac3")),
        *((".tta", "tta"), (".wv", "wv"), (".aac", "adts"), (".wma", "asf"), (".f4v", "f4v"), (".nut", "nut")),
        *((".snd", "AU"), (".8svx", "SVX"), (".voc", "VOC"), (".w64", "W64"), (".caf", "CAF"), (".sph", "NIST")),
    ],
)
def test_each_ending_can_be_heard_alone(tmp_path: Path, ending: str, form: str) -> None:
    path, wave = tmp_path / f"a{ending}", tone(440.0, 1.0, 48_000)
    if form in soundfile.available_formats():
        soundfile.write(path, wave, 16_000, format=form, subtype="PCM_16")
    else:
        av = pytest.importorskip("av")
        codecs = {
            "ac3": "ac3",
            "tta": "tta",
            "wv": "wavpack",
            "asf": "wmav2",
            "mp2": "mp2",
            "avi": "mp2",
            "mpeg": "mp2",
        }
        with av.open(str(path), "w", format=form) as container:
            stream = container.add_stream(codecs.get(form, "aac"), rate=48_000, layout="mono", bit_rate=96_000)
            frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
            frame.sample_rate = 48_000
            resampler = av.AudioResampler(stream.format, "mono", 48_000, frame_size=stream.frame_size or 1024)
            for each in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(each))
            container.mux(stream.encode(None))
    assert find_sounds(str(tmp_path)) == [path]
    assert audio.load(path, 16_000).size > 10_000


def test_names_as_text() -> None:
    assert readable("a/\udcff b.wav") == "a/%FF b.wav"
    assert readable(Path("ü")) == "ü"
    assert readable("\ud800") == "?"
