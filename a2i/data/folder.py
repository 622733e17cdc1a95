"""Caption tables beside folders of sounds: how they are read, and `Folder`, a data set of the user's own."""

import codecs
import csv
import hashlib
import html
import io
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from a2i.data import Clip

SPLITS = ("train", "val", "test")
MAX_NAMES_LISTED = 20
_CAPTION_COLUMN = re.compile(r"caption(_\d+)?")
_CAPTION = re.compile(r"caption(_\d+|_predicted)?")
_READ = re.compile(
    rf"file_name|{_CAPTION.pattern}|split|start|end|error"
)  # columns that a2i reads, in one table or another
_QUOTED = "a cell that holds what separates cells (a comma, a semicolon or a tab)"
# What programs write for a value that is missing. Beside a reference 'nan' such a caption would be a perfect one.
_MISSING = frozenset({"nan", "none", "null", "na", "<na>", "n/a", "#n/a"})


class MissingRecordingsError(FileNotFoundError):
    """Recordings that a table names are not on disk; `missing` has every name, the message at most twenty."""

    def __init__(self, missing: list[str], folder: Path, advice: str) -> None:
        self.missing = missing
        names = ", ".join(repr(name) for name in missing[:MAX_NAMES_LISTED])
        more = f" and {len(missing) - MAX_NAMES_LISTED} more" if len(missing) > MAX_NAMES_LISTED else ""
        count = "1 recording is" if len(missing) == 1 else f"{len(missing)} recordings are"
        super().__init__(f"{count} missing in {told(folder)}: {names}{more}; {advice}")


