"""Which sounds `audio=` means. A folder, a pattern and a list give the same answer.

- Linked folders are entered, each real folder once: a loop of links ends, and a file that is reached by two ways is one sound.
- Of a folder, what can be heard by its ending (`audio.SUFFIXES`) is taken; hidden files and folders, and those that systems
  make for themselves, are not. What is named alone is taken whatever it is: a device, a pipe, a file without an ending.
- Nothing is passed over in silence: `Skipped` tells what was left out.
"""

import codecs
import glob
import os
import re
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from a2i import audio
from a2i.audio.addresses import Address, Sound, found_at, is_address
from a2i.audio.manifests import is_manifest, sounds_of

LISTS = frozenset({".m3u", ".m3u8", ".lst", ".list"})
# Kept by macOS, Windows, Synology and ext4 for themselves; other such folders begin with a dot.
SYSTEM_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"})
NAMED = 8  # endings that are told; the others are counted together
EXPECTED = "expected FILE, a folder (. for this one), a pattern, an address or a list"


@dataclass
class Skipped:
    """What was left out while sounds were looked for.

    Attributes:
        files: how many, by ending or reason.
        folders: how many were hidden.
        unreadable: a line for each folder that could not be opened.
    """

    files: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    unreadable: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to tell: at most one line, and one for each folder that could not be opened."""
        told = [f"{count:,} {reason}" for reason, count in self.files.most_common(NAMED)]
        if others := self.files.total() - sum(count for _, count in self.files.most_common(NAMED)):
            told.append(f"{others:,} others")
        parts = [f"{_counted(self.files.total(), 'file')}: {', '.join(told)}"] if told else []
        parts += [_counted(self.folders, "hidden folder")] if self.folders else []
        return ([f"skipped {' and '.join(parts)}"] if parts else []) + self.unreadable


def find_sounds(sounds: str | Sequence[str], skipped: Skipped | None = None, column: str = "audio") -> list[Sound]:
    """The files that `audio=` means: a file, a folder (with all below it), a glob pattern, a text file that lists one path
    a line, a manifest, or several of these as a list or with commas between. Each file once, in order. All but a text file
    may lie elsewhere: an address, or a folder or pattern of some.

    Args:
        sounds: as given.
        skipped: takes note of what was left out.
        column: of a manifest, with the sounds.

    Raises:
        ValueError: nothing was asked for, or nothing was found. A file that is missing is no error here, nor is a pattern
            or folder without sounds among others: it becomes a failed result, and the others go on.
        OSError: an address can't be looked at.
        ImportError: a package for addresses of a kind, or for a manifest, is not installed.
    """
    skipped = Skipped() if skipped is None else skipped
    refuse_nothing(sounds)
    if (manifest := manifest_of(sounds)) is not None:
        return _once(sounds_of(manifest, column, skipped.files), skipped)
    found = _meant(sounds, skipped) if isinstance(sounds, str) else _each(list(sounds), skipped)
    return _once(found, skipped)


def each_sound(sounds: str | Sequence[str], skipped: Skipped, column: str = "audio") -> Iterator[Sound]:
    """As `find_sounds`, but those of a manifest as they are read, and as often as they stand there: it may have millions."""
    if (manifest := manifest_of(sounds)) is not None:
        yield from sounds_of(manifest, column, skipped.files)
    else:
        yield from find_sounds(sounds, skipped)


def manifest_of(sounds: str | Sequence[str]) -> str | None:
    """The manifest that `audio=` means: a table which is named alone, here or elsewhere. None for anything else."""
    if not isinstance(sounds, str) or not is_manifest(sounds):
        return None
    if is_address(sounds):
        return sounds
    path = _located(sounds)
    return str(path) if _kind(path) == "file" else None


def refuse_nothing(sounds: str | Sequence[str]) -> None:
    """No sounds are meant by nothing: least of all the working folder, for which an empty path stands.

    Raises:
        ValueError: nothing was asked for, or nothing by one of several.
    """
    if isinstance(sounds, str):
        _refuse_empty(sounds, "audio=")
    elif not sounds:
        raise ValueError(f"got audio=[], an empty list; {EXPECTED}")
    else:
        for number, item in enumerate(sounds, 1):
            _refuse_empty(item, f"item {number} of audio=")


def readable(name: str | Path | Address) -> str:
    """A file's name as text that can be written anywhere: a byte that is no text in it becomes %FF, or whichever it is."""
    text = re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found.group()) - 0xDC00:02X}", str(name))
    return text.encode("utf-8", "replace").decode()


def real_path(path: Path, folders: dict[Path, str] | None = None) -> str:
    """The path that a sound is known by: no links in its folder; a link itself keeps its name.

    Args:
        path: of the sound.
        folders: real paths of folders, by their path; new ones are put in. Thousands of sounds share a few.
    """
    folders = {} if folders is None else folders
    try:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(folders[path.parent], path.name)
    except (OSError, ValueError):  # no name that the system could know
        return os.path.abspath(path)


