from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from conftest import tone

from a2i.storyboard import Scene, Storyboard
from a2i.storyboard.sound import write_mp3
from a2i.storyboard.video import draw_label, write_captioned

CAPTIONS = ("A dog barks & <b>{runs}</b>.", "Rain falls on a roof.")
SIZE = (160, 90)


def make_video(path: Path, picture: str = "libx264", sound: str | None = "aac", seconds: int = 2) -> Path:
    """A grey picture at 10 frames a second, with a tone."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(picture, rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        heard = file.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for index in range(10 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            file.mux(stream.encode(frame))
            if heard is not None:
                block = tone(440, 0.1, 48_000)
                piece = av.AudioFrame.from_ndarray(block[None], "flt", "mono")
                piece.rate, piece.pts = 48_000, index * len(block)
                file.mux(heard.encode(piece))
        file.mux(stream.encode(None))
        if heard is not None:
            file.mux(heard.encode(None))
    return path


def board(source: Path) -> Storyboard:
    return Storyboard(source, (Scene(0.0, 1.0, CAPTIONS[0], 0.5), Scene(1.0, 2.0, CAPTIONS[1], 0.5)), 0, "tiny")


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(next(s for s in file.streams if s.type == kind)) if packet.size]


def subtitles(path: Path) -> list[tuple[float, str]]:
    with av.open(str(path)) as file:
        stream = file.streams.subtitles[0]
        assert stream.language == "eng"
        return [
            (float(packet.pts * packet.time_base), rect.dialogue.decode())
            for packet in file.demux(stream)
            for rect in packet.decode()
            if rect.dialogue
        ]


def brightness(path: Path) -> np.ndarray:
    """(frames, 2): the brightest pixel of the upper half and of the lower."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]
    return np.array([[frame[: SIZE[1] // 2].max(), frame[SIZE[1] // 2 :].max()] for frame in frames])


@pytest.mark.parametrize(
    ("name", "picture", "sound", "copy"),
    [
        ("clip.mp4", "libx264", "aac", "clip.captioned.mp4"),
        ("clip.mov", "libx264", "aac", "clip.captioned.mov"),
        ("clip.mkv", "libx264", "aac", "clip.captioned.mkv"),
        ("clip.webm", "libvpx", "libopus", "clip.captioned.webm"),
        ("clip.avi", "mpeg4", "libmp3lame", "clip.captioned.mkv"),
        ("clip.ts", "libx264", "aac", "clip.captioned.mkv"),
    ],
)
def test_a_track_beside_what_is_copied_as_it_is(name: str, picture: str, sound: str, copy: str, tmp_path: Path) -> None:
    source = make_video(tmp_path / name, picture, sound)
    before = source.read_bytes()
    path = write_captioned(board(source), tmp_path / "out", "track")
    assert path == tmp_path / "out" / copy
    assert source.read_bytes() == before
    assert len(packets(path, "video")) == 20
    for kind in ("video", "audio"):
        # A transport stream's packets lose the headers that other formats have once.
        assert name == "clip.ts" or packets(path, kind) == packets(source, kind)
    (first, dog), (second, rain) = subtitles(path)
    assert second - first == pytest.approx(1.0, abs=0.002)
    # Scenes count from the first sample: a transport stream's clock begins later.
    with av.open(str(path)) as file:
        assert first == pytest.approx(
            float(file.streams.audio[0].start_time * file.streams.audio[0].time_base), abs=0.03
        )
    assert "[a dog barks &" in dog
    assert "[rain falls on a roof]" in rain
    assert [each.name for each in path.parent.iterdir()] == [copy]


@pytest.mark.parametrize(
    ("name", "picture", "sound", "copy"),
    [("clip.mp4", "libx264", "aac", "clip.captioned.mp4"), ("clip.avi", "mpeg4", "mp2", "clip.captioned.mkv")],
)
def test_burnt_captions_are_seen_below_and_the_sound_is_copied(
    name: str, picture: str, sound: str, copy: str, tmp_path: Path
) -> None:
    source = make_video(tmp_path / name, picture, sound)
    storyboard = board(source)
    silent = Scene(1.0, 2.0, "", 0.5)
    path = write_captioned(Storyboard(source, (storyboard.scenes[0], silent), 0, "tiny"), tmp_path / "out", "burn")
    assert path == tmp_path / "out" / copy
    assert packets(path, "audio") == packets(source, "audio")
    upper, lower = brightness(path).T
    assert len(upper) == 20
    assert (upper < 120).all()
    assert (lower[:10] > 180).all()
    assert (lower[10:] < 120).all(), "a caption stays longer than its scene"


def test_a_sound_has_no_captioned_copy(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(440, 2.0), 16_000)
    assert write_captioned(board(tmp_path / "tone.wav"), tmp_path / "out", "track") is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["track", "burn"])
@pytest.mark.parametrize(
    ("stem", "copy"),
    [
        ("12:30 walk", "12:30 walk.captioned.mp4"),
        ("v" * 250, f"{'v' * 224}~8169d970eca85c64.captioned.mp4"),
        ("b\udcff", "b%FF.captioned.mp4"),
    ],
    ids=["colon", "long", "no text"],
)
def test_whatever_a_video_is_called(
    stem: str, copy: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a relative path: it may begin like an address."""
    monkeypatch.chdir(tmp_path)
    source, out = make_video(Path("clip.mp4")).rename(f"{stem}.mp4"), Path("a:b")
    path = write_captioned(board(source), out, how)
    assert path == out / copy
    assert path.is_file()
    write_mp3(source, out / "12:30.mp3", 2.0)


def test_a_video_opens_no_other_file(tmp_path: Path) -> None:
    """A play list that FFmpeg would follow, wherever it leads."""
    other = make_video(tmp_path / "other.ts")
    playlist = tmp_path / "clip.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{other.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match="can't be copied with captions=track"):
        write_captioned(board(playlist), tmp_path / "out", "track")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_chapters_are_copied(name: str, tmp_path: Path) -> None:
    plain, source = make_video(tmp_path / f"plain_{name}"), tmp_path / name
    with av.open(str(plain)) as read, av.open(str(source), "w") as file:
        places: dict[int, Any] = {each.index: file.add_stream_from_template(each) for each in read.streams}
        begun: Any = {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "first"}}
        file.set_chapters([begun, begun | {"id": 2, "start": 1000, "end": 2000, "metadata": {"title": "second"}}])
        for packet in read.demux():
            if packet.size:
                packet.stream = places[packet.stream.index]
                file.mux(packet)
    path = write_captioned(board(source), tmp_path / "out", "track")
    assert path is not None
    with av.open(str(path)) as copy:
        assert [each["metadata"]["title"] for each in copy.chapters()] == ["first", "second"]
    assert len(subtitles(path)) == 2


def test_what_cannot_be_copied_is_told_in_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match=r"^got captions=paint; expected track or burn, or null for none$"):
        write_captioned(board(source), tmp_path / "out", "paint")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(source.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"broken\.mp4: can't be copied with captions=burn \(.+\); captions=null does without"
    ):
        write_captioned(board(broken), tmp_path / "out", "burn")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    (tmp_path / "full").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="full"):
        write_captioned(board(source), tmp_path / "full", "track")


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (160, 90), (64, 48)])
def test_a_label_fits_its_picture(size: tuple[int, int]) -> None:
    label = draw_label(("[" + "m" * 41, "w" * 41 + "]"), size)
    assert label.width <= size[0]
    assert label.height <= size[1]
