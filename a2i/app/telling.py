"""Long work that tells how far it is and can be stopped."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


class Stopped(Exception):  # noqa: N818 (no error: the user asked for it)
    """The user stopped the work."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        doing: in words.
        done: of `total`.
        total: steps; 0 where their number is not known.
    """

    doing: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class Teller:
    """What work tells of itself, and where it learns that it is to stop."""

    def __init__(self) -> None:
        self._told: SimpleQueue[Any] = SimpleQueue()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Have the work end at its next step."""
        self._stop.set()

    def tell(self, what: Any) -> None:
        """Tell a result, or how far the work is.

        Raises:
            Stopped: it is to stop.
        """
        if self._stop.is_set():
            raise Stopped
        self._told.put(what)

    def told(self, work: Callable[["Teller"], None]) -> Iterator[Any]:
        """Do the work in a thread, and give what it tells as it comes. If nobody asks for more, the work is stopped.

        Raises:
            Stopped: it was stopped before its end.
            Exception: any that the work raises.
        """

        def do() -> None:
            end = _End()
            try:
                work(self)
            except BaseException as error:
                end = _End(error)
            self._told.put(end)

        thread = threading.Thread(target=do, daemon=True)
        thread.start()
        try:
            while not isinstance(found := self._told.get(), _End):
                yield found
        finally:
            self.stop()
            thread.join()
        if found.error is not None:
            raise found.error
