"""Tables that nobody should write: each is read as a person means it, or refused in one clear line that names the file."""

import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_captions
import pytest
from bad_captions import Case, Table, corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.data import Clip
from a2i.data.captioned import Captioned, read_captions, with_pictures
from a2i.data.clotho import read_split
from a2i.data.folder import Folder
from a2i.data.labelled import Labelled
from a2i.data.sentences import read_sentences
from a2i.evaluate.kept import Caption, KeptCaptions
from a2i.results import ResultsFile, settings_of

NAMES = ("a.wav", "b.wav", "café.wav")
TEXTS = ("A dog barks, then it howls.", "Rain falls on a roof.", 'Someone says "déjà vu".')
NOTE = 'Äpfel, "roh"'  # in all encodings but ASCII; with what has to be quoted
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
SLOWEST = 30.0  # seconds of the processor for many rows


@dataclass(frozen=True)
class Reader:
    """One of those that read tables.

    Attributes:
        table: one in order.
        read: gives what it read of a table in a folder of sounds, as plain values.
        needs_sounds: whether it looks for the files.
        holds: rows of a table without any are refused.
    """

    table: Table
    read: Callable[[Path], list[Any]]
    needs_sounds: bool = True


def table(columns: Sequence[str], *cells: Sequence[str], text: str) -> Table:
    rows = tuple((name, *values, NOTE) for name, values in zip(NAMES, cells, strict=True))
    return Table(("file_name", *columns, "note"), rows, text)


def plain(clips: Sequence[Clip]) -> list[Any]:
    return [(clip.path.name, clip.captions) for clip in clips]


def folder(path: Path) -> list[Any]:
    source = Folder(path.parent, path.name, val_share=0, test_share=0)
    source.prepare()
    return plain(source.clips("train"))


def labelled(path: Path) -> list[Any]:
    source = Labelled(path.parent, path.name, "urban")
    source.prepare()
    return plain(source.clips("train"))


def predictions(path: Path, **more: Any) -> list[Any]:
    return [(clip.file_name.strip(), clip.caption, clip.references) for clip in read_captions(path, **more)]


KIND = Table(
    ("file", "kind", "recording", "note"),
    tuple((name, "dog", str(number), NOTE) for number, name in enumerate(NAMES)),
    "kind",
)
FIVE = [[text] * 5 for text in TEXTS]
READERS = {
    "folder": Reader(table(["caption", "split"], *([text, "train"] for text in TEXTS), text="caption"), folder),
    "clotho": Reader(table(CAPTIONS, *FIVE, text="caption_2"), lambda path: plain(read_split(path, path.parent))),
    "captions=": Reader(
        table(["caption_predicted", "caption_1"], *([text] * 2 for text in TEXTS), text="caption_predicted"),
        lambda path: predictions(path, sounds=path.parent),
        needs_sounds=False,
    ),
    "against=": Reader(
        table(["caption_predicted"], *([text] for text in TEXTS), text="caption_predicted"),
        lambda path: predictions(path, need_references=False, sounds=path.parent),
        needs_sounds=False,
    ),
    "labelled": Reader(KIND, labelled),
    "sentences": Reader(
        table(["caption"], *([text] for text in TEXTS), text="caption"),
        lambda path: [sentence.text for sentence in read_sentences([path])],
        needs_sounds=False,
    ),
}
# What a reader does not look at, or where it is right to be of another mind than the rest.
OTHERWISE = {
    ("sentences", "names"): "it reads captions alone",
    ("sentences", "columns/without file_name"): "it reads captions alone",
    ("sentences", "columns/file_name misspelt"): "it reads captions alone",
    ("captions=", "names/no such file"): "the sounds are found later, if they are wanted at all",
    ("against=", "names/no such file"): "the sounds are found later, if they are wanted at all",
}


def answer(reader: Reader, path: Path) -> tuple[list[Any] | None, str]:
    """What is read, or None with what is said.

    Raises:
        AssertionError: what is said is not one line that names the file or the folder of the sounds.
    """
    try:
        return reader.read(path), ""
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
    assert "\n" not in said.replace(str(path), ""), said
    assert said.isprintable(), said
    assert str(path) in said or str(path.parent) in said, said
    return None, said


