"""A recording of any length → its scenes, each with its caption and picture; as a page, a sheet and subtitles."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scene:
    """A stretch of a recording in which the same is heard.

    Attributes:
        start: seconds from the recording's beginning.
        end: seconds from the recording's beginning.
        caption: what is heard.
        confidence: probability that `caption` names what is heard; see `a2i.captioner.candidates.Candidate`.
        candidates: the best captions, `caption` the first of them.
        image: file of the picture; None without a picture model.
    """

    start: float
    end: float
    caption: str
    confidence: float
    candidates: tuple[str, ...] = ()
    image: Path | None = None


@dataclass(frozen=True)
class Storyboard:
    """A recording as scenes that follow each other without gaps.

    Attributes:
        source: the recording: a sound file, or a video with sound.
        scenes: at least one, in their order; the first begins at 0, the last ends where the recording does.
        seed: of the pictures.
        captioner: name or folder.
        image_model: name, Hub id or folder; None without a picture model.
        warning: what was wrong with the file though it was heard, in one line; None if nothing was.
    """

    source: Path
    scenes: tuple[Scene, ...]
    seed: int
    captioner: str
    image_model: str | None = None
    warning: str | None = None

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.scenes[-1].end


def clock(seconds: float) -> str:
    """Seconds as a player shows them: `0:07`, `12:30`, `1:02:03`."""
    whole = int(seconds)
    minutes = f"{whole // 60 % 60:02}" if whole >= 3600 else f"{whole // 60}"
    return f"{whole // 3600}:{minutes}:{whole % 60:02}" if whole >= 3600 else f"{minutes}:{whole % 60:02}"
