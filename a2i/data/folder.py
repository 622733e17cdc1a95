"""A caption table beside a folder of sounds: the reading of such tables, and any folder of the user's as a source."""

import csv
import hashlib
import html
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from a2i.data import Clip

SPLITS = ("train", "val", "test")
MAX_NAMES_LISTED = 20
_CAPTION_COLUMN = re.compile(r"caption(_\d+)?")


class MissingRecordingsError(FileNotFoundError):
    """Recordings that a table names are not on disk; `missing` has every name, the message at most twenty."""

    def __init__(self, missing: list[str], folder: Path, advice: str) -> None:
        self.missing = missing
        names = ", ".join(repr(name) for name in missing[:MAX_NAMES_LISTED])
        more = f" and {len(missing) - MAX_NAMES_LISTED} more" if len(missing) > MAX_NAMES_LISTED else ""
        count = "1 recording is" if len(missing) == 1 else f"{len(missing)} recordings are"
        super().__init__(f"{count} missing in {folder}: {names}{more}; {advice}")


def read_table(csv_path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a UTF-8 CSV as (row number, cells by column); the header is row 1, as a spreadsheet shows it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a row has too few or too many cells, or the file is not a CSV in UTF-8.
    """
    if not csv_path.is_file():
        raise FileNotFoundError(f"no caption table at {csv_path}; expected a CSV file with the columns {list(columns)}")
    try:
        with csv_path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{csv_path} is not a CSV file in UTF-8 ({error}); save it again as one") from error
    header = rows[0] if rows else []
    absent = [column for column in columns if column not in header]
    if absent:
        raise ValueError(f"{csv_path} has the columns {header}, expected {absent} too; add them to its first row")
    table = []
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != len(header):
            raise ValueError(
                f"{csv_path}, row {number}: got {len(row)} cells, expected {len(header)}; "
                "put a cell that holds a comma in double quotes"
            )
        if row:
            table.append((number, dict(zip(header, row, strict=True))))
    return table


def locate(names: Iterable[str], folder: Path, advice: str) -> dict[str, Path]:
    """The file of each name, relative to `folder`.

    A name that is not there to the letter may differ from the file's in its Unicode normal form, in HTML entities
    (Clotho has ``rain&amp;storm.wav``) and in blanks at the ends of the stem, where exactly one file fits and no other
    name wants it: file systems and unpackers change all three.

    Raises:
        MissingRecordingsError: lists exactly the names that have no file; ends with `advice`.
    """
    wanted = {name: folder / name for name in names}
    paths = set(wanted.values())
    present = {path for parent in {path.parent for path in paths} if parent.is_dir() for path in parent.iterdir()}
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
        raise MissingRecordingsError(missing, folder, advice)
    return dict(zip(wanted, found, strict=True))


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

    Columns: ``file_name`` (relative to `root`); ``caption`` or ``caption_1`` …, of which at least one has text in each
    row; if wanted ``split`` (train, val or test) and ``start``, ``end`` (seconds). Without ``split``, each file goes to
    a split by a hash of its name. A part of a file is called ``name#t=start,end``, as in W3C media fragments.

    Args:
        root: the folder.
        captions: the table's path, relative to `root`.
        val_share: share of the files for validation where the table has no column ``split``.
        test_share: likewise for the test.
        seed: another seed divides the files in another way.
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
        seen: dict[str, int] = {}
        rows = read_table(self.table, ("file_name",))
        for number, cells in rows:
            where = f"{self.table}, row {number}"
            if not cells["file_name"].strip():
                raise ValueError(f"{where}: file_name is empty; expected a path relative to {self.root}")
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
            if name in seen:
                raise ValueError(f"{where}: {name!r} is already in row {seen[name]}; put its captions into one row")
            seen[name] = number
            self._split(number, cells)
        return rows

    def _split(self, number: int, cells: dict[str, str]) -> str:
        if "split" in cells:
            split = cells["split"].strip()
            if split not in SPLITS:
                raise ValueError(f"{self.table}, row {number}: split {split!r}; expected one of {', '.join(SPLITS)}")
            return split
        place = position(cells["file_name"], self.seed)
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
