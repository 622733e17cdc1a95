"""What is told of the sound that a storyboard is being made of."""

from collections.abc import Callable

# What is being done, how much of it is done, and of how much; an exception from it ends the work.
Tell = Callable[[str, float, float], None]


def nobody(what: str, done: float, of: float) -> None:
    """Whom to tell where nobody listens."""


class Told:
    """What is told of the sound that is being heard: a line of the progress bar, where there is one."""

    def __init__(self) -> None:
        self.tell: Callable[[str, float, float], None] = nobody
