"""What can be counted in captions, without a model and mostly without references.

Captions are compared as their words: in lower case and without punctuation, so 'A dog barks.' and 'a dog barks' are one.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from a2i.captioner.cleaning import words

SAME_SHARE = 0.5  # one caption for more than this share of the clips, or
SAME_DISTINCT = 0.02  # fewer distinct captions than this share, is a captioner that always says the same
SAME_COUNT = 10  # where there are at least as many captions


@dataclass(frozen=True)
class Counts:
    """Counts over N captions; shares are of all N, empty ones included."""

    count: int  # captions: N
    distinct: float  # share of different captions: 1 if no two are the same
    empty: float  # share without a word
    mean_words: float  # words a caption
    vocabulary: int  # different words
    repetition: float  # share that say a word, or two words, twice in direct succession
    first_word_valid: float | None  # share whose first word is in the lexicon; None without a lexicon
    most_common: str  # the most frequent caption, as its words
    most_common_share: float
    says_the_same: bool  # whether one caption serves most clips: the known failure of a captioner
    clips: dict[str, tuple[float, ...]]  # of each caption: `words`, `repetition`, `first_word_valid` (the two 0 or 1)


def lexicon(references: Sequence[Sequence[str]]) -> frozenset[str]:
    """All words of the reference captions, wherever they stand in them."""
    return frozenset(word for group in references for caption in group for word in words(caption))


def repeats(caption: str) -> bool:
    """Whether a word, or two words in a row, come twice in direct succession: 'a dog dog', 'a dog a dog'.

    Punctuation between them does not count. People hardly write so: 14 of the 19,690 captions of Clotho v1 do.
    """
    found = words(caption)
    return any(found[i : i + n] == found[i + n : i + 2 * n] for n in (1, 2) for i in range(len(found) - 2 * n + 1))


def count_captions(captions: Sequence[str], known: Collection[str] | None = None) -> Counts:
    """Count what is in N captions, one a clip.

    `first_word_valid` tells broken first words ('irds', 'ells', 'ient' for Birds, Bells, Ambient, the defect of the
    published system) from whole ones, by whether the word is anywhere in the reference captions. A broken word that is
    itself a word there ('door' for Outdoor) passes, and a right word that no reference has does not. An empty caption
    has no first word, and none that is valid.

    `says_the_same` is set where there are at least 10 captions, and one of them makes up more than half of them, or less
    than 2 in 100 are distinct.

    Args:
        captions: N captions, '' where there is none; at least one.
        known: the lexicon, as from `lexicon(references)`.

    Raises:
        ValueError: there is no caption, or something is not a string.
    """
    if isinstance(captions, str) or not len(captions) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(
            f"got {captions!r:.200}; expected a list of captions, '' where there is none, and at least one"
        )
    found = [words(caption) for caption in captions]
    whole = Counter(" ".join(some) for some in found)
    most_common, most = whole.most_common(1)[0]
    clips = {
        "words": tuple(float(len(some)) for some in found),
        "repetition": tuple(float(repeats(caption)) for caption in captions),
    }
    if known is not None:
        clips["first_word_valid"] = tuple(float(bool(some) and some[0] in known) for some in found)
    number = len(captions)
    shares = {name: sum(values) / number for name, values in clips.items()}
    same = most > SAME_SHARE * number or len(whole) < SAME_DISTINCT * number
    return Counts(
        count=number,
        distinct=len(whole) / number,
        empty=sum(not some for some in found) / number,
        mean_words=shares["words"],
        vocabulary=len({word for some in found for word in some}),
        repetition=shares["repetition"],
        first_word_valid=shares.get("first_word_valid"),
        most_common=most_common,
        most_common_share=most / number,
        says_the_same=number >= SAME_COUNT and same,
        clips=clips,
    )
