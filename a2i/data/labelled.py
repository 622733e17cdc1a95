"""Tables of recordings that have a kind, and no captions: each clip gets sentences that name its kind."""

import random
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict

from a2i.data import Clip
from a2i.data.folder import SPLITS, locate, named_place, position, read_table
from a2i.data.kinds import KINDS, kind_of
from a2i.data.sentences import read_sentences


class HoldOut(TypedDict):
    """Rows of a table: those that have one of the values in a column."""

    column: str
    values: list[str | int | float]


class Labelled:
    """Recordings that a table names with the kind of each, as ``sounds.csv`` in its folder.

    The table has a column ``file`` (relative to `root`), one for the kind, and one for the recording that a file was cut
    from. A kind is one of `a2i.data.kinds`; rows whose name for it no kind goes by are left out. A split never has a
    recording that another has, and a recording is on the same side in every data set of this class: a hash of its name
    alone decides.

    Args:
        root: the folder of the recordings.
        table: the table's path, relative to `root`.
        called: the data set's name in the column ``called`` of the kinds' table.
        kind_column: the column that names the kind.
        recording_column: the column that names the recording.
        hold_out: ``{"column": "fold", "values": [4]}`` keeps all rows with one of the values out of training, and whatever
            else of their recordings there is: they are the split ``"test"``, and ``"val"`` too where `val_share` is 0.
        val_share: the share of the other recordings that is for validation.
        left_out: recordings that belong to no split, because another data set holds them out.
        captions_per_clip: different sentences for a clip, or as many as its kind has.
        corpora: caption tables whose sentences (`a2i.data.sentences`) clips get as well, up to half of theirs.
        seed: another seed gives the clips other sentences.
    """

    def __init__(
        self,
        root: str | Path,
        table: str,
        called: str,
        kind_column: str = "kind",
        recording_column: str = "recording",
        hold_out: HoldOut | None = None,
        val_share: float = 0.0,
        left_out: Collection[str | int] = (),
        captions_per_clip: int = 5,
        corpora: Sequence[str | Path] = (),
        seed: int = 0,
    ) -> None:
        if not 0 <= val_share < 1:
            raise ValueError(f"got val_share={val_share}; expected at least 0 and below 1")
        if captions_per_clip < 1:
            raise ValueError(f"got captions_per_clip={captions_per_clip}; expected 1 or more")
        if hold_out is not None and set(hold_out) != {"column", "values"}:
            raise ValueError(f"got hold_out={dict(hold_out)}; expected such as {{column: fold, values: [4]}}")
        if hold_out is not None and (isinstance(hold_out["values"], str) or not hold_out["values"]):
            raise ValueError(f"got hold_out.values={hold_out['values']!r}; expected a list of one value or more")
        self.root, self.table, self.called = Path(root), Path(root) / table, called
        self.kind_column, self.recording_column = kind_column, recording_column
        self.hold_out, self.val_share, self.left_out = hold_out, val_share, {str(name) for name in left_out}
        self.captions_per_clip, self.corpora, self.seed = captions_per_clip, tuple(corpora), seed

    def prepare(self) -> None:
        """Check the table and that every recording is there; nothing is made."""
        rows = self._rows()
        self._divided(rows)
        locate([row["file"] for row in rows], self.root, self._advice)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, in the table's order.

        Raises:
            FileNotFoundError: there is no table, or recordings are missing.
            ValueError: the split is unknown, the table can't be read, it has none of the values to hold out, or no row is
                for training, or for the test.
        """
        rows = self._split(split)
        paths = locate([row["file"] for row in rows], self.root, self._advice)
        return [
            Clip(
                row["file"],
                paths[row["file"]],
                self._captions(row),
                labels=frozenset({self._kind(row)}),
                recording=row[self.recording_column],
            )
            for row in rows
        ]

    def kinds(self, split: str) -> dict[str, str]:
        """The kind of each clip by its name: what a caption should name."""
        return {row["file"]: self._kind(row) for row in self._split(split)}

    @property
    def _advice(self) -> str:
        return f"add them, or remove their rows from {self.table}"

    def _split(self, split: str) -> list[dict[str, str]]:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        rows = self._divided(self._rows())[split]
        if not rows and split != "val":
            advice = "hold fewer rows out" if split == "train" else "set data.hold_out to the rows to test on"
            raise ValueError(f"{self.table} has no row for {split!r}; {advice}")
        return rows

    def _rows(self) -> list[dict[str, str]]:
        """The rows whose kind is known, once each."""
        held = [self.hold_out["column"]] if self.hold_out else []
        columns = ("file", self.kind_column, self.recording_column, *held)
        rows: list[dict[str, str]] = []
        places: set[Path] = set()
        for number, row in read_table(self.table, columns):
            place = named_place(self.root, row["file"], f"{self.table}, row {number}", "file")
            if place in places:
                raise ValueError(f"{self.table}, row {number}: {row['file']!r} stands there twice; remove one row")
            if kind_of(self.called, row[self.kind_column]):
                places.add(place)
                rows.append(row)
        if not rows:
            raise ValueError(
                f"{self.table} names no kind of a2i/data/kinds.tsv in the column {self.kind_column!r}; "
                f"expected names that its column 'called' has as '{self.called}:…'"
            )
        return rows

    def _divided(self, rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
        """The rows by split."""
        rows = [row for row in rows if row[self.recording_column] not in self.left_out]
        held: list[dict[str, str]] = []
        if self.hold_out:
            column, values = self.hold_out["column"], {str(value) for value in self.hold_out["values"]}
            present = {row[column] for row in rows}
            if absent := values - present:
                raise ValueError(
                    f"{self.table} has no {column} {', '.join(sorted(absent))} to hold out; "
                    f"it has {', '.join(sorted(present)[:20])}: set data.hold_out.values"
                )
            held = [row for row in rows if row[column] in values]
        recordings = {row[self.recording_column] for row in held}
        others = [row for row in rows if row[self.recording_column] not in recordings]
        val = [row for row in others if position(row[self.recording_column]) < self.val_share]
        train = [row for row in others if position(row[self.recording_column]) >= self.val_share]
        return {"train": train, "val": val if self.val_share else held, "test": held}

    def _kind(self, row: dict[str, str]) -> str:
        kind = kind_of(self.called, row[self.kind_column])
        assert kind is not None  # of such rows alone there are any
        return kind

    def _captions(self, row: dict[str, str]) -> tuple[str, ...]:
        """Sentences for a clip: always the same for the same kind, file and seed."""
        kind, chance = self._kind(row), random.Random(f"{self.seed}/{row['file']}")
        found = _by_kind(self.corpora).get(kind, [])
        found = chance.sample(found, min(len(found), self.captions_per_clip // 2))
        own = [sentence for sentence in KINDS[kind].sentences if sentence not in found]
        return (*chance.sample(own, min(len(own), self.captions_per_clip - len(found))), *found)


@cache
def _by_kind(corpora: tuple[str | Path, ...]) -> dict[str, list[str]]:
    """The corpora's sentences that name one kind alone, by that kind; read once for all data sets."""
    alone: dict[str, list[str]] = {}
    for sentence in read_sentences(corpora):
        if len(sentence.kinds) == 1:
            alone.setdefault(sentence.kinds[0], []).append(sentence.text)
    return alone
