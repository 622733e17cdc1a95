"""`results.jsonl`: a row for each sound, kept over runs; and the names of the pictures, which the rows own.

Rows are appended as they come, so that a kill at any moment loses none; a row that another replaced goes when the file is
written anew, beside the old one and then in its place.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote_from_bytes

from a2i.audio.addresses import Address, Sound, key_of
from a2i.audio.inputs import readable, real_path
from a2i.file_names import DIGITS, PictureNames, caseless
from a2i.machine import name_limit

FILE = "results.jsonl"
LOCK = ".results.lock"
STORYBOARD = "scenes.json"  # what a storyboard's folder is known by
GRID = ".grid"  # behind the stem of a sound that has a grid of pictures
MODEL_FILES = ("captioner.json", "model_index.json", "config.json")  # one of them is in a model's folder
CONTENT = 64 << 20  # bytes; larger files of a model's folder are known by size and time, which takes no seconds
KEPT = (
    "what was done before is kept; make room, or choose another folder with out=FOLDER, and run the same command again"
)
PART = re.compile(r"\.([0-9a-f]{16}|results\.jsonl)\.part")  # what is being written, here and in `Result.save`
STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # names of what a program was given, whatever that is


@dataclass(frozen=True)
class RowSettings:
    """What decides a row beside the sound, as short hashes; `image` is None where no picture is asked for."""

    caption: str
    image: str | None


def settings_of(caption: dict[str, Any], image: dict[str, Any] | None) -> RowSettings:
    """Hashes of settings. A local folder among the values counts by what is in it, wherever it lies.

    Args:
        caption: what decides the caption, as JSON has it.
        image: what decides the picture beside the caption; None for no picture.
    """
    return RowSettings(_hash(caption), None if image is None else _hash(image))


def _hash(settings: dict[str, Any]) -> str:
    known = json.dumps(_by_content(settings), sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()[:DIGITS]


def _by_content(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _by_content(item) for key, item in value.items()}
    if isinstance(value, str) and value and any(os.path.isfile(os.path.join(value, name)) for name in MODEL_FILES):
        folder = Path(value)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return [[file.relative_to(folder).as_posix(), *_content(file)] for file in files]
    return value


def _content(file: Path) -> list[Any]:
    if (status := file.stat()).st_size > CONTENT:
        return [status.st_size, status.st_mtime_ns]
    return [_digest(file)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark_of(sound: Sound, name: str | None) -> dict[str, Any]:
    """What tells a sound's file, and whether it changed: `name`, `bytes`, `modified` (nanoseconds since 1970), `sha256`; None
    where there is none.

    Args:
        sound: a file; of one elsewhere nothing is known.
        name: as `ResultsFile.key` gives it.
    """
    if isinstance(sound, Address):
        return {"name": name, "bytes": None, "modified": None, "sha256": None}
    size = modified = digest = None
    with suppress(OSError, ValueError):
        status = sound.stat()
        if stat.S_ISREG(status.st_mode):
            size, modified = status.st_size, status.st_mtime_ns
            digest = _digest(sound)
    return {"name": name, "bytes": size, "modified": modified, "sha256": digest}


@dataclass(frozen=True, slots=True)
class _Row:
    """What is remembered of a row: where its line is, and what tells whether it still holds."""

    offset: int
    length: int
    failed: bool
    image: str | None
    grid: str | None
    image_bytes: int | None
    settings: RowSettings
    bytes: int | None
    modified: int | None
    sha256: str | None
    files: tuple[str, ...] = ()  # of a storyboard, relative to the results


class ResultsFile:
    """The results in a folder, which belong to this process while they are open.

    Examples:
        >>> with ResultsFile(Path("out")) as results:
        ...     results.has(Path("bell.wav"), settings_of({"captioner": "mini"}, None))
        False

    Args:
        folder: made if it is not there.
        wait: called once if another process has the results open, before waiting for it.

    Raises:
        OSError: when opened, the folder can't be made or written to.
    """

    def __init__(self, folder: Path, wait: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.notes: list[str] = []  # what is to be told of the file as it was found
        self._wait = wait
        self._rows: dict[str, _Row] = {}
        self._folders: dict[Path, str] = {}
        self._end = 0  # of the file, in bytes
        self._kept = 0  # bytes of the rows that count
        self._made = False
        self._is_ours = True  # nothing else wrote into the file

    def __enter__(self) -> "ResultsFile":
        from filelock import FileLock, Timeout

        try:
            self._made = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                self._wait()
                self._lock.acquire()
        except OSError as error:
            raise type(error)(
                f"{readable(self.folder)}: can't be written to ({error.strerror or error});"
                " expected a folder that can: out=FOLDER"
            ) from error
        try:
            self._real = os.path.realpath(self.folder)
            self._file = Path(os.path.realpath(self.path))
            self._clear()
            self._read()
            owned = {key: row.image for key, row in self._rows.items() if row.image}
            owned |= {_key_of_more(key, GRID): row.grid for key, row in self._rows.items() if row.grid}
            self._names = PictureNames(owned, name_limit(self.folder), self._is_free)
            folders = {key: Path(row.files[0]).parent.name for key, row in self._rows.items() if row.files}
            self._folder_names = PictureNames(folders, name_limit(self.folder), self._is_free_folder, ending="")
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._kept < self._end:
                # What was added is on disk; that rows which it replaced are there too does no harm.
                with suppress(OSError):
                    self._write_anew()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        # While it is still held: one who waits sees that the file is gone, and makes another.
        with suppress(OSError):
            (self.folder / LOCK).unlink()
        self._lock.release()
        if self._made:
            with suppress(OSError):  # there is something in it
                self.folder.rmdir()

    def key(self, sound: Sound) -> str | None:
        """What a sound is known by: its path relative to the results, so that both can be moved together, percent-encoded as
        in a web address, since a name may hold bytes that are no text; or its address. None for a pipe or device: what
        comes out of it is another sound each time.
        """
        if isinstance(sound, Address):
            return key_of(sound)
        return None if _is_stream(sound) else self._key(sound)

    def _key(self, sound: Path) -> str:
        real = real_path(sound, self._folders)
        # Another drive has no relative path to it.
        with suppress(ValueError):
            real = os.path.relpath(real, self._real)
        return quote_from_bytes(os.fsencode(Path(real).as_posix()), safe="/:+,=@()' ")

    def mark(self, sound: Sound, file: Path | None = None) -> dict[str, Any]:
        """What tells a sound's file, and whether it changed, as `mark_of` gives it: of a sound elsewhere, its copy here."""
        return mark_of(file or sound, self.key(sound))

    def has(self, sound: Sound, settings: RowSettings) -> bool:
        """Whether what is asked is there: no error, same settings, the sound unchanged (if it is here), the picture whole."""
        key = self.key(sound)
        row = self._rows.get(key) if key else None
        if row is None or row.failed or row.settings.caption != settings.caption:
            return False
        if settings.image is not None and row.settings.image != settings.image:
            return False
        if row.files:
            is_there = all((self.folder / name).is_file() for name in row.files)
        else:
            is_there = settings.image is None or (self._has_picture(row) and self._has_grid(row))
        return is_there and (isinstance(sound, Address) or _is_unchanged(sound, row))

    def picture_name(self, sound: Sound, more: str = "") -> str:
        """File name for a sound's picture: the same in every run, and no other sound's.

        Args:
            sound: of the picture.
            more: behind its stem: `GRID` for its grid.
        """
        return self._names.of(_key_of_more(self.key(sound) or self._other_key(), more), sound.stem + more)

    def folder_name(self, sound: Path) -> str:
        """Name for the folder of a sound's storyboard: the same in every run, and no other sound's."""
        return self._folder_names.of(self.key(sound) or self._other_key(), sound.stem)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; it replaces the sound's earlier one, except that an error does not replace what was done with the same
        settings: it still holds.

        Args:
            row: as JSON has it, with `audio_file` as `mark` gives it.

        Raises:
            ValueError: it holds a number that is none.
            OSError: it can't be written. What was there stays.
        """
        key = row["audio_file"]["name"]
        before = self._rows.get(key) if key else None
        if row["error"] is not None and before and _holds(before, row):
            return
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            with self._file.open("ab", buffering=0) as file:
                # Where something else wrote into the file too, it is left as it is when we close.
                end = file.seek(0, os.SEEK_END)
                self._is_ours &= end == self._end
                left = memoryview(line)
                try:
                    while left:
                        left = left[file.write(left) :]
                except OSError:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            raise type(error)(f"{readable(self.path)}: can't be written ({error.strerror or error}); {KEPT}") from error
        self._remember(key or self._other_key(), _row_of(row, end, len(line)))
        self._end = end + len(line)

    def _remember(self, key: str, row: _Row) -> None:
        if key in self._rows:
            self._kept -= self._rows[key].length
        self._rows[key] = row
        self._kept += row.length

    def _clear(self) -> None:
        """Take away what a kill left half written."""
        with os.scandir(self.folder) as entries:
            left = [entry.path for entry in entries if PART.fullmatch(entry.name)]
        for path in left:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)  # of a storyboard
            with suppress(OSError):
                os.unlink(path)

    def _read(self) -> None:
        """Take note of the rows that are there; what a kill left of a last line is taken away."""
        if not self._file.exists():
            return
        unreadable, line = 0, b"\n"
        with self._file.open("rb") as file:
            for line in file:
                offset, self._end = self._end, self._end + len(line)
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    if not line.endswith(b"\n"):
                        self.notes.append(f"{readable(self.path)}: the last line was cut off; its sound is done again")
                        continue
                    row = None
                try:
                    self._remember(self._key_of(row), _row_of(row, offset, len(line)))
                except (ValueError, KeyError, TypeError, AttributeError):
                    unreadable += 1
                    self._remember(self._other_key(), _row_of({"error": "unreadable"}, offset, len(line)))
        if unreadable:
            self.notes.append(f"{readable(self.path)}: {unreadable} of its lines are no results; they stay as they are")
        if self._kept < self._end or not line.endswith(b"\n"):
            self._write_anew()

    def _key_of(self, row: dict[str, Any]) -> str:
        if "audio_file" in row:
            return row["audio_file"]["name"] or self._other_key()
        return self._key(Path(row["audio"]))  # of a version that kept no more

    def _other_key(self) -> str:
        """Of a row that no other replaces."""
        return f"?{len(self._rows)}"  # no sound's: there the sign is encoded

    def _write_anew(self) -> None:
        """Write the rows that count, each where its sound's first one was, beside the file and then in its place."""
        if not self._is_ours or self._file.stat().st_size != self._end:
            return
        part = self._file.with_name(f".{FILE}.part")
        rows, end = {}, 0
        try:
            with self._file.open("rb") as old, part.open("wb") as new:
                for key, row in self._rows.items():
                    old.seek(row.offset)
                    line = old.read(row.length).rstrip(b"\n") + b"\n"
                    new.write(line)
                    rows[key] = replace(row, offset=end, length=len(line))
                    end += len(line)
                new.flush()
                os.fsync(new.fileno())
            shutil.copymode(self._file, part)
            part.replace(self._file)
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise type(error)(f"{readable(part)}: can't be written ({error.strerror or error})") from error
            raise
        self._rows, self._end, self._kept = rows, end, end

    def _has_picture(self, row: _Row) -> bool:
        try:
            size = (self.folder / (row.image or "")).stat().st_size if row.image else None
        except OSError:
            return False
        return size is not None and size == row.image_bytes

    def _has_grid(self, row: _Row) -> bool:
        """Whether it is there, where one was drawn."""
        return row.grid is None or (self.folder / row.grid).is_file()

    def _is_free(self, name: str) -> bool:
        """Whether no file of that name is there, or only a picture of ours that a kill left without its row."""
        path = self.folder / name
        if not os.path.lexists(path):
            return True
        try:
            with path.open("rb") as file:
                return path.is_file() and b"tEXtSoftware\0a2i" in file.read(1 << 16)
        except OSError:
            return False

    def _is_free_folder(self, name: str) -> bool:
        """Whether nothing of that name is there, or only a storyboard of ours that a kill left without its row."""
        if caseless(name) in (FILE, LOCK) or PART.fullmatch(name):  # the results' own, there or not yet
            return False
        path = self.folder / name
        if not os.path.lexists(path):
            return True
        try:
            return '"software": "a2i"' in (path / STORYBOARD).read_text("utf-8")[:100]
        except (OSError, ValueError):
            return False


