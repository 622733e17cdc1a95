"""A recording as a page plays it: an MP3 of what was heard, whatever format it came in.

MP3, since every browser plays it; at a constant bit rate, since browsers find a second in it exactly; encoded anew from the
waveform, since its seconds are then those of the scenes, also for damaged files and files with wrong headers.
"""

import io
import sys
from pathlib import Path
from typing import BinaryIO

from a2i import audio

RATE = 32_000  # Hz of the page's player, whatever a captioner hears
BIT_RATE = 64_000  # an hour is 29 MB
QUICK = "7"  # of LAME's 0 (best) to 9: 38 s of a core for an hour, where soundfile's choice takes 65 s


def write_mp3(source: Path, file: Path | BinaryIO, seconds: float) -> None:
    """Encode a recording as mono MP3, piece by piece: an hour takes no more memory than a minute.

    Args:
        source: sound file, or video with sound.
        file: to write to.
        seconds: length of the recording, for the progress bar.

    Raises:
        OSError: it can't be read or written.
        ValueError: it can't be read as sound; see `a2i.audio.load`.
    """
    import av
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, disable=not sys.stderr.isatty()) as bar,
        av.open(str(file) if isinstance(file, Path) else file, "w", format="mp3") as container,
    ):
        task = bar.add_task("sound of the page", total=seconds)
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono", options={"compression_level": QUICK})
        stream.bit_rate = BIT_RATE
        position = 0
        for block in audio.Recording(source, RATE).blocks():
            frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
            frame.rate, frame.pts = RATE, position
            container.mux(stream.encode(frame))
            position += len(block)
            bar.update(task, completed=position / RATE)
        container.mux(stream.encode(None))


def mp3(source: Path, seconds: float) -> bytes:
    """A short recording as MP3; errors as of `write_mp3`."""
    file = io.BytesIO()
    write_mp3(source, file, seconds)
    return file.getvalue()
