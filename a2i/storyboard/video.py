"""A video → a copy with captions of what is heard: as a subtitle track, or burnt into the picture."""

import struct
from collections.abc import Callable
from errno import EDQUOT, EFBIG, ENOSPC
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from a2i.audio.files import DEMUXERS
from a2i.file_names import PictureNames
from a2i.machine import name_limit
from a2i.storyboard import Storyboard
from a2i.storyboard.subtitles import Cue, cues, srt_text, vtt_text
from a2i.storyboard.told import Tell, nobody
from a2i.whole import not_written, whole

if TYPE_CHECKING:
    import av

HOW = ("track", "burn")
# What was heard, and no other file nor address that it names.
READING = {"fflags": "+genpts", "format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
# What the copy of a video becomes, by the video's ending: ending, FFmpeg's name of the format, codec of the subtitles.
MP4, MATROSKA = (".mp4", "mp4", "mov_text"), (".mkv", "matroska", "subrip")
KINDS = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": (".mov", "mov", "mov_text"),
    ".qt": (".mov", "mov", "mov_text"),
    ".webm": (".webm", "webm", "webvtt"),
}  # all others: Matroska, which holds nearly everything
SOUNDS_OF_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
PRESET = "veryfast"  # of x264: 20 s of 720p take 24 s of a core, and 36 s with its default
QUALITY = "20"  # x264's constant rate factor: it hides the loss better than its default of 23
TEXT = 0.045  # height of burnt text, as a part of the picture's shorter side
BOX = (0, 0, 0, 170)  # behind burnt text: white on it can be read over any picture
# The subtitle encoders ask for a style sheet. They are opened for the headers that they write; the text goes past them.
STYLES = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize, PrimaryColour, "
    b"SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, "
    b"BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\nStyle: Default,Arial,16,&Hffffff,"
    b"&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


class NotCopiedError(ValueError):
    """A video that FFmpeg can't read, or can't write a copy of."""


def write_captioned(storyboard: Storyboard, folder: Path, how: str, tell: Tell = nobody) -> Path | None:
    """Write a copy of a video with captions, `NAME.captioned.mp4` or the like; the video itself stays as it is.

    Args:
        storyboard: of the video.
        folder: for the copy.
        how: `track` for a subtitle track, all else being copied as it is, in the video's own format or Matroska; `burn` for
            captions in the picture, which is encoded anew as H.264 in MP4, or in Matroska where MP4 can't hold the sound.
        tell: is called with what is being done, and how many seconds of the video are, of how many.

    Returns:
        the copy; None for a sound without a picture.

    Raises:
        ValueError: `how` is neither.
        NotCopiedError: the video can't be read or copied.
        OSError: the copy can't be written.
    """
    import av

    if how not in HOW:
        raise ValueError(f"got captions={how}; expected track or burn, or null for none")
    source = storyboard.source

    def clocked(seconds: float) -> None:
        tell("seconds of the video with captions", seconds, storyboard.seconds)

    try:
        with _opened(source) as video:
            if not pictures(video):
                return None
            kind = _kind(source, video, how)
            names = PictureNames({}, name_limit(folder), ending=f".captioned{kind[0]}")
            path = folder / names.of("", source.stem)
            with whole(path) as partial:
                _write(source, video, partial, kind, how, _shifted(cues(storyboard), video), clocked)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise not_written(folder, error) from error
        raise NotCopiedError(
            f"{source}: can't be copied with captions={how} ({error.strerror}); captions=null does without a copy"
        ) from error
    except OSError as error:
        raise not_written(folder, error) from error
    return path


def _opened(source: Path) -> "av.container.InputContainer":
    import av

    # Without `file:`, what stands before a colon in a name is a protocol to FFmpeg.
    return av.open(f"file:{source}", metadata_errors="replace", options=READING)


def pictures(video: "av.container.InputContainer") -> list["av.VideoStream"]:
    """The streams of moving pictures: the cover of a song is none."""
    from av.stream import Disposition

    return [each for each in video.streams.video if not each.disposition & Disposition.attached_pic]


