"""Names for the files that are made of sounds: each sound's own, whatever a file system takes for equal."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Mapping

from a2i.audio.inputs import readable

ENDING = ".png"
DIGITS = 16  # of a hash, in names and in rows


class PictureNames:
    """Gives each sound a file name for its picture that no other has, whatever a file system takes for equal.

    Args:
        owned: file name of a picture by its sound's key; kept.
        limit: bytes of a file name.
        is_free: whether a name that no sound owns may be used: no foreign file has it.
        ending: of the names.
    """

    def __init__(
        self,
        owned: Mapping[str, str],
        limit: int = 255,
        is_free: Callable[[str], bool] = lambda name: True,
        ending: str = ENDING,
    ) -> None:
        self._owned = dict(owned)
        self._owner = {caseless(name): key for key, name in self._owned.items()}
        self._counts: dict[str, int] = {}
        self._limit = limit
        self._is_free = is_free
        self._ending = ending

    def of(self, key: str, stem: str) -> str:
        """The name of a sound's picture: the one that it owns, else its stem, with a number where that is taken.

        Args:
            key: of the sound.
            stem: of its file.
        """
        name = self._owned.get(key)
        if name is not None and self._owner[caseless(name)] == key:
            return name
        # Where counting went on before, it goes on: thousands of equal stems would each begin at 2.
        start = caseless(stem)
        while True:
            self._counts[start] = count = self._counts.get(start, 0) + 1
            name = self._fitting(readable(stem), f"_{count}" if count > 1 else "")
            if caseless(name) not in self._owner and self._is_free(name):
                self._owner[caseless(name)] = key
                self._owned[key] = name
                return name

    def _fitting(self, stem: str, number: str) -> str:
        """Shortened, with a hash of the whole, where it is longer than names may be."""
        if len(os.fsencode(stem + number + self._ending)) <= self._limit:
            return stem + number + self._ending
        end = f"~{hashlib.sha256(stem.encode()).hexdigest()[:DIGITS]}{number}{self._ending}"
        room = max(self._limit - len(end), 0)
        return os.fsencode(stem)[:room].decode("utf-8", "ignore") + end


def caseless(name: str) -> str:
    """Equal for names that some file system takes for the same: other case, or composed otherwise."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
