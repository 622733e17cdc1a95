"""Manifests: tables of which a column holds the paths or addresses of sounds, read a piece at a time."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from a2i.audio.addresses import (
    Address,
    AddressError,
    Sound,
    is_address,
    is_web,
    opened_system,
    refused,
    without_secrets,
)
from a2i.errors import first_line

ENDINGS = (".parquet", ".csv", ".jsonl")
ROWS = 4_096  # of a parquet file, that are in memory at once
NOTHING = "rows of the manifest that name no sound"


def is_manifest(text: str) -> bool:
    """Whether a name is that of a manifest, going by its ending."""
    return _ending(text) in ENDINGS


def _ending(text: str) -> str:
    text = text.strip()
    return (Address(text).suffix if is_address(text) else os.path.splitext(text)[1]).lower()


def sounds_of(manifest: str, column: str, skipped: Counter[str]) -> Iterator[Sound]:
    """The sounds of a manifest in its order, as often as they stand there.

    Args:
        manifest: path or address of a `.parquet`, `.csv` (with a head, in UTF-8) or `.jsonl` file (an object a line).
        column: with paths and addresses; relative ones begin in the manifest's own folder.
        skipped: counts the rows that name no sound.

    Raises:
        ValueError: it is no such table, or lacks the column.
        OSError: it can't be read.
        ImportError: a package that reads it is not installed.
    """
    reading = {".parquet": _of_parquet, ".csv": _of_csv}.get(_ending(manifest), _of_json)
    place = manifest.partition("?")[0] if is_web(manifest) else manifest
    base = place.rpartition("/")[0] if is_address(manifest) else os.path.dirname(os.path.abspath(manifest))
    with _opened(manifest) as file:
        for value in _told(reading(file, without_secrets(manifest), column), manifest):
            if not isinstance(value, str) or not value.strip() or "\0" in value:
                skipped[NOTHING] += 1
            elif is_address(value.strip()):
                yield Address(value.strip())
            elif is_address(base) and not value.startswith("/"):
                yield Address(f"{base}/{value}")
            else:
                yield Path(base, os.path.expanduser(value.removeprefix("file://")))


def _told(values: Iterator[Any], manifest: str) -> Iterator[Any]:
    """The same values; what breaks off in their midst is told as the manifest's."""
    try:
        yield from values
    except (ValueError, ImportError, AddressError):
        raise
    except Exception as error:
        if is_address(manifest):
            raise refused(error, manifest) from error
        raise AddressError(f"{manifest}: can't be read to its end ({first_line(error)})") from error


@contextmanager
def _opened(manifest: str) -> Iterator[BinaryIO]:
    if not is_address(manifest):
        with open(manifest, "rb") as file:
            yield file
        return
    system, path = opened_system(manifest)
    try:
        remote = system.open(path, "rb")
    except Exception as error:
        raise refused(error, manifest) from error
    with remote:
        yield remote


def _of_parquet(file: BinaryIO, name: str, column: str) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{name}: pyarrow is not installed: pip install 'a2i[ray]'") from error
    try:
        table = ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{name}: can't be read as parquet; expected a table with a column {column}") from error
    _check(column, table.schema_arrow.names, name)
    try:
        for batch in table.iter_batches(ROWS, columns=[column]):
            yield from batch.column(0).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{name}: is damaged ({without_secrets(first_line(error))}); write it anew") from error


def _of_csv(file: BinaryIO, name: str, column: str) -> Iterator[Any]:
    with TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text:
        rows = csv.DictReader(text)
        _check(column, rows.fieldnames or (), name)
        try:
            for row in rows:
                yield row[column]
        except csv.Error as error:
            raise ValueError(f"{name}: line {rows.line_num:,} can't be read as csv ({error})") from error


def _of_json(file: BinaryIO, name: str, column: str) -> Iterator[Any]:
    found = None
    for line in file:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if found is None and isinstance(row, dict):
            _check(column, row, name)  # by its first row: a later one that lacks it names no sound
            found = True
        yield row.get(column) if isinstance(row, dict) else None
    if found is None:
        raise ValueError(f"{name}: holds no JSON objects; expected one a line, with a key {column}")


def _check(column: str, columns: Iterable[str], name: str) -> None:
    if column not in (there := list(columns)):
        has = ", ".join(there[:12]) + (", …" if len(there) > 12 else "")
        raise ValueError(
            f"{name}: has no column {column!r}; expected audio_column= one of {has or 'none: it is empty'}"
        )
