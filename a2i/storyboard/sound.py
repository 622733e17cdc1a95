"""A recording as a page plays it: an MP3 of what was heard, whatever format it came in.

MP3, since every browser plays it; at a constant bit rate, since a second's place in it is known; encoded anew from the
waveform, since its seconds are then those of the scenes, also for damaged files and files with wrong headers.
"""

import io
from pathlib import Path
from typing import BinaryIO

from a2i import audio
from a2i.storyboard.told import Tell, nobody

RATE = 32_000  # Hz of the page's player, whatever a captioner hears
BIT_RATE = 64_000  # an hour is 29 MB
QUICK = "7"  # of LAME's 0 (best) to 9: 38 s of a core for an hour, where soundfile's choice takes 65 s


def write_mp3(source: Path, file: Path | BinaryIO, seconds: float, tell: Tell = nobody) -> None:
    """Encode a recording as mono MP3, piece by piece: an hour takes no more memory than a minute.

    Args:
        source: sound file, or video with sound.
        file: to write to.
        seconds: length of the recording.
        tell: is called with what is being done, and how many of `seconds` are.

    Raises:
        OSError: it can't be read or written.
        ValueError: it can't be read as sound; see `a2i.audio.load`.
    """
    import av

    # Without `file:`, what stands before a colon in a name is a protocol to FFmpeg.
    with av.open(f"file:{file}" if isinstance(file, Path) else file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono", options={"compression_level": QUICK})
        stream.bit_rate = BIT_RATE
        position = 0
        for block in audio.Recording(source, RATE).blocks():
            frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
            frame.rate, frame.pts = RATE, position
            container.mux(stream.encode(frame))
            position += len(block)
            tell("seconds of the page's sound", position / RATE, seconds)
        container.mux(stream.encode(None))


def mp3(source: Path, seconds: float, tell: Tell = nobody) -> bytes:
    """A short recording as MP3; errors as of `write_mp3`."""
    file = io.BytesIO()
    write_mp3(source, file, seconds, tell)
    return file.getvalue()
