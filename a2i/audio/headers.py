"""What the bytes around the sound say: where the streams of a file begin, and whether it ends before it should.

Nothing here decides how much is heard; that is what decodes. libsndfile believes a header that says 0 samples, so it is shown
a mended one (`Stream.mended`); and FFmpeg takes several Ogg or FLAC streams in a row for one, so it is shown each alone.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

OPEN_END = 0x7FFF0000  # bytes; sizes of 32 bits from here on are what programs write that can't go back to mend them
MIDWAY = 60 * 48_000  # samples; an Ogg stream that begins later than that was recorded in the middle of a broadcast


@dataclass(frozen=True)
class Stream:
    """One of the streams that stand one after the other in a file; nearly always the only one.

    Attributes:
        kind: `samples` (WAV, AIFF, AU, CAF, W64 and others that libsndfile reads well), `flac`, `mp3`, `other` (for FFmpeg), or
            `unknown`.
        start: first byte.
        end: one behind the last.
        cut: what tells that the file ends before its header says; None where nothing does.
        samples: that its header says it has (FLAC); None where it doesn't say.
        packets: that its header says it has (MP3); None where it doesn't say.
        mended: bytes of its header as they should be, by their place in the file.
    """

    kind: str
    start: int
    end: int
    cut: str | None = None
    samples: int | None = None
    packets: int | None = None
    mended: dict[int, bytes] = field(default_factory=dict)


class Window(io.RawIOBase):
    """A stretch of a file, as a file; without a name, so that nobody guesses by it what is inside."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        super().__init__()
        self.file, self.stream, self.position = file, stream, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the stretch's beginning."""
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        size = self.stream.end - self.stream.start
        self.position = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: size}[whence], 0)
        return self.position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill the buffer as far as the stretch goes."""
        place = min(self.stream.start + self.position, self.stream.end)
        self.file.seek(place)
        found = self.file.read(min(len(buffer), max(self.stream.end - place, 0)))
        for at, mended in self.stream.mended.items():
            first, last = max(at, place), min(at + len(mended), place + len(found))
            if first < last:
                found = found[: first - place] + mended[first - at : last - at] + found[last - place :]
        buffer[: len(found)] = found
        self.position += len(found)
        return len(found)


def streams(file: BinaryIO) -> list[Stream]:
    """The streams of a file, at least one; `file` can be sought."""
    end = file.seek(0, io.SEEK_END)
    try:
        return _streams(file, _after_id3(file), end)
    except struct.error:  # a header that is cut off
        return [Stream("unknown", 0, end)]


def _streams(file: BinaryIO, start: int, end: int) -> list[Stream]:
    head = _read(file, start, 64)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return list(_waves(file, end))
    if head[:4] in (b"FORM", b"caff") or head[:16] == W64:
        return [_of_chunks(file, start, end)]
    if head[:4] in (b".snd", b"dns."):
        said = struct.unpack(">I" if head[:4] == b".snd" else "<I", head[8:12])[0]
        place = struct.unpack(">I" if head[:4] == b".snd" else "<I", head[4:8])[0]
        return [Stream("samples", start, end, _missing(place + said, end) if said < OPEN_END else None)]
    if head[:4] == b"OggS":
        return list(_ogg_streams(file, start, end))
    if head[:4] == b"fLaC":
        return list(_flac_streams(file, end))
    if head[:4] == b"RIFF":
        return [Stream("other", 0, end, _missing(8 + struct.unpack("<I", head[4:8])[0], end))]
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return [Stream("other", 0, end, _missing(_end_of_boxes(file, end), end))]
    if head[:4] == b"\x1aE\xdf\xa3":
        return [Stream("other", 0, end, _missing(_end_of_matroska(file, end), end))]
    if head[:4] == b"0&\xb2u":
        return [Stream("other", 0, end, _missing(_end_of_asf(file), end))]
    if head[:1] == b"G" and _read(file, 188, 1) == b"G" and _read(file, 376, 1) == b"G":  # an MPEG transport stream
        return [Stream("other", 0, end, "its last packet is not whole" if end % 188 else None)]
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return [Stream("mp3", 0, end, packets=_xing(_read(file, start, 256)))]
    return [Stream("other" if head[:4] in (b"wvpk", b"TTA1", b"MAC ") else "unknown", 0, end)]


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    """Some bytes, fewer where the file ends; none at a place that no file has, as a header may name it."""
    if place > file.seek(0, io.SEEK_END):
        return b""
    file.seek(place)
    return file.read(count)


def _missing(said: int, there: int) -> str | None:
    return f"its header says {said:,} bytes, {there:,} are there" if said > there else None


def _after_id3(file: BinaryIO) -> int:
    """Where the sound begins: behind ID3v2 tags, which some programs put before any format."""
    place = 0
    while (head := _read(file, place, 10))[:3] == b"ID3" and len(head) == 10:
        place += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
    return place


# --- files of chunks -------------------------------------------------------------------------------------------------

W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
# By the first bytes: where the first chunk stands, length of a name, a size's format, whether it counts name and size, to what
# chunks are aligned, and the name of the chunk that holds the samples.
_CHUNKS = {
    b"RIFF": (12, 4, "<I", False, 2, b"data"),
    b"RIFX": (12, 4, ">I", False, 2, b"data"),
    b"RF64": (12, 4, "<I", False, 2, b"data"),
    b"BW64": (12, 4, "<I", False, 2, b"data"),
    b"FORM": (12, 4, ">I", False, 2, b"SSND"),
    b"caff": (8, 4, ">q", False, 1, b"data"),
    b"riff": (40, 16, "<Q", True, 8, _W64_DATA),
}


def _waves(file: BinaryIO, end: int) -> Iterator[Stream]:
    """WAV files joined one after the other."""
    start = _after_id3(file)
    while True:
        stream = _of_chunks(file, start, end)
        yield stream
        if stream.end == end:
            return
        start = stream.end


def _of_chunks(file: BinaryIO, start: int, end: int) -> Stream:
    first, name_size, size_format, counts_itself, align, samples_name = _CHUNKS[_read(file, start, 4)]
    size_size = struct.calcsize(size_format)
    place, long_size = start + first, None
    while len(head := _read(file, place, name_size + size_size)) == name_size + size_size:
        name, size = head[:name_size], struct.unpack(size_format, head[name_size:])[0]
        size -= name_size + size_size if counts_itself else 0
        inside = place + name_size + size_size
        if name == b"ds64":
            long_size = struct.unpack("<Q", _read(file, inside + 8, 8))[0]
        if name == samples_name:
            break
        if size < 0:
            return Stream("samples", start, end)
        place = inside + -(-size // align) * align
    else:
        return Stream("samples", start, end)
    at, there = place + name_size, end - inside
    if long_size is not None and size == 0xFFFFFFFF:
        size, at, size_format = long_size, _ds64_size(file, start), "<Q"
    wide = struct.calcsize(size_format) == 8
    open_end = size < 0 or (size > there and (size >= 1 << 62 if wide else size >= OPEN_END))
    cut = None if open_end else _missing(inside + size, end)
    if not open_end and size <= there:
        behind = inside + -(-size // align) * align
        if (next_one := _joined(file, behind, end)) is not None:
            return Stream("samples", start, next_one)
        ends = (behind, inside + size)  # some programs align no chunks
        if size == there or any(_chunks_to_the_end(file, each, end, name_size, size_format) for each in ends):
            return Stream("samples", start, end)
    whole = there + (name_size + size_size if counts_itself else 0)
    whole = whole if wide else min(whole, 0xFFFFFFFE)
    return Stream("samples", start, end, cut, mended={at: struct.pack(size_format, whole)})


def _ds64_size(file: BinaryIO, start: int) -> int:
    """Where `ds64`, which is the first chunk, has the size of the samples."""
    return start + 12 + 8 + 8


def _joined(file: BinaryIO, place: int, end: int) -> int | None:
    head = _read(file, place, 12)
    return place if place < end and head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE" else None


def _chunks_to_the_end(file: BinaryIO, place: int, end: int, name_size: int, size_format: str) -> bool:
    """Whether only chunks follow (or a tag, or zeros): then the size before them can be believed."""
    size_size = struct.calcsize(size_format)
    while place < end - 1:
        head = _read(file, place, name_size + size_size)
        if head[:3] in (b"TAG", b"ID3") or not any(_read(file, place, 64)):
            return True
        if len(head) < name_size + size_size or not all(32 <= byte < 127 for byte in head[:4]):
            return False
        size = struct.unpack(size_format, head[name_size:])[0]
        if size_format == "<Q" and name_size == 16:
            size = -(-size // 8) * 8 - 24
        if size < 0:
            return False
        place += name_size + size_size + size + (size % 2 if size_size == 4 else 0)
    return place <= end + 1


# --- Ogg, FLAC, MP3 --------------------------------------------------------------------------------------------------


def _ogg_streams(file: BinaryIO, start: int, end: int) -> Iterator[Stream]:
    """Ogg streams one after the other, as internet radio sends them; those that run side by side are one here."""
    place, began, opening, ended, first_granule, whole = start, 0, True, False, None, True
    while place < end:
        head = _read(file, place, 27 + 255)
        if head[:4] != b"OggS" or len(head) < 27:
            found = _find(file, (b"OggS",), place + 1, end)
            whole = found is not None
            place = end if found is None else found
            continue
        flags, granule = head[5], struct.unpack("<q", head[6:14])[0]
        begins = bool(flags & 2)
        if begins and not opening:
            yield Stream("other", began, place)
            began, ended, first_granule = place, False, None
        opening = begins
        ended = ended or bool(flags & 4)
        if first_granule is None and granule > 0:
            first_granule = granule
        segments = head[27 : 27 + head[26]]
        place += 27 + head[26] + sum(segments)
        whole = len(segments) == head[26] and place <= end
    cut = None if whole else "its last page is not whole"
    # What was recorded in the middle of a broadcast has no last page and never will.
    if whole and not ended and (first_granule or 0) < MIDWAY:
        cut = "its last page is missing"
    yield Stream("other", began, end, cut)


_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")


def _flac_streams(file: BinaryIO, end: int) -> Iterator[Stream]:
    place, start = _find(file, _FLAC_STARTS, 0, end), 0
    if place is None:
        yield Stream("flac", 0, end)
        return
    while place is not None:
        info = _read(file, place + 8, 34)
        samples = int.from_bytes(info[13:18], "big") & (1 << 36) - 1 if len(info) == 34 else 0
        place = _find(file, _FLAC_STARTS, place + 8, end)
        yield Stream("flac", start, end if place is None else place, samples=samples or None)
        start = place or end


def _find(file: BinaryIO, signs: tuple[bytes, ...], place: int, end: int) -> int | None:
    """The next place of one of the signs."""
    longest = max(map(len, signs))
    while place < end:
        block = _read(file, place, 1 << 20)
        found = [at for sign in signs if (at := block.find(sign)) >= 0]
        if found:
            return place + min(found)
        if len(block) < longest:
            return None
        place += len(block) - longest + 1
    return None


def _xing(head: bytes) -> int | None:
    """Packets of an MP3, where its first frame says how many follow."""
    for sign in (b"Xing", b"Info"):
        if (at := head.find(sign)) >= 0 and head[at + 7] & 1:
            return struct.unpack(">I", head[at + 8 : at + 12])[0]
    if (at := head.find(b"VBRI")) >= 0:
        return struct.unpack(">I", head[at + 14 : at + 18])[0]
    return None


# kbit/s by four bits of an MPEG audio frame's header, for each version (2.5 is as 2) and layer.
_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mpeg_frame_size(head: bytes) -> int:
    """Bytes of an MPEG audio frame (MP3 and its kin) by its first four; 0 where they don't tell."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = (1 if head[1] & 0x18 == 0x18 else 2), 4 - (head[1] >> 1 & 3)
    rates = (44_100, 48_000, 32_000, 0)
    rate = rates[head[2] >> 2 & 3] // (1 if version == 1 else 2 if head[1] & 0x10 else 4)
    if not rate or layer == 4 or head[2] >> 4 == 15:
        return 0
    bits, padding = _BIT_RATES[version, layer][head[2] >> 4] * 1000, head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if layer == 3 and version == 2 else 144) * bits // rate + padding


