"""What an error says, in one line."""

import errno
import os
import re
from pathlib import Path
from pickle import UnpicklingError

_ACCOUNT = re.compile(r"(?<=://)[^/\s'\"]+@")  # name and password before a host
_ABSOLUTE = re.compile(r"(^|[\s'\"(])(/|\\\\|[A-Za-z]:[\\/])")


def first_line(error: BaseException) -> str:
    """The first line that an error says, for a library's, which may say many; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    if isinstance(error, UnpicklingError):  # torch says how it can be loaded all the same
        return "it holds something other than numbers, which is not run"
    return without_account(lines[0]) if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """All that an error says, in one line; of a relative path that is not there, what it is relative to."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        if error.filename is None and error.strerror not in (None, os.strerror(errno.ENOSPC)):
            return " ".join(error.strerror.split())  # of a2i, before anything was written
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}no space left on the disk; free some, or choose a folder on another"
    if isinstance(error, OSError) and error.errno == errno.EROFS and isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: nothing can be written there, as it is read-only; choose another folder"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{os.fsdecode(error.filename) if not isinstance(error.filename, int) else error.filename}: {error.strerror}"
    else:
        message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError) and not _ABSOLUTE.search(message):
        message += f" (relative paths begin in {Path.cwd()})"
    return without_account(message)


def without_account(text: str) -> str:
    """A text without the names and passwords that addresses in it hold, as those of proxies do."""
    return _ACCOUNT.sub("…@", text)


def with_kind(error: BaseException) -> str:
    """`one_line`, behind the error's kind where no user is expected to have caused it."""
    message = one_line(error)
    return message if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {message}"