def read_table(csv_path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table as (row number, cells by column), numbered as a spreadsheet shows them: the header is row 1.

    Commas, semicolons or tabs may separate cells: the one that finds most of `columns` in the header is taken. The encoding
    is UTF-8, or UTF-16 as in Excel's "Unicode text". Empty rows, and empty cells beyond the header's, are ignored. The names
    of columns that a2i reads may have capitals and blanks around them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: with the row's number: a column is missing or there twice, a row has too few or too many cells, a caption
            is a word for a missing value such as "nan", or the file is no such table.
    """
    columns = list(columns)
    if not csv_path.is_file():
        raise FileNotFoundError(f"no caption table at {told(csv_path)}; expected a CSV file with the columns {columns}")
    rows = _split_up(csv_path, _text(csv_path), columns)
    header = [_column(cell) for cell in rows[0][1]] if rows else []
    absent = [column for column in columns if column not in header]
    if absent:
        raise ValueError(f"{csv_path} has the columns {header}, expected {absent} too; add them to its first row")
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise ValueError(
            f"{csv_path} has more than one column {', '.join(map(repr, twice))}; expected each once: rename or remove one"
        )
    while header and not header[-1]:
        header.pop()
    table = []
    for number, row in rows[1:]:
        if row[: len(header)] == rows[0][1][: len(header)]:
            raise ValueError(
                f"{csv_path}, row {number}: the header again, as where tables were joined; remove that row"
            )
        if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
            advice = "a missing value is an empty cell" if len(row) < len(header) else f"put {_QUOTED} in double quotes"
            raise ValueError(f"{csv_path}, row {number}: got {len(row)} cells, expected {len(header)}; {advice}")
        cells = dict(zip(header, row, strict=False))
        for column, text in cells.items():
            if _CAPTION.fullmatch(column) and text.strip().casefold() in _MISSING:
                raise ValueError(
                    f"{csv_path}, row {number}: {column} is {text.strip()!r}, as programs write a value that is missing; "
                    "expected a caption, or an empty cell where there is none"
                )
        table.append((number, cells))
    return table


def told(path: Path) -> str:
    """A path for a message; for a relative path also the folder that it is relative to."""
    return str(path) if path.is_absolute() else f"{path} (relative to {Path.cwd()})"


def _text(path: Path) -> str:
    """What a table holds, as text without a byte order mark."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    advice = "save it again as CSV in UTF-8"
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")):  # .xlsx and .ods, .xls, .gz
        raise ValueError(f"{path} is not a CSV file in UTF-8 but a spreadsheet or an archive; {advice}")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(
                f"{path} is not a CSV file in UTF-8, nor whole UTF-16 ({error.reason}); {advice}"
            ) from error
        line = re.split(rb"\r\n|\r|\n", content[: error.start])
        guess = content[error.start : error.start + 1].decode("cp1252", "replace")
        raise ValueError(
            f"{path} is not a CSV file in UTF-8: line {len(line)} has the byte 0x{content[error.start]:02x} "
            f"({guess!r} in Latin-1 and Windows' encodings); {advice}"
        ) from error
    if "\0" in text:
        raise ValueError(f"{path} is not a CSV file in UTF-8: it has NUL bytes, as UTF-16 without a mark has; {advice}")
    return text


def _split_up(path: Path, text: str, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Rows that hold a character, by number."""
    # Excel's own first line, which no spreadsheet shows.
    if marked := re.match(r"sep=([,;\t])(?:\r\n|\r|\n)", text):
        text = text[marked.end() :]
    delimiter = marked.group(1) if marked else _delimiter(text, columns)
    # Lines as `open` gives them with newline="": str.splitlines would also break captions at a form feed.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            rows.append(row)
    except csv.Error as error:
        quotes = "; is a double quote there opened and not closed?" if '"' in text else ""
        raise ValueError(f"{path}, row {len(rows) + 1}: not a CSV file ({error}){quotes}") from error
    lines = ((number, row) for number, row in enumerate(rows, start=1) if any(row))
    return [(number, row) for number, row in lines if len(row) > 1 or row[0].strip()]


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """Comma, semicolon or tab: the one by which the header has most of the columns, and of those that a2i reads. Captions are
    prose, and no evidence."""

    def known(delimiter: str) -> tuple[int, int]:
        try:
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            header = next((row for row in lines if any(row)), [])
        except csv.Error:
            return 0, 0
        names = {_column(cell) for cell in header}
        return len(names.intersection(columns)), sum(_READ.fullmatch(name) is not None for name in names)

    return max(",;\t", key=known)


def _column(cell: str) -> str:
    """A column's name: as a2i spells it, if it is one of those that a2i reads."""
    name = re.sub(r"[\s-]+", "_", cell.strip().casefold())
    return name if _READ.fullmatch(name) else cell.strip()


def place_in(folder: Path, name: str) -> Path:
    """The relative path in a folder that a table's file name stands for; `./`, `b/../` and backslashes are taken out of it.

    Links are followed when a file is opened: a link is made by who owns the folder, a name may be written by anyone.

    Raises:
        ValueError: it leads out of the folder.
    """
    path = os.path.normpath(name.replace("\\", "/"))
    place = Path(path)  # once: a table may have a hundred thousand names
    if place.is_absolute():
        for root in map(
            os.path.normpath, (folder.absolute(), folder.resolve())
        ):  # which a link to the folder makes two
            if place.is_relative_to(root):
                return place.relative_to(root)
    # A drive's or a root's name alone, as of C:a.wav, is no folder of ours either, where the system knows such.
    if place.anchor or PureWindowsPath(path).is_absolute() or place.parts[:1] == (os.pardir,):
        raise ValueError(
            f"the file name {name!r} leads out of {told(folder)}; expected one that lies there: put the file into it"
        )
    return place


def named_place(folder: Path, name: str, where: str, column: str = "file_name") -> Path:
    """`place_in` for a row of a table.

    Raises:
        ValueError: the name is blank, or leads out of the folder; begins with `where`, the table and the row.
    """
    if not name.strip():
        raise ValueError(f"{where}: {column} is empty; expected a path relative to {told(folder)}")
    try:
        return place_in(folder, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def locate(names: Iterable[str], folder: Path, advice: str) -> dict[str, Path]:
    """The file of each name, relative to `folder`.

    A name that is not there to the letter may differ from the file's in its Unicode normal form, in HTML entities
    (Clotho has ``rain&amp;storm.wav``) and in blanks at the ends of the stem, where exactly one file fits and no other
    name wants it: file systems and unpackers change all three. It may have Windows' backslashes. An absolute name is one
    that lies in the folder.

    Raises:
        MissingRecordingsError: lists exactly the names that have no file; ends with `advice`.
        ValueError: a name leads out of the folder.
    """
    wanted = {name: folder / place_in(folder, name) for name in names}
    for name in wanted:
        if "\\" in name and "/" not in name and os.path.isfile(folder / name):
            wanted[name] = folder / name  # where a backslash is no separator, one may be part of a name
    paths = set(wanted.values())
    present = {path for parent in {path.parent for path in paths} if os.path.isdir(parent) for path in parent.iterdir()}
    free: dict[Path, list[Path]] = {}
    for path in present - paths:
        free.setdefault(_loose(path), []).append(path)
    claims = Counter(_loose(path) for path in paths - present)
    found, missing = [], []
    for name, path in wanted.items():
        fitting = [path] if path in present else free.get(_loose(path), [])
        if len(fitting) == 1 and (path in present or claims[_loose(path)] == 1) and fitting[0].is_file():
            found.append(fitting[0])
        else:
            missing.append(name)
    if missing:
        raise MissingRecordingsError(missing, folder, _in_other_letters(missing, wanted, present) + advice)
    return dict(zip(wanted, found, strict=True))


def _in_other_letters(missing: Iterable[str], wanted: dict[str, Path], present: Iterable[Path]) -> str:
    """The beginning of an advice where a missing name is a file's but for its capitals; else nothing."""
    others = {str(path).casefold(): path.name for path in present}
    for name in missing:
        if (file := others.get(str(wanted[name]).casefold())) is not None:
            return f"{file!r} is there, and capitals count: write the names as the files have them; or "
    return ""


def _loose(path: Path) -> Path:
    name = Path(unicodedata.normalize("NFC", html.unescape(path.name)).strip())
    return path.with_name(name.stem.strip() + name.suffix)


def position(name: str, seed: int = 0) -> float:
    """A fixed pseudo-random number in [0, 1) for a file name (MD5), to divide files among splits.

    It depends on nothing else, so adding or removing files moves no other file to another split.
    """
    digest = hashlib.md5(f"{seed}/{unicodedata.normalize('NFC', name)}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:6]) / 2**48


class Folder:
    """Any folder of sounds with a caption table.

    Columns: ``file_name`` (relative to `root`, and within it); ``caption`` or ``caption_1`` …, of which at least one has
    text in each row; if wanted ``split`` (train, val or test) and ``start``, ``end`` (seconds). Without ``split``, each file
    goes to a split by a hash of its name. A part of a file is called ``name#t=start,end``, as in W3C media fragments.

    Args:
        root: the folder.
        captions: the table's path, relative to `root`.
        val_share: share of the files for validation where the table has no column ``split``.
        test_share: likewise for the test.
        seed: another seed divides the files in another way.

    Examples:
        >>> clips = Folder("sounds").clips("train")
        >>> sorted(clip.name for clip in clips)
        ['bell.wav', 'rain.wav']
    """

    def __init__(
        self,
        root: str | Path,
        captions: str = "captions.csv",
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(
                f"got val_share={val_share} and test_share={test_share}; expected at least 0 each and a sum below 1"
            )
        self.root, self.table = Path(root), Path(root) / captions
        self.val_share, self.test_share, self.seed = val_share, test_share, seed

    def prepare(self) -> None:
        """Check the table and that every recording is there; nothing is made."""
        locate([cells["file_name"] for _, cells in self._rows()], self.root, self._advice)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, in the table's order.

        Raises:
            FileNotFoundError: there is no table, or recordings are missing.
            ValueError: the table can't be read (with the row's number), or no row belongs to the split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        rows = [cells for number, cells in self._rows() if self._split(number, cells) == split]
        if not rows:
            raise ValueError(
                f"{self.table} has no row for {split!r}; give it a column 'split', or set data.{split}_share"
            )
        paths = locate([cells["file_name"] for cells in rows], self.root, self._advice)
        return [_clip(cells, paths[cells["file_name"]]) for cells in rows]

    @property
    def _advice(self) -> str:
        return f"add them, or remove their rows from {self.table}"

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        seen: dict[tuple[Path, float | None, float | None], int] = {}
        rows = read_table(self.table, ("file_name",))
        for number, cells in rows:
            where = f"{self.table}, row {number}"
            place = named_place(self.root, cells["file_name"], where)
            if not _captions(cells):
                raise ValueError(
                    f"{where}: no caption; expected text in a column 'caption' or 'caption_1', 'caption_2' …"
                )
            try:
                start, end = _seconds(cells, "start"), _seconds(cells, "end")
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if start is not None and end is not None and start >= end:
                raise ValueError(f"{where}: start {start:g} s is not before end {end:g} s; exchange or correct them")
            name = _name(cells)
            if (part := (place, start, end)) in seen:
                raise ValueError(f"{where}: {name!r} is already in row {seen[part]}; put its captions into one row")
            seen[part] = number
            self._split(number, cells)
        return rows

    def _split(self, number: int, cells: dict[str, str]) -> str:
        if "split" in cells:
            split = cells["split"].strip()
            if split not in SPLITS:
                raise ValueError(f"{self.table}, row {number}: split {split!r}; expected one of {', '.join(SPLITS)}")
            return split
        place = position(cells["file_name"].replace("\\", "/"), self.seed)
        return "val" if place < self.val_share else "test" if place < self.val_share + self.test_share else "train"


def _captions(cells: dict[str, str]) -> tuple[str, ...]:
    texts = (text.strip() for column, text in cells.items() if _CAPTION_COLUMN.fullmatch(column))
    return tuple(text for text in texts if text)


def _seconds(cells: dict[str, str], column: str) -> float | None:
    text = cells.get(column, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{column} {text!r}; expected seconds of at least 0, such as 2.5, or nothing")
    return value


def _name(cells: dict[str, str]) -> str:
    start, end = (cells.get(column, "").strip() for column in ("start", "end"))
    return f"{cells['file_name']}#t={start}" + (f",{end}" if end else "") if start or end else cells["file_name"]


def _clip(cells: dict[str, str], path: Path) -> Clip:
    return Clip(_name(cells), path, _captions(cells), _seconds(cells, "start"), _seconds(cells, "end"))
