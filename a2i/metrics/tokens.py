"""Captions in the tokens that the caption metrics compare."""

import re
from collections.abc import Sequence

from a2i.metrics.java import treebank
from a2i.metrics.parts import MissingError, Parts, ReferencesError, Tokens


def tokenize_without_java(sentence: str) -> str:
    """What the Penn Treebank tokenizer makes of a caption, by a rule: lower case, a space between tokens, no punctuation.

    The same tokens on all 19,690 captions of Clotho v1. Not the same for brackets, abbreviations with a full stop
    ('e.g.'), and slang that the Treebank takes apart ('gonna').
    """
    text = re.sub(r"\bcannot\b", "can not", sentence.lower().replace("\u2019", "'"))
    text = re.sub(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))(?!\w)", r" \1", text)
    return " ".join(re.findall(r"n't(?!\w)|'(?:s|re|ve|ll|d|m)(?!\w)|\w+(?:[-'&/.,]\w+)*|[%$&#@*+=~]", text))


def tokenize(predicted: Sequence[str], references: Sequence[Sequence[str]], parts: Parts) -> Tokens:
    """Captions and references in tokens, by the Penn Treebank tokenizer or the rule that stands in for it.

    Raises:
        ReferencesError: a clip has no reference with a word in it.
    """
    # The Java program would take a form feed or a line separator for a caption's end, and shift all that follow.
    texts = [" ".join(text.split()) for group in (predicted, *references) for text in group]
    settings = {"tokenizer": "ptb"}
    try:
        tokenized = treebank(texts, parts)
    except MissingError as reason:
        settings = {"tokenizer": "fallback", "tokenizer_reason": str(reason)}
        tokenized = [tokenize_without_java(text) for text in texts]
    rest = iter(tokenized)
    captions = [next(rest) for _ in predicted]
    groups = [[text for text in [next(rest) for _ in group] if text] for group in references]
    for i, group in enumerate(groups):
        if not group:
            raise ReferencesError(f"clip {i}: got the references {references[i]!r}; expected one with a word in it")
    return Tokens(captions, groups, settings)