# --- where other containers say that they end ------------------------------------------------------------------------


def _end_of_boxes(file: BinaryIO, end: int) -> int:
    """MP4 and its kin."""
    place = 0
    while place + 8 <= end:
        head = _read(file, place, 16)
        size = struct.unpack(">I", head[:4])[0]
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in head[4:8]):
            return end  # 0: to the file's end
        place += size
    return place


def _end_of_matroska(file: BinaryIO, end: int) -> int:
    """Matroska and WebM. What is written while it is recorded does not say where it ends, but where each piece does."""
    place = 0
    while place < end:
        head = _read(file, place, 12)
        name_length = 9 - head[0].bit_length() if head[0] else 1
        size, length = _vint(head[name_length:])
        name, place = head[:name_length], place + name_length + length
        if size is not None:
            place += size
        elif name not in (_SEGMENT, _CLUSTER):
            return end  # lost: it tells nothing
    return place


_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"


def _vint(head: bytes) -> tuple[int | None, int]:
    """A number of EBML, None where all its bits are set, and how many bytes it takes."""
    if not head or not head[0]:
        return None, 1
    length = 9 - head[0].bit_length()
    value = int.from_bytes(head[:length], "big") & (1 << 7 * length) - 1
    return (None if value == (1 << 7 * length) - 1 else value), length


_ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"


def _end_of_asf(file: BinaryIO) -> int:
    """WMA: how many bytes it says it has; 0 where it is not said, as in a broadcast."""
    head = _read(file, 0, 1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return 0
    return struct.unpack("<Q", head[at + 40 : at + 48])[0]
