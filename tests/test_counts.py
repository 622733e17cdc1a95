"""What is counted in captions, by hand, on real captions, and as properties."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.captioner.cleaning import words
from a2i.metrics.counts import count_captions, lexicon, repeats

TEXT = st.lists(st.sampled_from(["a", "dog", "barks", "Birds", "sing,", "—", "..."]), max_size=6).map(" ".join)


def test_by_hand() -> None:
    known = lexicon([["Birds sing.", "A dog barks!"], ["Rain falls on a metal door."]])
    assert known == {"birds", "sing", "a", "dog", "barks", "rain", "falls", "on", "metal", "door"}
    got = count_captions(["Birds sing.", "irds sing", "birds sing", "", "Door door squeaks"], known)
    assert got.count == 5
    assert got.distinct == 4 / 5  # case and full stop make no other caption
    assert got.empty == 1 / 5
    assert got.mean_words == 9 / 5
    assert got.vocabulary == 5
    assert got.repetition == 1 / 5
    assert got.first_word_valid == 3 / 5  # neither 'irds' nor none; 'door' passes, though it may be a broken 'Outdoor'
    assert (got.most_common, got.most_common_share) == ("birds sing", 2 / 5)
    assert not got.says_the_same  # too few captions to say so
    assert got.clips == {
        "words": (2, 2, 2, 0, 3),
        "repetition": (0, 0, 0, 0, 1),
        "first_word_valid": (1, 0, 1, 0, 1),
    }


def test_without_a_lexicon() -> None:
    got = count_captions(["irds sing"])
    assert got.first_word_valid is None
    assert set(got.clips) == {"words", "repetition"}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog dog barks", True),
        ("A dog. Dog barks", True),
        ("then a bird a bird sings", True),
        ("the wind the wind", True),
        ("a a", True),
        ("over and over again", False),
        ("a dog and a dog", False),
        ("one two three one two three", False),  # three words in a row are not looked at
        ("dog", False),
        ("", False),
    ],
)
def test_repetition(caption: str, expected: bool) -> None:
    assert repeats(caption) is expected


def test_words() -> None:
    assert words("A well-known dog doesn't, DON’T bark - 3 times!") == [
        *("a", "well-known", "dog", "doesn't", "don’t", "bark", "3", "times"),
    ]


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["rain"] * 10, True),
        (["rain"] * 9, False),  # fewer than ten
        (["Rain."] * 6 + ["a", "b", "c", "d"], True),
        (["rain"] * 5 + ["a", "b", "c", "d", "e"], False),  # just half
        ([""] * 6 + ["a", "b", "c", "d"], True),
        ([f"{i % 3}" for i in range(200)], True),  # three captions for two hundred clips
        ([f"{i % 4}" for i in range(200)], False),
        ([f"{i}" for i in range(100)], False),
    ],
)
def test_says_the_same(captions: list[str], expected: bool) -> None:
    assert count_captions(captions).says_the_same is expected


def test_people_hardly_repeat(real_data: Path) -> None:
    captions = []
    for split in ("development", "evaluation"):
        with (real_data / "clotho" / f"clotho_captions_{split}.csv").open(newline="", encoding="utf-8") as file:
            captions += [row[f"caption_{n}"] for row in csv.DictReader(file) for n in range(1, 6)]
    got = count_captions(captions, lexicon([captions]))
    assert got.repetition * len(captions) == pytest.approx(14)
    assert got.first_word_valid == 1
    assert not got.says_the_same


@settings(max_examples=100)
@given(captions=st.lists(TEXT, min_size=1, max_size=15), order=st.randoms(use_true_random=False))
def test_shares_are_means_of_clips_and_the_order_does_not_count(captions: list[str], order) -> None:
    known = {"a", "dog"}
    got = count_captions(captions, known)
    assert got.mean_words == pytest.approx(sum(got.clips["words"]) / len(captions))
    assert got.repetition == pytest.approx(sum(got.clips["repetition"]) / len(captions))
    assert got.first_word_valid == pytest.approx(sum(got.clips["first_word_valid"]) / len(captions))
    assert 1 / len(captions) <= got.distinct <= 1
    assert got.most_common_share >= 1 / len(captions)
    shuffled = list(captions)
    order.shuffle(shuffled)
    again = count_captions(shuffled, known)
    for name in ("distinct", "empty", "mean_words", "vocabulary", "repetition", "first_word_valid", "says_the_same"):
        assert getattr(again, name) == pytest.approx(getattr(got, name))


@pytest.mark.parametrize("captions", [[], "rain", ["rain", None], [float("nan")]])
def test_wrong_input_is_refused(captions) -> None:
    with pytest.raises(ValueError, match="expected a list of captions"):
        count_captions(captions)
