"""The sounds and the work of each open page."""

import shutil
import threading
from hashlib import sha256
from pathlib import Path

from a2i.app.telling import Teller


class Sessions:
    """What each open page has: its sound until it is heard, in a folder of its own, and its work. Several threads may call it.

    Args:
        folder: for the sounds; it is there, and nothing else is in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work: dict[str, Teller] = {}
        self._lock = threading.Lock()

    def take(self, session: str, sound: Path, keep: bool = False) -> Path:
        """Move a sound to where only this session has it: two that send the same file would have it in one place.

        Args:
            session: the page's name, whatever its browser says that it is.
            sound: the file, which is deleted with the session's previous one.
            keep: copy it, and leave the file where it is.

        Returns:
            the file's new place.

        Raises:
            FileNotFoundError: it is gone.
        """
        with self._lock:
            shutil.rmtree(self._place(session), ignore_errors=True)
            self._place(session).mkdir()
            place = self._place(session) / sound.name
            if keep:
                shutil.copyfile(sound, place)
            else:
                sound.replace(place)
                if not any(sound.parent.iterdir()):
                    sound.parent.rmdir()
            return place

    def forget(self, session: str) -> None:
        """Delete the session's sound."""
        with self._lock:
            shutil.rmtree(self._place(session), ignore_errors=True)

    def begin(self, session: str) -> Teller:
        """Stop the session's work, and have new one begin."""
        with self._lock:
            if session in self._work:
                self._work[session].stop()
            self._work[session] = Teller()
            return self._work[session]

    def stop(self, session: str) -> None:
        """Stop the session's work, if there is some."""
        with self._lock:
            if session in self._work:
                self._work[session].stop()

    def end(self, session: str) -> None:
        """The page was closed: stop its work and delete its sound."""
        self.stop(session)
        self.forget(session)
        with self._lock:
            self._work.pop(session, None)

    def end_all(self) -> None:
        """Stop all work."""
        with self._lock:
            for teller in self._work.values():
                teller.stop()

    def _place(self, session: str) -> Path:
        # A browser may send anything as its session's name.
        return self._folder / sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:16]
