"""Whether a caption tells of two sources one after the other, and in their order."""

import re

from a2i.data.foley.phrases import WORDS

ONE_AFTER_THE_OTHER = re.compile(r"\b(then|after|afterwards|followed|before|first|later|in the end|gives way)\b")
BACKWARDS = re.compile(r"(?<!^)\bafter\b(?! that\b)")  # "the bell after the rain"; but "after the rain, the bell"


def says_in_order(caption: str, first: str, second: str) -> bool:
    """For example "A bell rings, then it rains" of bell and rain; and not "a bell rings while it rains"."""
    text = caption.lower()
    places = [_place(text, source) for source in (first, second)]
    if None in places or not ONE_AFTER_THE_OTHER.search(text):
        return False
    told = places[0] < places[1]  # type: ignore[operator]
    return not told if BACKWARDS.search(text) else told


def _place(text: str, source: str) -> int | None:
    found = [match.start() for match in re.finditer(r"[a-z]+", text) if match.group() in WORDS[source]]
    return min(found, default=None)
