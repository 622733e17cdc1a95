"""Sentences that name kinds and nothing else, of texts that people wrote."""

from pathlib import Path

import pytest

from a2i.data.kinds import KINDS, named_in
from a2i.data.sentences import MAX_WORDS, clean, named, read, read_sentences


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("A dog barks", ("dog",)),
        ("A man speaks while a dog barks nearby", ("speech", "dog")),
        ("Someone walks on a gravel path", ("footsteps on gravel",)),
        ("Church bells ring", ("church bells",)),
        ("Crickets chirp", ("crickets",)),
        ("Birds chirp and crickets chirp", ("birdsong", "crickets")),
        ("A car engine idles", ("engine",)),
        ("Water drips into a sink", ("drops",)),
        ("Rain falls, thunder rumbles and wind blows", ("rain", "thunder", "wind")),
        ("A man burps", ("people",)),
    ],
)
def test_kinds_in_their_order(text: str, kinds: tuple[str, ...]) -> None:
    sentence = read(text)
    assert sentence is not None
    assert (sentence.kinds, sentence.then) == (kinds, False)


@pytest.mark.parametrize(
    "text",
    [
        "A dog barks, then a car passes.",
        "A dog barks before a car passes.",
        "A dog barking followed by a passing car.",
        "A car passes after a dog barks.",
        "After a dog barks, a car passes.",
        "A dog barks, and after that a car passes.",
    ],
)
def test_one_after_another(text: str) -> None:
    sentence = read(text)
    assert sentence is not None
    assert (sentence.kinds, sentence.then) == (("dog", "car"), True)


@pytest.mark.parametrize(
    "text",
    [
        "A man is nearby",  # names nobody's sound
        "A dog barks like a seal",
        "A dog barks and something falls",
        "A dog barks with a hissing noise",
        "A dog barks and buzzing occurs",  # of what?
        "A dog barks, a cat meows, a cow moos and a pig oinks",
        "A dog barks then howls while a car passes and then leaves",  # in which order?
        "Dogs",
        "A dog barks " + "again and " * 10 + "again",
        "Paper is crumpled and crackles",
        "Sand is poured out",  # nobody walks on it
        "",
    ],
)
def test_what_is_left_out(text: str) -> None:
    assert read(text) is None


def test_texts_are_cleaned_and_come_once() -> None:
    assert clean('  a recording of  a dog , barking.. "') == "A dog, barking."
    sentences = named(["a dog barks", "Field recording of a dog barking", "A dog barks.", "nothing"])
    assert [sentence.text for sentence in sentences] == ["A dog barks.", "A dog barking."]


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,caption\n1,A dog barks\n2,A thing\n")
    (tmp_path / "five.csv").write_text("file_name,caption_1,caption_2\na.wav,a dog barks,rain falls\n")
    texts = [sentence.text for sentence in read_sentences([tmp_path / "one.csv", str(tmp_path / "five.csv")])]
    assert texts == ["A dog barks.", "Rain falls."]
    (tmp_path / "none.csv").write_text("file,kind\na.wav,dog\n")
    with pytest.raises(ValueError, match="no column 'caption'"):
        read_sentences([tmp_path / "none.csv"])
    with pytest.raises(FileNotFoundError):
        read_sentences([tmp_path / "absent.csv"])


def test_real_sentences(real_data: Path) -> None:
    sentences = read_sentences(
        [real_data / "clotho" / "clotho_v2_development.csv", real_data / "audiocaps" / "val.csv"]
    )
    assert len(sentences) > 5000
    assert sum(sentence.then for sentence in sentences) > 100
    for sentence in sentences:
        assert set(sentence.kinds) <= named_in(sentence.text) & KINDS.keys(), sentence
        assert len(sentence.text.split()) <= MAX_WORDS + 5  # a hyphen or a number alone is no word
