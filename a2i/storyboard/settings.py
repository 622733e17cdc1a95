"""How a recording is cut into scenes: checked before any model is loaded."""

from dataclasses import dataclass

from a2i import bounds


@dataclass(frozen=True)
class SceneSettings:
    """How a recording is cut into scenes.

    Attributes:
        shortest: seconds of a scene. Only what lies between two silences, or a whole recording, may be shorter.
        longest: seconds of what is captioned as one; None for what the captioner hears as one clip. Scenes that sound the
            same are joined again, and may be longer.
        change: how much must change for a new scene: the larger, the fewer scenes. Chosen on recordings of known boundaries,
            see `experiments/storyboard`.
    """

    shortest: float = 2.0
    longest: float | None = None
    change: float = 3.5

    def __post_init__(self) -> None:
        bounds.number("scenes.shortest", self.shortest, above=0)
        if self.longest is not None:
            bounds.number("scenes.longest", self.longest, 2 * self.shortest)
        bounds.number("scenes.change", self.change, 0)