def _key_of_more(key: str, more: str) -> str:
    """What a second picture of a sound is known by; no sound is, since in keys the sign is encoded."""
    return f"{key}?{more}" if more else key


def _holds(before: _Row, failed: dict[str, Any]) -> bool:
    """Whether an earlier row answers what was asked, of the same sound as far as one can know, where a later one failed."""
    asked = RowSettings(failed["caption_settings"], failed["image_settings"])
    return (
        not before.failed
        and before.settings.caption == asked.caption
        and asked.image in (None, before.settings.image)
        and failed["audio_file"]["sha256"] in (None, before.sha256)
    )


def _is_unchanged(sound: Path, row: _Row) -> bool:
    """By size and time; where only the time differs, as after copying, by content."""
    try:
        status = sound.stat()
        if status.st_size != row.bytes:
            return False
        return status.st_mtime_ns == row.modified or (row.sha256 is not None and _digest(sound) == row.sha256)
    except (OSError, ValueError):
        return False


def _is_stream(sound: Path) -> bool:
    try:
        mode = sound.stat().st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISREG(mode):  # as /dev/stdin is after `< a.wav`, and another the next time
        return os.path.abspath(sound).startswith(STREAMS)
    return not stat.S_ISDIR(mode)


def _row_of(row: dict[str, Any], offset: int, length: int) -> _Row:
    mark, image = row.get("audio_file") or {}, row.get("image")
    return _Row(
        offset,
        length,
        failed=row["error"] is not None,
        image=Path(image).name if image else None,
        grid=Path(row["grid"]).name if row.get("grid") else None,
        image_bytes=row.get("image_bytes"),
        settings=RowSettings(str(row.get("caption_settings")), row.get("image_settings")),
        bytes=mark.get("bytes"),
        modified=mark.get("modified"),
        sha256=mark.get("sha256"),
        files=tuple("/".join(Path(name).parts[-2:]) for name in _storyboard_files(row)),
    )


def _storyboard_files(row: dict[str, Any]) -> list[str]:
    """The files of a row's storyboard."""
    pictures = [scene["image"] for scene in row.get("scenes", ()) if scene.get("image")]
    files = [row.get(name) for name in ("page", "sound", "sheet", "video")] + row.get("subtitles", []) + pictures
    return [file for file in files if file] if row.get("page") else []