def _meant(text: str, skipped: Skipped) -> list[Sound]:
    if is_address(text) and not ("," in text and all(map(is_address, map(str.strip, text.split(","))))):
        return [*found_at(text, _can_be_heard)]
    path = _located(text)
    kind = _kind(path)
    if kind == "file" and path.suffix.lower() in {".txt", *LISTS} and path.is_file():
        return _listed(path, skipped)
    if kind == "file":
        return [path]
    if kind == "folder":
        return _below(path, skipped)
    parts = [part.strip() for part in text.split(",")]
    if _is_pattern(text):
        try:
            return _matching(text, skipped)
        except ValueError:
            if len(parts) == 1:
                raise
    if len(parts) == 1:
        return [path]
    refuse_nothing(parts)
    return _each(parts, skipped)


def _refuse_empty(text: object, where: str) -> None:
    if not isinstance(text, str | int | float) or isinstance(text, bool):
        raise ValueError(f"got {text!r} in {where}; {EXPECTED}")
    if not str(text).strip() and (not text or not os.path.isfile(str(text))):
        raise ValueError(f"{where} is empty; {EXPECTED}. Is a variable unset?")


def _each(items: list[str], skipped: Skipped) -> list[Sound]:
    """What each of several means. A text file among them is a file like any other: who names all of a folder's files has
    notes among them; a playlist is a list.
    """
    found: list[Sound] = []
    for item in items:
        path = _located(str(item))
        if _kind(path) == "file" and path.suffix.lower() in LISTS and path.is_file():
            found += _listed(path, skipped)
        else:
            found += _one(str(item), path, skipped)
    return found


def _one(text: str, path: Path, skipped: Skipped, base: Path | None = None) -> Sequence[Sound]:
    """What one of several means: a file, a folder's sounds, a pattern's; itself where there are none."""
    if is_address(text.strip()):
        try:
            return found_at(text.strip(), _can_be_heard)
        except (ValueError, OSError, ImportError):  # told again when it is fetched
            return [Address(text.strip())]
    try:
        kind = _kind(path)
        if kind == "folder":
            return _below(path, skipped)
        if kind is None and _is_pattern(text):
            return _matching(text if base is None else os.path.join(glob.escape(str(base)), text), skipped)
    except ValueError:
        pass
    return [path]


