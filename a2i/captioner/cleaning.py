"""The published cleaning step: words that are no English words are removed, broken first words completed where that is clear.

It mends what comes of captions without a BOS, where 'Birds sing' is learnt from its second token on and comes out as 'irds
sing'. The lexicon are the words of the training captions: all that the captioner has learnt to say, with nothing to install
and no list of another's licence. What it can't know: a fragment that is a word itself ('door' of Outdoor, 'steps' of
Footsteps) passes, and a true word that no training caption has is removed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a2i.captioner.text import CaptionTokenizer

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words(caption: str) -> list[str]:
    """The words of a caption in lower case; "don't" and 'well-known' are one word each."""
    return _WORD.findall(caption.lower())


@dataclass(frozen=True)
class Lexicon:
    """What the cleaning step knows; kept in the captioner's folder.

    Attributes:
        words: of the training captions, in lower case.
        fragments: what is left of each word that begins a training caption once its first token is gone, where that is no
            word, and the words it may be of: `{"irds": ("birds",), "ells": ("bells", "cells")}`.
    """

    words: frozenset[str]
    fragments: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, captions: Iterable[str], tokenizer: "CaptionTokenizer") -> "Lexicon":
        """The lexicon of training captions.

        Args:
            captions: all of them.
            tokenizer: which says where a word breaks: `Birds` into B and irds.
        """
        captions = list(captions)
        known = frozenset(word for caption in captions for word in words(caption))
        fragments: dict[str, set[str]] = defaultdict(set)
        for first in sorted({caption.split()[0] for caption in captions if words(caption)}):
            ids = tokenizer.tokenizer(first, add_special_tokens=False)["input_ids"]
            whole, rest = words(first), words(tokenizer.decode(ids[1:]))
            # Of a hyphened or abbreviated first word the rest may be several words, or none.
            if len(whole) == len(rest) == 1 and rest[0] not in known:
                fragments[rest[0]].add(whole[0])
        return cls(known, {rest: tuple(sorted(wholes)) for rest, wholes in sorted(fragments.items())})

    def clean(self, caption: str) -> str:
        """The caption with unknown words completed, where they are fragments of one word alone, or else removed.

        Examples:
            >>> Lexicon(frozenset({"birds", "sing"}), {"irds": ("birds",)}).clean("irds ient sing.")
            'birds sing.'
        """
        if all(word in self.words for word in words(caption)):
            return caption
        cleaned = " ".join(_WORD.sub(lambda found: self._mended(found[0]), caption).split())
        # What a removed word leaves of the punctuation around it.
        return re.sub(r"\s*([.,;:!?])(?:\s*[.,;:!?])*", r"\1", cleaned).lstrip(" .,;:!?-")

    def _mended(self, word: str) -> str:
        if word.lower() in self.words:
            return word
        wholes = self.fragments.get(word.lower(), ())
        return wholes[0] if len(wholes) == 1 else ""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        values = {"words": sorted(self.words), "fragments": self.fragments}
        path.write_text(json.dumps(values, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            fragments = {str(rest): tuple(map(str, wholes)) for rest, wholes in values["fragments"].items()}
            return cls(frozenset(map(str, values["words"])), fragments)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: can't be read ({error!r}); expected the lexicon that a2i.train writes"
            ) from error
