"""The kinds of sound: what each is called, by people and by data sets, and sentences that name it.

The table is `kinds.tsv`: a row a kind, with | between the values of a cell. Its columns are those of `Kind`.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from a2i.data.unnamed import captions as unnamed

NONE = "none"  # the category of what has no source: silence, noise, unknown
PEOPLE = "people"
_TABLE = Path(__file__).with_name("kinds.tsv")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")

# Phrases that hold a word of some kind, and mean no source by it.
_NO_SOURCE = (
    *("type of", "types of", "kind of", "sort of", "step by step", "rock and roll"),
    *("chopping of", "hot dog", "hot dogs", "wave of applause", "waves of applause", "rubber band", "rubber bands"),
)


@dataclass(frozen=True)
class Kind:
    """A kind of sound, or a category of kinds.

    Attributes:
        kind: its keyword, in plain English, unique.
        category: the keyword of its category; of a category, itself; `NONE` for what has no source.
        sort_of: the more general kinds that it is a special sort of, as a church bell is a bell; its category is one.
        kin: all kinds that its captions may name as well: these, those of its category, and what is heard or used with it.
        words: whole words and phrases in lower case, any of which names it in a caption; the usual one first.
        called: what data sets call it: ``"urban:dog"``; a * stands for any text.
        audioset: the classes of AudioSet that mean it, if any.
        sentences: sentences of ours that name it, and no other kind that is not kin.
    """

    kind: str
    category: str
    sort_of: frozenset[str]
    kin: frozenset[str]
    words: tuple[str, ...]
    called: tuple[str, ...]
    audioset: tuple[str, ...]
    sentences: tuple[str, ...]


def _read() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            name, category = row["kind"], row["category"]
            cells = {key: tuple(filter(None, cell.split("|"))) for key, cell in row.items()}
            if category == NONE:
                cells |= {"words": unnamed.WORDS[name], "sentences": unnamed.SENTENCES[name]}
            general = kinds[category].kin if category in kinds else frozenset()  # a category stands before its kinds
            sort_of = frozenset({*cells["sort_of"], category}) - {name, NONE}
            kinds[name] = Kind(
                name,
                category,
                sort_of,
                (sort_of | general | {*cells["kin"], PEOPLE}) - {name},
                cells["words"],
                cells["called"],
                cells["audioset"],
                cells["sentences"],
            )
    return kinds


KINDS = _read()  # by keyword
CATEGORIES = tuple(name for name, kind in KINDS.items() if kind.category == name)


@cache
def _phrases() -> dict[str, frozenset[str]]:
    """The kinds that each phrase names; none for those that only look like it."""
    named: dict[str, set[str]] = {phrase: set() for phrase in _NO_SOURCE}
    for kind in KINDS.values():
        for phrase in kind.words:
            named.setdefault(phrase, set()).add(kind.kind)
    return {phrase: frozenset(kinds) for phrase, kinds in named.items()}


@cache
def _longest() -> int:
    return max(len(phrase.split()) for phrase in _phrases())


def words_of(caption: str) -> list[str]:
    """The words of a caption in lower case, without punctuation and without the 's of a possessive."""
    return [word.removesuffix("'s") for word in _WORD.findall(caption.lower().replace("’", "'"))]


@dataclass(frozen=True)
class Mention:
    """A phrase of a caption that names one or more kinds, and how many words stand before it."""

    start: int
    phrase: str
    kinds: frozenset[str]


def mentions(caption: str) -> list[Mention]:
    """The phrases of a caption that name kinds, in order. The longest phrase wins: "wind chimes" are no wind."""
    words, phrases, longest = words_of(caption), _phrases(), _longest()
    found, start = [], 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 0, -1):
            phrase = " ".join(words[start : start + length])
            if phrase in phrases:
                if phrases[phrase]:
                    found.append(Mention(start, phrase, phrases[phrase]))
                start += length
                break
        else:
            start += 1
    return found


def named_in(caption: str) -> set[str]:
    """The kinds, categories among them, that a caption names by one of their words."""
    return {kind for mention in mentions(caption) for kind in mention.kinds}


def names_only(caption: str, kinds: Iterable[str]) -> bool:
    """Whether a caption names each of the kinds, and nothing else but their kin and special sorts of them."""
    wanted, named = set(kinds), named_in(caption)
    allowed = {other for kind in wanted for other in KINDS[kind].kin}
    return wanted <= named and all(kind in wanted or kind in allowed or wanted & KINDS[kind].kin for kind in named)


@cache
def kind_of(data_set: str, called: str) -> str | None:
    """The kind that a data set means by a name, as in ``kind_of("urban", "dog")``; None if no kind has that name."""
    name = f"{data_set}:{called}"
    return next((k.kind for k in KINDS.values() if any(fnmatchcase(name, pattern) for pattern in k.called)), None)
