"""A caption of the newest seconds, again and again, each on time.

A caption that is not ready when the next window ends makes that one drop: nothing ever queues, so that what is shown is always
of what was just heard.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from a2i.captioner.batching import caption_many
from a2i.captioner.protocols import CaptionModel
from a2i.errors import with_kind
from a2i.listen.sources import Source


class Schedule:
    """When windows end: `first`, `first + every`, … in seconds of a clock that never goes back.

    Each is reckoned from the first, so that no error adds up in an hour.
    """

    def __init__(self, first: float, every: float) -> None:
        self._first, self._every = first, every
        self._last = -1

    def next(self, now: float) -> tuple[float, int]:
        """When the next window ends that has not ended yet, and how many have ended since the one before it."""
        number = max(self._last + 1, math.ceil((now - self._first) / self._every))
        dropped, self._last = number - self._last - 1, number
        return self._first + number * self._every, dropped


@dataclass(frozen=True)
class Heard:
    """A caption of a window.

    Attributes:
        time: of day at which the window ended.
        start: of the window, in seconds of sound since listening began.
        end: likewise.
        caption: what is heard; None where captioning failed.
        confidence: see `a2i.captioner.candidates.Candidate`.
        log_probability: likewise.
        late: seconds from the window's end to the caption.
        dropped: windows between the one before and this one, which ended while the captioner was busy.
        error: what was wrong, in one line.
    """

    time: datetime
    start: float
    end: float
    caption: str | None
    confidence: float | None
    log_probability: float | None
    late: float
    dropped: int
    error: str | None = None


def captions(
    captioner: CaptionModel,
    source: Source,
    window: float,
    every: float,
    speed: float = 1.0,
    seconds: float | None = None,
    seed: int = 0,
    **decoding: Any,
) -> Iterator[Heard]:
    """Caption the newest `window` seconds every `every` seconds, until the source ends.

    What follows a file's last window is captioned too, if it is at least half of `every` long or all that there is.

    Args:
        captioner: see `a2i.captioner.protocols.CaptionModel`.
        source: not yet started.
        window: seconds that a caption is of.
        every: seconds from one caption to the next.
        speed: times as fast as real time, of a file.
        seconds: of sound to listen to; None for no end.
        seed: of sampled captions.
        **decoding: changes of the captioner's decoding settings, by name.

    Raises:
        OSError: the microphone can't be had, or is gone.
        ValueError: the file can't be read to its end.
    """
    heard = 0  # samples, at the end of the last window

    def caption(due: float, dropped: int) -> Heard:
        nonlocal heard
        when = datetime.now().astimezone()
        samples, heard = source.newest.look()
        span = (heard - len(samples)) / source.rate, heard / source.rate
        (found,) = caption_many(captioner, [(samples, source.rate)], seed=seed, **decoding)
        late = time.monotonic() - due
        if isinstance(found, Exception):
            return Heard(when, *span, None, None, None, late, dropped, with_kind(found))
        best = found.candidates[0]
        if not math.isfinite(best.confidence):
            broken = "the captioner gave a confidence that is no number; its weights may be broken"
            return Heard(when, *span, None, None, None, late, dropped, broken)
        return Heard(when, *span, best.caption, best.confidence, best.log_probability, late, dropped)

    began = source.start()
    try:
        schedule = Schedule(began + window / speed, every / speed)
        while True:
            due, dropped = schedule.next(time.monotonic())
            if seconds is not None and due > began + seconds / speed + 1e-6:
                return
            if not source.wait(due):
                left = source.newest.count - heard
                if left and (not heard or left >= every / 2 * source.rate):
                    # Windows that ended in the file after the last one, and before this.
                    since = source.newest.count - (heard or (window - every) * source.rate)
                    yield caption(time.monotonic(), max(math.ceil(since / (every * source.rate)) - 1, 0))
                return
            if source.newest.count > heard:  # else nothing has come since, as from a machine that was asleep
                yield caption(due, dropped)
    finally:
        source.stop()


@dataclass
class Summary:
    """What became of a time of listening, in a few numbers: nothing in it grows with time.

    Attributes:
        captions: that were shown.
        failed: windows for which there is an error in place of a caption.
        dropped: windows that ended while the captioner was busy.
        total: seconds of all captions' lateness together.
        latest: seconds of the largest one.
        heard: seconds of sound.
    """

    captions: int = 0
    failed: int = 0
    dropped: int = 0
    total: float = 0.0
    latest: float = 0.0
    heard: float = 0.0

    def add(self, found: Heard) -> None:
        """Count a window."""
        self.captions += found.error is None
        self.failed += found.error is not None
        self.dropped += found.dropped
        self.total += found.late
        self.latest = max(self.latest, found.late)
        self.heard = found.end

    def line(self) -> str:
        """For the end, in one line."""
        count = self.captions + self.failed
        told = f"{self.heard:.0f} s heard, {self.captions:,} caption{'s' * (self.captions != 1)}"
        if count:
            told += f", {self.total / count:.2f} s after their window on average, {self.latest:.2f} s at most"
        told += f"; {self.dropped:,} window{'s' * (self.dropped != 1)} dropped" if self.dropped else ""
        return told + (f"; {self.failed:,} failed" if self.failed else "")


class Scenes:
    """Tells when the scene changes: a caption differs from that of the scene so far, and is sure enough."""

    def __init__(self, sure: float) -> None:
        self._sure = sure
        self._caption: str | None = None

    def begins(self, found: Heard) -> bool:
        """Whether a new scene begins with a caption."""
        if found.caption is None or found.confidence is None or found.confidence < self._sure:
            return False
        changed, self._caption = found.caption != self._caption, found.caption
        return changed
