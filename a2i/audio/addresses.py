"""Sounds by their addresses: whatever fsspec reads, such as s3://bucket/rain.wav or https://host/rain.wav.

What a server says against a request becomes one line, in which no key, password or signature stands.
"""

import os
import re
import shutil
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from a2i.errors import first_line, without_account

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # of two letters at least: C:// is a drive
EXTRAS = {"s3": "s3", "s3a": "s3", "http": "s3", "https": "s3"}  # that bring what fsspec needs for a scheme
# What signs an address: it opens a door for those who know it, and is another one each time.
_SIGNED = (
    r"(?:(?:x-(?:amz|goog)-|[^=&?\s]*(?:token|secret|passw|credential|signature|api[-_]?key|access[-_]?key))[^=&?\s]*"
    r"|googleaccessid|key-pair-id|policy|sig|pwd|auth|authorization|expires|se|key(?==AIza))=[^&\s'\"]*"
)
SIGNATURE = re.compile(rf"(?i)([?&]){_SIGNED}(?:&{_SIGNED})*(&?)")
SECRETS = ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY")  # in the names of variables that hold some
SHORTEST = 8  # letters of a secret that is looked for in messages
THREADS = 8  # that fetch at once


class AddressError(OSError):
    """Why an address can't be used, and what to do, in one line."""