def judge(name: str, case: Case, path: Path) -> str | None:
    """What is wrong with what becomes of a case; None where all is well."""
    path.write_bytes(case.content)
    got, said = answer(READERS[name], path)
    where = f"{case.kind}/{case.name}"
    if any((name, key) in OTHERWISE for key in (case.kind, where, where.partition(":")[0])):
        return None
    if case.fate in ("same", "read") and got is None:
        return f"{where}: refused, {said}"
    if case.fate == "same" and got != READERS[name].read(path.with_name("plain.csv")):
        return f"{where}: read as {got}"
    if case.fate == "refused" and (got is not None or not re.search(case.says, said)):
        return f"{where}: {f'said {said}' if got is None else f'read as {got}'}; expected {case.says!r}"
    return None


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each name; nothing reads what is in it."""
    root = tmp_path_factory.mktemp("sounds")
    for name in NAMES:
        (root / unicodedata.normalize("NFC", name)).touch()
    return root


@pytest.mark.parametrize("name", READERS)
def test_what_becomes_of_each(name: str, sounds: Path) -> None:
    (sounds / "plain.csv").write_text(READERS[name].table.written(), encoding="utf-8")
    cases = corpus(READERS[name].table)
    assert len(cases) > 100
    wrong = [said for case in cases if (said := judge(name, case, sounds / "table.csv"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_counts(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many were tried, read and refused, for the record."""
    counts: Counter[str] = Counter()
    for reader in READERS.values():
        for case in corpus(reader.table):
            (sounds / "table.csv").write_bytes(case.content)
            counts["refused" if answer(reader, sounds / "table.csv")[0] is None else "read"] += 1
    with capsys.disabled():
        print(f"\n{counts.total()} tables tried by {len(READERS)} readers: {dict(counts)}")
    assert counts.total() > 600


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_rows_are_read_in_seconds(name: str, sounds: Path) -> None:
    """A hundred thousand: where their files are missing that is said in one line."""
    path = sounds / "many.csv"
    path.write_bytes(bad_captions.many(READERS[name].table))
    began = time.process_time()
    got, said = answer(READERS[name], path)
    assert time.process_time() - began < SLOWEST
    if READERS[name].needs_sounds:
        assert f"{bad_captions.MANY - len(NAMES)} recordings are missing" in said
        assert len(said) < 2_000
    else:
        assert got


# --- By chance


PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "file_name",
                "caption",
                "caption_1",
                "caption_2",
                "caption_predicted",
                "file",
                "kind",
                "recording",
                "split",
                "start",
            ),
            *(
                "end",
                "error",
                "a.wav",
                "b.wav",
                "café.wav",
                "train",
                "dog",
                "A dog barks.",
                "nan",
                "../a.wav",
                "0.5",
                "sep=;",
            ),
            *(
                ",",
                ";",
                "\t",
                "\n",
                "\r",
                "\r\n",
                '"',
                '""',
                " ",
                "\0",
                "\ufeff",
                "\x85",
                "\x1b",
                "\u2028",
                "\udc80",
                "/",
                "\\",
                ".",
            ),
        ]
    ),
    st.text(max_size=5),
)
HEADERS = st.sampled_from([f"{','.join(reader.table.header)}\n" for reader in READERS.values()] + [""] * 4)
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=30)
@given(
    header=HEADERS,
    pieces=st.lists(PIECES, max_size=40),
    encoding=ENCODINGS,
    damage=st.lists(st.integers(0, 10**6), max_size=3),
)
def test_any_table_is_read_or_refused(
    name: str, sounds: Path, header: str, pieces: list[str], encoding: str, damage: list[int]
) -> None:
    content = bytearray(
        (header + "".join(pieces)).encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    )
    for where in damage:
        if content:
            content[where % len(content)] = where % 256
    path = sounds / "any.csv"
    path.write_bytes(content)
    answer(READERS[name], path)


# --- Rows of JSON, which a2i itself wrote once

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a.wav", "a\0.png", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *(
            "audio",
            "audio_file",
            "caption",
            "candidates",
            "confidence",
            "image",
            "image_bytes",
            "error",
            "caption_settings",
        ),
        *(
            "parts",
            "settings",
            "made_by",
            "sound",
            "file_name",
            "image_settings",
            "grid",
            "scenes",
            "page",
            "name",
            "sha256",
        ),
    ]
)
LINES = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=8).map(json.dumps),
    VALUES.map(json.dumps),
    st.text(max_size=9),
    st.sampled_from(["[" * 5_000, '{"a":' * 5_000, "1" * 5_000, "\0", "NaN"]),
)


@settings(max_examples=60)
@given(lines=st.lists(LINES, max_size=4))
def test_any_rows_are_read_or_refused(sounds: Path, lines: list[str]) -> None:
    """Of a folder of pictures, of captions that were kept, and of results."""
    out = sounds / "out"
    out.mkdir(exist_ok=True)
    for name in ("results.jsonl", "captions.jsonl"):
        (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    kept = KeptCaptions(out / "captions.jsonl", {"captioner": "x"})
    found, _ = kept.read([Clip("a.wav", sounds / "a.wav", ("x",))])
    assert all(isinstance(caption, Caption) for caption in found.values())
    with pytest.raises(ValueError, match=r"out.*(expected|remove)"):
        with_pictures([Captioned("a.wav", "x", ("y",))], out)
    with ResultsFile(out) as results:
        results.has(sounds / "a.wav", settings_of({}, None))
        assert results.picture_name(sounds / "a.wav").endswith(".png")
