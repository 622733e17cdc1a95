"""Where sound comes from as it happens: the microphone, or a file that is played in real time in its place.

Either fills a `Newest` from a thread of its own. That keeps a window and no more, so that memory does not grow with time.
"""

import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from a2i.audio import Recording

PIECE = 0.05  # seconds of a file that are heard at once; a sound card gives as much
SILENT = 3.0  # seconds without a sample after which a microphone is taken for gone
PORTAUDIO = "apt install libportaudio2 on Debian or Ubuntu, brew install portaudio on a Mac"
INSTEAD = "or give audio=FILE, which is played in its place"


class Newest:
    """The newest samples of a stream; older ones are overwritten. One thread adds, others may look.

    Attributes:
        count: samples that were ever added.
    """

    def __init__(self, size: int) -> None:
        self._samples = np.zeros(size, np.float32)
        self._lock = threading.Lock()
        self.count = 0

    def add(self, block: np.ndarray) -> None:
        """Add samples (samples,) behind those that are there."""
        size = len(self._samples)
        with self._lock:
            self.count += len(block)
            block = block[-size:]
            first = (self.count - len(block)) % size
            before_end = min(len(block), size - first)
            self._samples[first : first + before_end] = block[:before_end]
            self._samples[: len(block) - before_end] = block[before_end:]

    def look(self) -> tuple[np.ndarray, int]:
        """A copy of the newest samples (samples,), the oldest first, and how many were ever added."""
        with self._lock:
            end = self.count % len(self._samples)
            newest = np.concatenate([self._samples[end:], self._samples[:end]])
            return newest[len(newest) - min(self.count, len(newest)) :], self.count


class Source(Protocol):
    """What is listened to.

    Attributes:
        name: for messages.
        rate: Hz of the samples.
        newest: what was heard last.
        lost: blocks that the machine was too busy to take.
    """

    name: str
    rate: int
    newest: Newest
    lost: int

    def start(self) -> float:
        """Begin to fill `newest`; returns when that was, in seconds of `time.monotonic`."""
        ...

    def wait(self, until: float) -> bool:
        """Sleep until a time of `time.monotonic`; False at once if no more sound comes.

        Raises:
            OSError: the microphone is gone.
            ValueError: the file can't be read to its end.
        """
        ...

    def stop(self) -> None:
        """Take no more sound."""
        ...


class Played:
    """A sound file, played in real time to nobody."""

    def __init__(self, path: str | Path, rate: int, window: float, speed: float = 1.0) -> None:
        """Open a file.

        Args:
            path: sound file.
            rate: Hz that its samples shall have.
            window: seconds to keep.
            speed: times as fast as real time.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it can't be read.
        """
        self.name, self.rate, self.lost = str(path), rate, 0
        self.newest = Newest(round(window * rate))
        self._speed = speed
        blocks = Recording(path, rate).blocks()
        self._blocks = chain([next(blocks)], blocks)  # a file that can't be read is told now
        self._ended, self._stop = threading.Event(), threading.Event()
        self._error: Exception | None = None

    def start(self) -> float:
        """See `Source`."""
        self._began = time.monotonic()
        threading.Thread(target=self._play, name="a2i-play", daemon=True).start()
        return self._began

    def wait(self, until: float) -> bool:
        """See `Source`."""
        ended = self._ended.wait(max(until - time.monotonic(), 0.0))
        if self._error is not None:
            raise self._error
        return not ended

    def stop(self) -> None:
        """See `Source`."""
        self._stop.set()

    def _play(self) -> None:
        try:
            for piece in self._pieces():
                due = self._began + (self.newest.count + len(piece)) / self.rate / self._speed
                if self._stop.wait(max(due - time.monotonic(), 0.0)):
                    break
                self.newest.add(piece)
        except Exception as error:
            self._error = error
        finally:
            self._ended.set()

    def _pieces(self) -> Iterator[np.ndarray]:
        size = max(round(PIECE * self._speed * self.rate), 1)
        for block in self._blocks:
            yield from (block[first : first + size] for first in range(0, len(block), size))


class Microphone:
    """A microphone, through PortAudio."""

    def __init__(self, choice: int | str | None, window: float) -> None:
        """Find a microphone.

        Args:
            choice: its number or a part of its name; None for the system's default.
            window: seconds to keep.

        Raises:
            ImportError: sounddevice is not installed.
            OSError: PortAudio is not installed.
            ValueError: there is no such microphone, or none at all.
        """
        self._sounddevice = sounddevice = _sounddevice()
        try:
            device = sounddevice.query_devices(choice, "input")
        except (sounddevice.PortAudioError, ValueError) as error:
            raise ValueError(_not_found(choice, microphones())) from error
        self._device = int(device["index"])
        self.name, self.rate, self.lost = str(device["name"]), round(device["default_samplerate"]), 0
        self.newest = Newest(round(window * self.rate))
        self._stream: Any = None

    def start(self) -> float:
        """See `Source`.

        Raises:
            OSError: another program has it, or the user may not use it.
        """
        try:
            self._stream = self._sounddevice.InputStream(
                device=self._device, samplerate=self.rate, channels=1, dtype="float32", callback=self._take
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise OSError(
                f"{self.name}: can't be listened to ({error}); expected a microphone that no other program holds and that you"
                f" may use; microphone=list shows all, {INSTEAD}"
            ) from error
        began = time.monotonic()
        self._seen = 0, began  # samples, and when there were last more
        return began

    def wait(self, until: float) -> bool:
        """See `Source`."""
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SILENT))
            count, now = self.newest.count, time.monotonic()
            if count > self._seen[0]:
                self._seen = count, now
            elif now - self._seen[1] >= SILENT:
                raise OSError(f"{self.name}: gives no sound any more; is it still plugged in?")
        return True

    def stop(self) -> None:
        """See `Source`."""
        if self._stream is not None:
            self._stream.close()

    def _take(self, samples: np.ndarray, frames: int, when: Any, status: Any) -> None:
        """Called by PortAudio in a thread of its own, which must not be kept."""
        self.lost += bool(status.input_overflow)
        self.newest.add(samples[:, 0])


def microphones() -> list[str]:
    """The microphones that there are, each with its number.

    Raises:
        ImportError: sounddevice is not installed.
        OSError: PortAudio is not installed.
    """
    devices = enumerate(_sounddevice().query_devices())
    return [f"{number}: {device['name']}" for number, device in devices if device["max_input_channels"]]


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise ImportError(f"sounddevice is not installed: pip install 'a2i[listen]', {INSTEAD}") from error
    except OSError as error:
        raise OSError(
            f"PortAudio, through which a microphone is heard, is not installed: {PORTAUDIO}; {INSTEAD}"
        ) from error
    return sounddevice


def _not_found(choice: int | str | None, there: list[str]) -> str:
    if not there:
        return f"found no microphone; expected one that the system knows: plug one in, {INSTEAD}"
    given = "the system has no default microphone" if choice is None else f"got microphone={choice}"
    return f"{given}; expected a number, or a part of one name alone, of: {'; '.join(there)}"