def _kind(source: Path, video: "av.container.InputContainer", how: str) -> tuple[str, str, str]:
    if how == "track":
        return KINDS.get(source.suffix.lower(), MATROSKA)
    return MP4 if {each.codec_context.name for each in _sounds(video)} <= SOUNDS_OF_MP4 else MATROSKA


def _sounds(video: "av.container.InputContainer") -> list["av.AudioStream"]:
    return [each for each in video.streams.audio if each.codec_context is not None]


def _shifted(shown: list[Cue], video: "av.container.InputContainer") -> list[Cue]:
    """Cues by the video's clock: the scenes' begins with the first sample, which may come later, or a little earlier."""
    from av.stream import Disposition

    sounds = _sounds(video)
    heard = next((each for each in sounds if each.disposition & Disposition.default), sounds[0] if sounds else None)
    late = float((heard.start_time or 0) * (heard.time_base or 0)) if heard else 0.0
    return [Cue(max(0.0, cue.start + late), max(0.001, cue.end + late), cue.lines) for cue in shown]


def _write(
    source: Path,
    video: "av.container.InputContainer",
    path: Path,
    kind: tuple[str, str, str],
    how: str,
    shown: list[Cue],
    clocked: Callable[[float], None],
) -> None:
    import av

    _, name, codec = kind
    options = {"movflags": "+faststart"} if name in ("mp4", "mov") else {}  # plays before all of it is there
    with av.open(f"file:{path}", "w", format=name, options=options) as copy:
        copy.metadata.update(video.metadata)
        copy.set_chapters(video.chapters())
        copied = [*_sounds(video), *(pictures(video) if how == "track" else ())]
        if how == "track":
            copied += [each for each in video.streams.subtitles if _fits(each, name)]
        painter = _Burner(source, video, copy, shown) if how == "burn" else None
        places = {
            each.index: copy.add_stream_from_template(each) for each in sorted(copied, key=lambda each: each.index)
        }
        for each in copied:
            places[each.index].metadata.update(each.metadata)
        track = _Track(copy, codec, shown) if how == "track" else None
        for packet in video.demux(*copied, *(pictures(video)[:1] if how == "burn" else ())):
            seconds = float(packet.dts * packet.time_base) if packet.dts is not None else None
            if painter and packet.stream.type == "video":
                painter.add(packet)
            elif packet.size:  # at the end an empty one comes
                if track and seconds is not None:
                    track.until(seconds)
                packet.stream = places[packet.stream.index]
                copy.mux(packet)
            if seconds is not None:
                clocked(seconds)
        if track:
            track.until(float("inf"))


