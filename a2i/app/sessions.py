"""The sounds and the work of each open page."""

import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from a2i.app.telling import Teller


class Sessions:
    """What each open page has: its sound until it is heard, and its work, one at a time. Several threads may call it.

    Args:
        folder: for the sounds; it is there, and nothing else is in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unheard: dict[str, Path] = {}
        self._originals: dict[Path, Path] = {}
        self._work: dict[str, Teller] = {}
        self._lock = threading.Lock()

    def take(self, session: str, sound: Path, delete: str = "now") -> Path:
        """Bring a sound to a place of its own: two pages that send the same file would have it in one place.

        Args:
            session: the page's name, whatever its browser says that it is. A sound of it that nobody has begun to hear is
                forgotten.
            sound: the file.
            delete: when the file is deleted: `now`, `later` when what is taken is forgotten, or `never`.

        Returns:
            the file's new place.

        Raises:
            FileNotFoundError: it is gone.
        """
        place = Path(tempfile.mkdtemp(dir=self._folder)) / sound.name
        try:
            if delete == "now":
                sound.replace(place)
                _delete(sound)
            else:
                shutil.copyfile(sound, place)
        except OSError:
            self.forget(place)
            raise
        with self._lock:
            if delete == "later":
                self._originals[place] = sound
            before, self._unheard[session] = self._unheard.get(session), place
        self.forget(before)
        return place

    def forget(self, sound: Path | None) -> None:
        """Delete a sound that was taken."""
        if sound is not None:
            shutil.rmtree(sound.parent, ignore_errors=True)
            with self._lock:
                original = self._originals.pop(sound, None)
            if original is not None:
                _delete(original)

    def begin(self, session: str, sound: Path | None = None) -> Teller:
        """Stop the session's work, and have new one begin.

        Args:
            session: the page's name.
            sound: that is heard from now on; whoever calls this deletes it.
        """
        teller = Teller()
        with self._lock:
            if self._unheard.get(session) == sound:
                self._unheard.pop(session, None)
            before, self._work[session] = self._work.get(session), teller
        if before is not None:
            before.stop()
        return teller

    def is_over(self, session: str, teller: Teller) -> bool:
        """Forget work that has ended; whether the session has begun no other work since."""
        with self._lock:
            is_newest = self._work.get(session) is teller
            if is_newest:
                del self._work[session]
        return is_newest

    def stop(self, session: str) -> None:
        """Stop the session's work, if there is some."""
        if teller := self._work.get(session):
            teller.stop()

    def end(self, session: str) -> None:
        """The page was closed: stop its work, and delete its sound."""
        with self._lock:
            teller, sound = self._work.pop(session, None), self._unheard.pop(session, None)
        if teller is not None:
            teller.stop()
        self.forget(sound)

    def end_all(self) -> None:
        """Stop all work."""
        for teller in list(self._work.values()):
            teller.stop()


def _delete(sent: Path) -> None:
    """Delete a file that was sent, and its folder, unless another page has sent the same meanwhile."""
    sent.unlink(missing_ok=True)
    with suppress(OSError):
        sent.parent.rmdir()