def _kind(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # not there; too long for a name: several with commas between; no name at all
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def _located(text: str, bases: Sequence[Path] = (Path(),)) -> Path:
    """The file or folder of that name, also where another system wrote it; the name as it stands where there is none."""
    for base in bases:
        for spelling in _spellings(text):
            if spelling and _kind(base / spelling):
                return base / spelling
    return bases[0] / text


def _spellings(text: str) -> Iterator[str]:
    yield text
    text = text.strip()
    yield text
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
        yield text
    if text.startswith("~"):
        yield os.path.expanduser(text)
    if text.lower().startswith("file:"):
        yield url2pathname(urlsplit(text).path)
    if "\\" in text:
        yield text.replace("\\", "/")
    if "%" in text:
        yield unquote(text)
        yield unquote(text.replace("\\", "/"))
    if not text.isascii():  # macOS writes accents as letters of their own
        yield from (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    if not text.isascii() and re.search("[\udc80-\udcff]", text):  # a list that is older than UTF-8
        yield text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _listed(path: Path, skipped: Skipped) -> list[Sound]:
    """What a list means, a path a line, relative to the list's own folder or else to the working folder."""
    raw = path.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16") if wide else raw.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text; expected a list with a path a line, in UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path}: is no text; expected a list with a path a line, in UTF-8")
    playlist = path.suffix.lower() in (".m3u", ".m3u8")
    bases = list(dict.fromkeys((path.parent, Path())))
    found: list[Sound] = []
    some = False
    # Not `splitlines`: names may hold the rarer ends of lines.
    lines = [line.strip("\r") for line in re.split(r"\n|\r(?!\n)", text)]
    lines = [line for line in lines if line.strip()]
    for line in lines:
        if line.lstrip().startswith("#") and (playlist or _kind(_located(line, bases)) is None):
            continue  # a comment
        place = _located(line, bases)
        below = _one(line, place, skipped, path.parent)
        some = some or list(below) != [place] or _kind(place) is not None
        found += below
    if not found:
        raise ValueError(f"{path}: lists no files; expected one path a line")
    if not some:
        raise ValueError(
            f"{path}: lists {_counted(len(found), 'file')}, and none is there (first: {readable(found[0])}); expected a path a"
            f" line, relative to {os.path.abspath(path.parent)} or to {os.getcwd()}"
        )
    return found


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _below(folder: Path, skipped: Skipped) -> list[Sound]:
    """The sounds of a folder and of all below it."""
    here = Skipped()
    found = sorted(file for _, files in _folders(folder, here) for file in files if _is_sound(file, here))
    skipped.files += here.files
    skipped.folders += here.folders
    skipped.unreadable += here.unreadable
    if not found:
        but = "".join(f"; {line}" for line in here.lines())
        endings = ", ".join(sorted(audio.SUFFIXES))
        raise ValueError(f"{folder}: no sound files in this folder{but}; expected {endings}")
    return [*found]


def _matching(pattern: str, skipped: Skipped) -> list[Sound]:
    """The files that a pattern names; those that can be heard, where it says nothing of the ending."""
    here = Skipped()
    any_ending = pattern.endswith("*")
    matches = list(map(Path, _matches(os.path.expanduser(pattern), here)))
    found = [path for path in matches if _is_regular(path) and (not any_ending or _is_sound(path, here))]
    skipped.files += here.files
    skipped.folders += here.folders
    skipped.unreadable += here.unreadable
    if not found:
        folders = sum(_kind(path) == "folder" for path in matches)
        but = f", but {_counted(folders, 'folder')} (**/ looks below)" if folders else ""
        but += "".join(f"; {line}" for line in here.lines())
        raise ValueError(f"{pattern}: no file matches this pattern{but}, which is relative to {os.getcwd()}")
    return [*sorted(found)]


def _matches(pattern: str, skipped: Skipped) -> Iterator[str]:
    """Every match. What ** stands for are folders as `_folders` finds them: `glob` runs through loops of links."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    for base in glob.iglob(os.path.join(*parts[:place])) if place else [""]:
        if os.path.isdir(base or "."):
            for folder, _ in _folders(Path(base), skipped):
                yield from _matches(os.path.join(glob.escape(str(folder)), *rest), skipped)


def _folders(root: Path, skipped: Skipped) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and all below it, each with its files; linked ones last, so that what lies in a folder is found there."""
    own = os.path.realpath(root)
    seen: set[str] = set()
    folders, linked = deque([root]), deque[Path]()
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        real = os.path.realpath(folder)
        # A link to a folder around this one is a loop too: it means no more sounds than before.
        if real in seen or (real != own and os.path.commonpath([real, own]) == real):
            continue
        seen.add(real)
        files: list[Path] = []
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            skipped.unreadable.append(
                f"can't open the folder {readable(folder)} ({error.strerror}); went on without it"
            )
            continue
        for entry in entries:
            path = folder / entry.name
            if not _is_folder(entry):
                files.append(path)
            elif entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                skipped.folders += 1
            else:
                (linked if entry.is_symlink() else folders).append(path)
        yield folder, files


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _can_be_heard(name: str) -> bool:
    """Whether a file elsewhere is a sound, going by its name alone."""
    path = Path(name)
    return path.suffix.lower() in audio.SUFFIXES - audio.SHARED_SUFFIXES and not path.name.startswith(".")


def _is_sound(path: Path, skipped: Skipped) -> bool:
    """Whether a file of a folder is a sound, going by its name; takes note where not."""
    ending = path.suffix.lower()
    if path.name.startswith("."):
        reason = "hidden"
    elif ending not in audio.SUFFIXES or (ending in audio.SHARED_SUFFIXES and not _is_transport_stream(path)):
        reason = readable(ending) or "without an ending"
    elif not _is_regular(path):
        reason = "links to nothing" if path.is_symlink() and not path.exists() else "no regular files"
    else:
        return True
    skipped.files[reason] += 1
    return False


def _is_transport_stream(path: Path) -> bool:
    """.ts and .mts are TypeScript as well. A stream's packets begin with 0x47, every 188 bytes, or 192 with a time before."""
    try:
        with path.open("rb") as file:
            start = file.read(197)
    except OSError:
        return True  # reading it will say what is wrong
    return any(start[at : at + 1] == b"G" == start[at + step : at + step + 1] for at, step in ((0, 188), (4, 192)))


def _once(found: Iterable[Sound], skipped: Skipped) -> list[Sound]:
    """Each file once, where it was first named; under its own name rather than a link's."""
    paths, folders = list(found), dict[Path, str]()
    chosen: dict[str, tuple[int, bool]] = {}
    for place, path in enumerate(paths):
        if isinstance(path, Address):
            chosen.setdefault(path.text, (place, False))
            continue
        link = path.is_symlink()
        try:
            real = os.path.realpath(path) if link else real_path(path, folders)
        except (OSError, ValueError):
            real = str(path)
        if real not in chosen or (chosen[real][1] and not link):
            chosen[real] = (place, link)
    if again := len(paths) - len(chosen):
        skipped.files["found twice"] += again
    return [paths[place] for place, _ in sorted(chosen.values())]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("s" if count != 1 else "")