def _fits(subtitles: Any, name: str) -> bool:
    """Whether a format holds a video's own subtitles: those of broadcasts, say, only few formats do."""
    known = {"mp4": {"mov_text"}, "mov": {"mov_text"}, "webm": {"webvtt"}}
    text = {"subrip", "ass", "ssa", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle"}
    return subtitles.codec_context is not None and subtitles.codec_context.name in known.get(name, text)


class _Track:
    """A subtitle track that is written along with what stands beside it in time."""

    def __init__(self, copy: "av.container.OutputContainer", codec: str, shown: list[Cue]) -> None:
        self.copy, self.codec, self.left = copy, codec, shown[::-1]
        self.stream = cast(Any, copy.add_stream(codec))
        self.stream.codec_context.subtitle_header = STYLES
        self.stream.codec_context.open()
        self.stream.metadata.update({"language": "eng", "title": "Sounds (a2i)"})

    def until(self, seconds: float) -> None:
        """Write the cues that begin by then."""
        import av

        while self.left and self.left[-1].start <= seconds:
            cue = self.left.pop()
            packet = av.Packet(self._payload(cue))
            packet.stream, packet.time_base = self.stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(cue.start * 1000)
            packet.duration = max(1, round(cue.end * 1000) - packet.pts)
            self.copy.mux(packet)

    def _payload(self, cue: Cue) -> bytes:
        if self.codec == "mov_text":
            text = "\n".join(cue.lines).encode()
            return struct.pack(">H", len(text)) + text
        return (vtt_text if self.codec == "webvtt" else srt_text)(cue).encode()


class _Burner:
    """Draws captions into a video's pictures, and encodes them. Pictures that a player would turn are turned."""

    def __init__(
        self,
        source: Path,
        video: "av.container.InputContainer",
        copy: "av.container.OutputContainer",
        shown: list[Cue],
    ) -> None:
        self.copy, self.left = copy, shown[::-1]
        self.source = pictures(video)[0]
        self.source.thread_type = "AUTO"
        with _opened(source) as peeked:
            lying = next(peeked.decode(pictures(peeked)[0]), None)
        if lying is None:
            raise ValueError(f"{source}: holds no picture that can be decoded; expected one, or captions=track")
        first = upright(lying)
        self.size = (first.width & ~1, first.height & ~1)  # H.264 has colours for every second pixel only
        rate = self.source.average_rate or self.source.guessed_rate or 25
        options = {"crf": QUALITY, "preset": PRESET}
        self.stream = cast(Any, copy.add_stream("libx264", rate=rate, options=options))
        self.stream.width, self.stream.height, self.stream.pix_fmt = *self.size, "yuv420p"
        self.stream.codec_context.time_base = self.source.time_base
        if shape := self.source.sample_aspect_ratio:
            self.stream.codec_context.sample_aspect_ratio = 1 / shape if round(lying.rotation / 90) % 2 else shape
        self.label: tuple[Cue, Image.Image] | None = None

    def add(self, packet: "av.Packet") -> None:
        """Encode the pictures of a packet; for the empty one at the end, all that are left."""
        for frame in packet.decode():
            self.copy.mux(self.stream.encode(self._drawn(upright(frame))))
        if packet.dts is None and not packet.size:
            self.copy.mux(self.stream.encode(None))

    def _drawn(self, frame: "av.VideoFrame") -> "av.VideoFrame":
        """The picture with the caption of its moment."""
        import av

        seconds = frame.time or 0.0
        while self.left and self.left[-1].end <= seconds:
            self.left.pop()
        if not self.left or seconds < self.left[-1].start:
            return frame.reformat(*self.size, "yuv420p") if frame.format.name != "yuv420p" else frame
        cue = self.left[-1]
        if self.label is None or self.label[0] != cue:
            self.label = (cue, draw_label(cue.lines, self.size))
        label = self.label[1]
        image = frame.to_image().convert("RGB")
        place = ((self.size[0] - label.width) // 2, self.size[1] - label.height - round(self.size[1] * 0.05))
        image.paste(label, place, label)
        drawn = av.VideoFrame.from_image(image.crop((0, 0, *self.size)))
        drawn.pts, drawn.time_base = frame.pts, frame.time_base
        return drawn


def upright(frame: "av.VideoFrame") -> "av.VideoFrame":
    """A picture as players show it: telephones write it lying, and how it is to be turned beside it."""
    import av

    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    pixels: Any = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    turned = av.VideoFrame.from_ndarray(pixels, "rgb24")
    turned.pts, turned.time_base = frame.pts, frame.time_base
    return turned


def draw_label(lines: tuple[str, ...], size: tuple[int, int]) -> Image.Image:
    """Lines as white text on a dark box, RGBA, no wider than 94 % of a picture of `size` (width, height) pixels.

    The font is Pillow's own, which has Latin letters only.
    """
    height = max(10, round(min(size) * TEXT))
    font = ImageFont.load_default(height)
    widest = max(font.getlength(line) for line in lines)
    if widest + height > size[0] * 0.94:
        height = max(6, int(height * size[0] * 0.94 / (widest + height)))
        font = ImageFont.load_default(height)
    widths = [font.getlength(line) for line in lines]
    step = round(height * 1.35)
    box = Image.new("RGBA", (round(max(widths)) + height, step * len(lines) + height // 2), BOX)
    draw = ImageDraw.Draw(box)
    for row, (line, width) in enumerate(zip(lines, widths, strict=True)):
        draw.text(((box.width - width) / 2, height // 4 + row * step), line, "white", font)
    box.thumbnail(size)  # of a picture so small that no font is small enough
    return box