@dataclass(frozen=True)
class Address:
    """A sound somewhere else.

    Attributes:
        text: as it was given; it may hold a password or a signature.
    """

    text: str

    def __str__(self) -> str:
        return without_secrets(self.text)

    @property
    def name(self) -> str:
        """The last part of its path."""
        text = without_secrets(self.text)
        return PurePosixPath(unquote(urlsplit(text).path) if is_web(text) else text).name or "sound"

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of its name."""
        return PurePosixPath(self.name).suffix


Sound = Path | Address  # a sound file here or elsewhere


def is_address(text: str) -> bool:
    """Whether a text is an address; `file://` stands for a path."""
    found = SCHEME.match(text)
    return found is not None and found[1].lower() not in ("file", "local")


def is_web(text: str) -> bool:
    """Whether an address is one of the web, of which a query is no part of the path."""
    return text.lower().startswith(("http:", "https:"))


def key_of(address: Address) -> str:
    """What a sound is known by: its address without what signs it, percent-encoded as the keys of files are."""
    return quote(without_secrets(address.text), safe="/:+,=@()' ?&%")


def without_secrets(text: str) -> str:
    """A text without names and passwords, signatures, and the keys that the environment holds."""
    if "://" in text:
        text = SIGNATURE.sub(lambda found: found[1] if found[2] else "", without_account(text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and any(part in name.upper() for part in SECRETS):
            text = text.replace(value, "…")
    return text


def refuse_secrets(value: Any, name: str) -> None:
    """Refuse settings with an address that holds a password or a signature: what keeps a record of a run would tell it.

    Args:
        value: of a setting, or a section of settings.
        name: of it.

    Raises:
        ValueError: says which.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_secrets(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            refuse_secrets(inner, name)
    elif isinstance(value, str) and is_address(value) and SIGNATURE.sub("", without_account(value)) != value:
        raise ValueError(
            f"got {name}={without_secrets(value)}, an address with a password, key or signature, which the run's record would"
            " tell; expected it without, and the account in the environment (AWS_ACCESS_KEY_ID …, FSSPEC_HTTPS …)"
        )


def opened_system(text: str) -> tuple[Any, str]:
    """The file system of an address, as fsspec has it, and the path in it.

    Raises:
        ValueError: nothing is known of such addresses.
        ImportError: a package for them is not installed.
    """
    scheme = text.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise ImportError("fsspec is not installed: pip install 'a2i[s3]'") from error
    try:
        return fsspec.core.url_to_fs(text)
    except ImportError as error:
        wanted = EXTRAS.get(scheme.lower())
        what = f"pip install 'a2i[{wanted}]'" if wanted else first_line(error)
        raise ImportError(f"{scheme}:// needs a package that is not installed: {what}") from error
    except ValueError as error:
        expected = "s3://BUCKET/…, gs://BUCKET/…, https://… or another that fsspec reads"
        raise ValueError(f"got {without_secrets(text)}, an address of an unknown kind; expected {expected}") from error
    except Exception as error:
        raise refused(error, text) from error


def refused(error: BaseException, text: str) -> AddressError:
    """What a server's refusal means, and what to do.

    Args:
        error: of fsspec, or of what it works with.
        text: the address.
    """
    where, kind = without_secrets(text), type(error).__name__
    if isinstance(error, AddressError):
        return error
    if isinstance(error, PermissionError):
        why = "access denied; expected credentials that may use it"
    elif "Credentials" in kind:
        why = "no credentials were found that open it; expected some in the environment or in the provider's own file"
    elif isinstance(error, FileNotFoundError) or "NoSuchBucket" in str(error):
        why = "there is no such bucket, folder or file"
    elif getattr(error, "status", None):
        why = f"the server answers with HTTP status {error.status}"  # type: ignore[attr-defined]
    elif isinstance(error, TimeoutError):
        why = "no answer in time; is the network up?"
    else:
        why = f"can't be had ({without_secrets(first_line(error))})"
    return AddressError(f"{where}: {why}")


def found_at(text: str, is_sound: Callable[[str], bool]) -> list[Address]:
    """The sounds that an address means: one, those of a folder and of all below it, or those of a pattern.

    Args:
        text: an address; with `*` or `[` a pattern, and a folder if it ends with `/` or is one there.
        is_sound: whether a file in a folder is a sound, going by its name.

    Raises:
        ValueError: nothing is there, or nothing is known of such addresses.
        ImportError: a package for them is not installed.
        AddressError: it can't be looked at.
    """
    system, path = opened_system(text)
    on_web, nothing = is_web(text), ""
    try:
        if "*" in text or ("[" in text and not on_web):
            any_ending = text.endswith("*")
            found = [each for each in sorted(system.glob(path)) if not any_ending or is_sound(each)]
            nothing = "no file matches this pattern"
        elif text.endswith("/") or (not is_sound(text) and not on_web and system.isdir(path)):
            # What a listing kept from before tells nothing of a bucket that is gone.
            every = sorted(system.find(path))
            found = [each for each in every if is_sound(each)]
            if not every and not system.exists(path):
                raise FileNotFoundError(path)
            but = f", but {len(every):,} other file{'s' if len(every) != 1 else ''}" if every else ""
            nothing = f"no sound files in this folder{but}"
        else:
            return [Address(text)]
    except Exception as error:  # of fsspec and what it works with, whatever its kind: its message may hold the address
        raise refused(error, text) from error
    if not found:
        raise ValueError(f"{without_secrets(text)}: {nothing}")
    return [Address(each if on_web else str(system.unstrip_protocol(each))) for each in found]


def fetch(address: Address, path: Path) -> None:
    """Copy a sound to a file, piece by piece.

    Raises:
        AddressError: it can't be had.
    """
    try:
        system, place = opened_system(address.text)
        system.get_file(place, str(path))
    except Exception as error:
        path.unlink(missing_ok=True)
        raise refused(error, address.text) from error


class Fetched:
    """Files of sounds: those that lie elsewhere are copied to a temporary folder, a few ahead, and go when
    they are done, or when this does.

    Examples:
        >>> Fetched([Path("bell.wav"), Address("s3://bucket/rain.wav")], ahead=8).of(0)
        PosixPath('bell.wav')

    Args:
        sounds: in the order in which they are asked for.
        ahead: how many are copied before they are asked for.
    """

    def __init__(self, sounds: Sequence[Sound], ahead: int) -> None:
        self._sounds, self._ahead = sounds, ahead
        self._coming: dict[int, Future[None]] = {}
        self._next = 0
        self._pool: ThreadPoolExecutor | None = None
        self._folder: Path | None = None

    def of(self, place: int) -> Path:
        """The file of a sound, which may have come to nothing: `failure` tells why."""
        sound = self._sounds[place]
        self._begin(place)
        if not isinstance(sound, Address):
            return sound
        self._coming[place].exception()  # waits
        return self._path(place, sound)

    def failure(self, place: int) -> Exception | None:
        """Why a sound could not be fetched; None where it could, or is here."""
        error = self._coming[place].exception() if place in self._coming else None
        return error if isinstance(error, Exception) else None

    def told(self, place: int, message: str) -> str:
        """A message with the sound's address in place of its file here."""
        sound = self._sounds[place]
        return message.replace(str(self._path(place, sound)), str(sound)) if isinstance(sound, Address) else message

    def done(self, place: int) -> None:
        """Let go of a sound's file."""
        if self._coming.pop(place, None) is not None:
            self._path(place, self._sounds[place]).unlink(missing_ok=True)

    def _begin(self, place: int) -> None:
        while self._next < min(place + self._ahead + 1, len(self._sounds)):
            sound = self._sounds[self._next]
            if isinstance(sound, Address):
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(THREADS, "fetch")
                    self._folder = Path(mkdtemp(prefix="a2i-"))
                    weakref.finalize(self, shutil.rmtree, self._folder, True)
                self._coming[self._next] = self._pool.submit(fetch, sound, self._path(self._next, sound))
            self._next += 1

    def _path(self, place: int, sound: Sound) -> Path:
        assert self._folder is not None
        return self._folder / f"{place}{sound.suffix[:16]}"
