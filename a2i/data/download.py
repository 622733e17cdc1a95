"""Download files, checked by MD5 and resumed after an interruption, and unpack 7z archives (the extra `download`).

pooch downloads to a temporary name, checks, and renames; but it starts a broken download from the beginning. Clotho's
archives have gigabytes, so the downloader here keeps what arrived and asks for the rest (HTTP range requests, RFC 9110, 14).
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

ATTEMPTS = 5
CHUNK = 2**16  # bytes; what a broken connection can lose
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte


def require_extra() -> None:
    """Raises ImportError, saying what to install, where the libraries that download and unpack are not installed."""
    try:
        import pooch  # noqa: F401
        import py7zr  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; downloading needs the extra 'download': pip install 'a2i[download]'") from error


def part_of(path: Path, md5: str) -> Path:
    """The file of a partial download; its name has the checksum, since versions of a file share a name."""
    return path.with_name(f"{path.name}.{md5[:8]}.part")


def fetch(url: str, path: Path, md5: str, wait: float = 1.0) -> Path:
    """Download `url` to `path`, unless it is there already.

    What has arrived lies in a file ``*.part`` until the whole is there and its checksum is right: after a broken
    connection or Ctrl-C, calling again fetches only the rest.

    Args:
        url: http or https.
        path: where to put it.
        md5: the checksum, hexadecimal.
        wait: seconds before the second attempt; each further one waits twice as long.

    Raises:
        ConnectionError: the server could not be reached, or broke off `ATTEMPTS` times without sending a byte.
        ValueError: the checksum of what came, or of what was there already, is another. What came is removed, what was
            there is kept.
    """
    import pooch

    if path.exists():
        found = pooch.file_hash(str(path), alg="md5")
        if found != md5:
            raise ValueError(f"{path} has the MD5 {found}, expected {md5}; it is another file or version: move it away")
        return path
    downloader = _continuing(part_of(path, md5), wait)
    try:
        pooch.retrieve(url, known_hash=f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
    except ValueError as error:
        raise ValueError(f"{url}: {error}; what came was removed: try again, or look for a newer checksum") from error
    return path


def _continuing(part: Path, wait: float) -> Callable[[str, str, Any], None]:
    """A pooch downloader that goes on from `part`, as often as the connection breaks, and hands over the whole file."""
    import requests

    def download(url: str, output_file: str, _pooch: Any) -> None:
        failures, furthest = 0, -1
        while True:
            try:
                _append(url, part)
                break
            except requests.RequestException as error:
                refused = error.response is not None and error.response.status_code not in (429, 500, 502, 503, 504)
                size = part.stat().st_size if part.exists() else 0
                failures = 1 if size > furthest else failures + 1
                furthest = max(furthest, size)
                if refused or failures >= ATTEMPTS:
                    raise ConnectionError(
                        f"{url}: {error}; {size} bytes are kept in {part}: run the same command again to continue"
                    ) from error
                time.sleep(wait * 2 ** (failures - 1))
        os.replace(part, output_file)

    return download


def _append(url: str, part: Path) -> None:
    """Ask once for the bytes that `part` lacks and write them to its end."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416 and content_range == f"bytes */{have}":
            return  # stopped between the last byte and the renaming
        goes_on = response.status_code == 206 and content_range.startswith(f"bytes {have}-")
        if have and not goes_on and response.status_code in (206, 416):
            part.unlink()  # not the rest of this file
            raise requests.ConnectionError(f"asked for the bytes from {have} on, got {content_range!r}")
        response.raise_for_status()
        have = have if goes_on else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with (
            Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress,
            part.open("ab" if goes_on else "wb") as file,
        ):
            task = progress.add_task(part.name.rsplit(".", 2)[0], total=total, completed=have)
            for chunk in response.iter_content(CHUNK):
                progress.advance(task, file.write(chunk))
        if total is not None and part.stat().st_size < total:
            raise requests.ConnectionError(f"broke off at {part.stat().st_size} of {total} bytes")


def remote_size(url: str) -> int:
    """Bytes that `url` would send, or 0 where the server does not say."""
    import requests

    try:
        response = requests.head(url, headers={"Accept-Encoding": "identity"}, allow_redirects=True, timeout=TIMEOUT)
        response.raise_for_status()
    except requests.RequestException as error:
        raise ConnectionError(f"{url}: {error}; check the connection and run the same command again") from error
    return int(response.headers.get("Content-Length", 0))


def in_bytes(count: int) -> str:
    """A number of bytes, in the unit that suits it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def require_space(folder: Path, needed: int, what: str) -> None:
    """Log how much disk space `what` needs; raise if `folder` has less.

    Raises:
        OSError: with `errno.ENOSPC`.
    """
    free = shutil.disk_usage(folder).free
    message = f"{what} needs about {in_bytes(needed)} in {folder}, where {in_bytes(free)} are free"
    if needed > free:
        raise OSError(errno.ENOSPC, f"{message}; make room, or choose another folder")
    logger.info(message)


def unpack(archive: Path, folder: Path, suffix: str = ".wav") -> int:
    """Unpack a 7z archive and put its files of one kind straight into `folder`, whatever folders it has inside.

    Links are left out: they could lead to any file of this machine. An interrupted call leaves no half-written file in
    `folder`: each is moved there when the archive is unpacked.

    Returns:
        The number of files.
    """
    import py7zr

    unpacked = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    logger.info("unpacking %s", archive)
    try:
        with py7zr.SevenZipFile(archive) as file:
            file.extractall(unpacked)
        folder.mkdir(parents=True, exist_ok=True)
        files = [path for path in sorted(unpacked.rglob("*")) if path.suffix == suffix and path.is_file()]
        files = [path for path in files if not path.is_symlink()]
        for path in files:
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return len(files)
