from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from a2i.captioner.cleaning import Lexicon, words
from a2i.captioner.text import CaptionTokenizer

KNOWN = Lexicon(
    frozenset(["a", "bells", "birds", "cells", "door", "in", "ring", "sing", "the"]),
    {"irds": ("birds",), "ells": ("bells", "cells")},
)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("irds sing.", "birds sing."),  # one candidate
        ("ells ring.", "ring."),  # two: none is chosen
        ("door in the bells", "door in the bells"),  # Outdoor, but a word itself
        ("Birds sing, xqz, in the bells.", "Birds sing, in the bells."),
        ("irds xqz.", "birds."),
        ("xqz, a door.", "a door."),
        ("irds sing xqz.", "birds sing."),
        ("xqz", ""),
        ("", ""),
        ("Irds SING", "birds SING"),
        ("Birds ... sing , in", "Birds ... sing , in"),  # nothing to clean
    ],
)
def test_by_hand(caption: str, expected: str) -> None:
    assert KNOWN.clean(caption) == expected


@given(st.lists(st.sampled_from([*sorted(KNOWN.words), "irds", "ells", "xqz", ",", "."]), max_size=8).map(" ".join))
def test_what_is_clean_stays_and_holds_known_words_alone(caption: str) -> None:
    cleaned = KNOWN.clean(caption)
    assert set(words(cleaned)) <= KNOWN.words
    assert KNOWN.clean(cleaned) == cleaned
    if set(words(caption)) <= KNOWN.words:
        assert words(cleaned) == words(caption)


def test_fragments_of_real_tokens(real_data: Path) -> None:
    """B|irds, B|ells and C|ells, Amb|ient, Foot|steps in GPT-2's vocabulary; 'steps' is a word of these captions."""
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    captions = ["Birds sing.", "Bells ring", "Cells divide", "Ambient noise", "Footsteps on steps", "birds", "A bell"]
    lexicon = Lexicon.of(captions, tokenizer)
    assert lexicon.fragments == {"irds": ("birds",), "ells": ("bells", "cells"), "ient": ("ambient",)}
    assert lexicon.clean("ient steps on irds") == "ambient steps on birds"


def test_fragments_of_first_words() -> None:
    """What follows a first word's first token, where that is no word of the captions, with all words that it may be of."""
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(["irds", "ells", "door"], trainer)
    tokenizer = CaptionTokenizer(PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<end>"))
    captions = [
        "Cells divide",
        "Birds sing at a door.",
        "Bells ring",
        "birds",
        "Xdoor",
        "- and",
        "A owl's",
        "I'm",
        "B-i",
    ]
    lexicon = Lexicon.of(captions, tokenizer)
    assert lexicon.words == {word for caption in captions for word in words(caption)}
    assert lexicon.fragments == {"irds": ("birds",), "ells": ("bells", "cells"), "m": ("i'm",), "i": ("b-i",)}
    assert lexicon.clean("irds sing") == "birds sing"


def test_fragments_of_a_small_tokenizer() -> None:
    """Letters alone: every first word loses its first letter, after the space that this tokenizer puts before it."""
    lexicon = Lexicon.of(["Birds sing.", "- Rain"], CaptionTokenizer.train(["x"], 257))
    assert lexicon.words == {"birds", "sing", "rain"}
    assert lexicon.fragments == {}  # what goes is the space


def test_save_and_load(tmp_path: Path) -> None:
    KNOWN.save(tmp_path / "lexicon.json")
    assert Lexicon.load(tmp_path / "lexicon.json") == KNOWN
    for text in ("[]", "{", '{"words": [], "fragments": []}'):
        (tmp_path / "lexicon.json").write_text(text)
        with pytest.raises(ValueError, match="expected the lexicon"):
            Lexicon.load(tmp_path / "lexicon.json")
