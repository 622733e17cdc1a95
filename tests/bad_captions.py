"""Tables of captions such as nobody should write, made by rule from one that is in order, each with what may become of it."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MANY = 100_000  # rows


@dataclass(frozen=True)
class Table:
    """A table in order.

    Attributes:
        header: names of the columns; the first is that of the files' names, the last is nobody's.
        rows: their cells, of two or more files.
        text: the column that a reader can't do without, beside the first.
        more: the other columns that it reads.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str
    more: tuple[str, ...] = ()

    def written(self, delimiter: str = ",", end: str = "\n", **changes: Sequence[Sequence[str]]) -> str:
        """As CSV; `header` and `rows` may be others."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
        writer.writerow(changes.get("header", self.header))
        writer.writerows(changes.get("rows", self.rows))
        return text.getvalue()

    def changed(self, row: int, column: str, value: str) -> bytes:
        """As CSV with another value in one cell."""
        rows = [list(cells) for cells in self.rows]
        rows[row][self.header.index(column)] = value
        return self.written(rows=rows).encode()


@dataclass(frozen=True)
class Case:
    """A table's bytes.

    Attributes:
        kind: which rule made it.
        name: which of the rule's.
        content: what is in the file.
        fate: `same` (read as the table in order is), `read`, `refused`, or `either` where both are right.
        says: a pattern of what the refusal has to say.
    """

    kind: str
    name: str
    content: bytes
    fate: str
    says: str = ""


def corpus(table: Table) -> list[Case]:
    """All of them."""
    return [case for rule in RULES for case in rule(table)]


def encodings(table: Table) -> Iterator[Case]:
    text, crlf = table.written(), table.written(end="\r\n")
    for name in ("utf-8", "utf-8-sig", "utf-16"):
        yield Case("encoding", name, crlf.encode(name), "same")
    yield Case("encoding", "utf-16-be with a mark", b"\xfe\xff" + text.encode("utf-16-be"), "same")
    for name in ("utf-16-le", "utf-16-be", "utf-32"):
        yield Case("encoding", f"{name} without a mark", text.encode(name), "refused", "NUL bytes|whole UTF-16|byte 0x")
    for name in ("latin-1", "cp1252", "mac-roman", "cp437"):
        yield Case(
            "encoding",
            name,
            text.encode(name),
            "refused",
            r"line 2 has the byte 0x\w\w .*save it again as CSV in UTF-8",
        )
    yield Case("encoding", "shift-jis", "犬が吠える".encode("shift-jis"), "refused", "line 1 has the byte")
    yield Case("encoding", "two marks", b"\xef\xbb\xbf" * 2 + text.encode(), "either")
    yield Case("encoding", "half a mark", b"\xef\xbb" + text.encode(), "refused", "line 1 has the byte")
    yield Case("encoding", "utf-16 cut in a character", text.encode("utf-16")[:-1], "refused", "nor whole UTF-16")
    yield Case("encoding", "a lone surrogate", text.encode("utf-16") + b"\x00\xd8", "refused", "nor whole UTF-16")


def separators(table: Table) -> Iterator[Case]:
    for name, delimiter in (("comma", ","), ("semicolon", ";"), ("tab", "\t")):
        for ending, end in (("LF", "\n"), ("CRLF", "\r\n"), ("CR", "\r")):
            yield Case("separator", f"{name} {ending}", table.written(delimiter, end).encode(), "same")
        yield Case("separator", f"{name} named", f"sep={delimiter}\r\n{table.written(delimiter)}".encode(), "same")
    yield Case("separator", "bar", table.written("|").encode(), "refused", "expected")
    mixed = table.written().split("\n", 1)
    yield Case(
        "separator",
        "another in the header",
        f"{mixed[0].replace(',', ';')}\n{mixed[1]}".encode(),
        "refused",
        "row 2: got",
    )
    yield Case("separator", "LF and CRLF mixed", table.written().replace("\n", "\r\n", 1).encode(), "same")
    yield Case("separator", "no end of the last line", table.written().rstrip("\n").encode(), "same")


def quotes(table: Table) -> Iterator[Case]:
    text = table.written()
    yield Case("quotes", "all quoted", _quoted(table), "same")
    yield Case("quotes", "opened and not closed", text.encode() + b'"', "refused", "not closed")
    first = text.index("\n") + 1
    yield Case("quotes", "opened in the middle", f'{text[:first]}"{text[first:]}'.encode(), "refused", "row 2")
    yield Case("quotes", "text behind them", text.replace(",", '","', 1).replace("\n", '"x"\n', 1).encode(), "either")
    yield Case("quotes", "single", text.replace('"', "'").encode(), "refused", "row 2: got")
    yield Case("quotes", "curly", text.replace('"', "“").encode(), "refused", "row 2: got")
    yield Case("quotes", "by a backslash", text.replace('""', '\\"').encode(), "refused", "row 2")


def columns(table: Table) -> Iterator[Case]:
    header, rows = table.header, table.rows
    for column in (header[0], table.text):
        place = header.index(column)
        less = table.written(header=_without(header, place), rows=[_without(row, place) for row in rows])
        yield Case("columns", f"without {column}", less.encode(), "refused", column.rstrip("_0123456789"))
        other = table.written(header=[f"{name}x" if name == column else name for name in header])
        yield Case("columns", f"{column} misspelt", other.encode(), "refused", column.rstrip("_0123456789"))
        double = table.written(header=[*header, column], rows=[(*row, row[place]) for row in rows])
        yield Case("columns", f"{column} twice", double.encode(), "refused", f"more than one column '{column}'")
    yield Case(
        "columns", "turned round", table.written(header=header[::-1], rows=[row[::-1] for row in rows]).encode(), "same"
    )
    extra = table.written(header=(*header, "duration"), rows=[(*row, "3.5") for row in rows])
    yield Case("columns", "one more", extra.encode(), "same")
    numbered = table.written(header=("", *header), rows=[(str(index), *row) for index, row in enumerate(rows)])
    yield Case("columns", "rows' numbers in front", numbered.encode(), "same")
    yield Case("columns", "empty ones behind", "".join(f"{line},,,\n" for line in _lines(table)).encode(), "same")
    yield Case(
        "columns", "blanks round the names", table.written(header=[f" {name} " for name in header]).encode(), "same"
    )
    yield Case("columns", "no header", "\n".join(_lines(table)[1:]).encode(), "refused", "expected|no column")
    yield Case("columns", "header only", table.written(rows=[]).encode(), "either")
    yield Case(
        "columns", "header twice", table.written(rows=[header, *rows]).encode(), "refused", "row 2: the header again"
    )
    short = "\n".join([*_lines(table), rows[0][0]])
    yield Case(
        "columns",
        "a row too short",
        short.encode(),
        "refused",
        f"row {len(rows) + 2}: got 1 cells?, expected {len(header)}",
    )
    long = "\n".join([*_lines(table), ",".join("x" * (len(header) + 3))])
    yield Case(
        "columns",
        "a row too long",
        long.encode(),
        "refused",
        f"row {len(rows) + 2}: got {len(header) + 3} cells, expected {len(header)}",
    )


def nothing(table: Table) -> Iterator[Case]:
    for name, content in (
        ("empty", b""), ("a blank", b" "), ("an empty line", b"\n"), ("blank lines", b"\r\n \r\n\n"), ("commas", b",,,\n,,,\n"),
        ("blanks and commas", b" , ,\n , ,\n"), ("a mark alone", b"\xef\xbb\xbf"), ("UTF-16's mark alone", b"\xff\xfe"),
        ("quotes", b'""\n""\n'), ("sep= alone", b"sep=;\n"), ("zeros", bytes(1000)), ("end of file", b"\x1a"),
        ("a number", b"7"), ("JSON", b'{"file_name": "a.wav", "caption": "x"}\n'), ("a page", b"<!doctype html>\n<p>404</p>\n"),
        ("xlsx", b"PK\x03\x04" + bytes(50)), ("xls", b"\xd0\xcf\x11\xe0" + bytes(50)), ("gz", b"\x1f\x8b" + bytes(50)),
        ("a sound", b"RIFF\x24\x00\x00\x00WAVEfmt "),
    ):  # fmt: skip
        yield Case("nothing", name, content, "refused")
    yield Case("nothing", "NUL in a cell", table.changed(0, table.header[-1], "a\0b"), "refused", "NUL bytes")
    yield Case("nothing", "empty rows between", table.written().replace("\n", "\n\n,,\n").encode(), "same")


def names(table: Table) -> Iterator[Case]:
    file, first = table.header[0], table.rows[0][0]
    for name in ("", " ", "\t", "\u00a0"):
        yield Case(
            "names", f"{name!r} for a file", table.changed(1, file, name), "refused", f"row 3.*{file}|row 3.*file name"
        )
    for name in ("../a.wav", "/etc/passwd", "C:\\a.wav", "sub/../../a.wav", "\\\\server\\a.wav"):
        yield Case("names", name, table.changed(1, file, name), "refused", "row 3.*leads out of")
    for name in ("gone.wav", first.upper(), first + ".wav", "sub/" + first, "x" * 300 + ".wav",
                 "a\\" + "x" * 5000, "*", "?", "a\nb.wav", "\x1b[31m",
                 "~", "$HOME", "NUL", ".", "a/" * 3000, "=1+1"):  # fmt: skip
        yield Case(
            "names", f"no such file: {name[:20]!r}", table.changed(1, file, name), "refused", "missing|no such|unknown"
        )
    other = table.changed(1, file, first.upper())
    yield Case("names", "no such file: other letters", other, "refused", f"'{first}' is there, and capitals count")
    for name in (first, f"./{first}", f"x/../{first}", f".\\{first}"):
        yield Case("names", f"twice, as {name}", table.changed(1, file, name), "refused", "row 3.*twice|row 3.*already")
    for form in ("NFC", "NFD"):
        written = [(unicodedata.normalize(form, row[0]), *row[1:]) for row in table.rows]
        yield Case("names", form, table.written(rows=written).encode(), "read")
    yield Case("names", "blanks behind one", table.changed(1, file, f"{table.rows[1][0]} "), "either")
    yield Case("names", "blanks before one", table.changed(1, file, f" {table.rows[1][0]}"), "either")


def cells(table: Table) -> Iterator[Case]:
    for word in ("nan", "None", "NULL", "N/A", "<NA>"):
        if table.text.startswith("caption"):
            yield Case(
                "cells",
                word,
                table.changed(1, table.text, word),
                "refused",
                f"row 3: {table.text} is '{re.escape(word)}'",
            )
    for name, value in (
        ("empty", ""), ("blank", "   "), ("formula", "=HYPERLINK(1)"), ("command", "@SUM(1)"), ("minus", "-1+1"),
        ("control", "a\x07\x1b[2J b"),
        ("line break", "a dog\nbarks"), ("form feed", "a dog\x0cbarks"), ("separator", "a, b; c\td"), ("emoji", "🐕‍🦺"),
        ("right to left", "\u202egnikrab"),
        ("zero width", "\u200b\u2060"), ("line separator", "a\u2028b\x85c"), ("HTML", "<script>alert(1)</script>"),
        ("interpolation", "${oc.env:HOME}"),
        ("template", "{{ 7*7 }}%s%n"), ("punctuation", "...!?"), ("long", "a dog barks " * 10_000),
    ):  # fmt: skip
        yield Case("cells", name, table.changed(1, table.text, value), "either")
    yield Case(
        "cells", "very long", table.changed(1, table.text, "x" * 200_000), "refused", "row 3: .*field larger than"
    )
    yield Case("cells", "a note very long", table.changed(1, table.header[-1], "x" * 100_000), "same")


RULES: tuple[Callable[[Table], Iterator[Case]], ...] = (encodings, separators, quotes, columns, nothing, names, cells)


def many(table: Table) -> bytes:
    """A table of `MANY` rows; only the first few files are there."""
    rows = [*table.rows, *((f"{number}.wav", *table.rows[0][1:]) for number in range(MANY - len(table.rows)))]
    return table.written(rows=rows).encode()


def _lines(table: Table) -> list[str]:
    return table.written().splitlines()


def _without(cells: Sequence[str], place: int) -> list[str]:
    return [*cells[:place], *cells[place + 1 :]]


def _quoted(table: Table) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([table.header, *table.rows])
    return text.getvalue().encode()
