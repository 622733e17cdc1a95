"""The table of kinds: each names itself and nothing else, and every data set's names lead to it."""

import csv
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from a2i.data.esc10_captions import LABELS, SENTENCES, kinds_named
from a2i.data.foley.phrases import CLAUSES, WORDS
from a2i.data.kinds import CATEGORIES, KINDS, NONE, kind_of, named_in, names_only, words_of


def test_the_table() -> None:
    assert len(KINDS) > 150
    assert {kind.category for kind in KINDS.values()} == {*CATEGORIES, NONE}
    assert {name for name, kind in KINDS.items() if kind.category == NONE} == {"silence", "noise", "unknown"}
    for name, kind in KINDS.items():
        assert kind.kin <= KINDS.keys() - {name}
        assert kind.sort_of <= kind.kin | {"people"}
        for phrase in kind.words:
            assert words_of(phrase) == phrase.split(), phrase
        assert all(re.fullmatch(r"(sounds|urban|esc50|effects|esc10|foley):[^:]+", called) for called in kind.called)
    sentences = Counter(sentence for kind in KINDS.values() for sentence in kind.sentences)
    assert max(sentences.values()) == 1


@pytest.mark.parametrize("name", KINDS)
def test_own_sentences_name_their_kind_and_no_other(name: str) -> None:
    kind = KINDS[name]
    assert len(kind.sentences) >= 3
    for sentence in kind.sentences:
        assert name in named_in(sentence) or kind.category == NONE, sentence
        assert named_in(sentence) <= {name} | kind.kin, sentence
        assert re.fullmatch(r"[A-Z][A-Za-z', -]+\.", sentence), sentence


def test_the_kinds_of_the_captioner_before_keep_their_names() -> None:
    for kind, label in LABELS.items():
        assert kind_of("esc10", kind) == label
        for sentence in KINDS[label].sentences:
            assert kinds_named(sentence) == {kind}, sentence
        for sentence in SENTENCES[kind]:
            assert names_only(sentence, [label]), sentence
    for source, phrases in CLAUSES.items():
        assert kind_of("foley", source) == source
        for _, phrase in phrases:
            assert names_only(phrase, [source]), phrase
    assert set(CLAUSES) == set(WORDS)


@pytest.mark.parametrize(
    ("caption", "kinds"),
    [
        ("DOGS bark in the rain.", {"dog", "rain"}),
        ("Wind chimes tinkle.", {"wind chimes", "bell", "ringing"}),
        ("The dog's owner talks.", {"dog", "speech"}),
        ("A type of carpet lies on a crowded desk", set()),
        ("A washing machine spins", {"washing machine"}),
        ("An alarm clock rings", {"alarm clock", "ringing"}),
        ("", set()),
    ],
)
def test_words_are_whole_and_the_longest_phrase_wins(caption: str, kinds: set[str]) -> None:
    assert named_in(caption) == kinds


def test_a_caption_may_name_kin_and_special_sorts() -> None:
    assert names_only("Someone walks on gravel.", ["footsteps on gravel"])
    assert names_only("Someone walks on gravel.", ["footsteps"])
    assert names_only("A dog barks while rain falls.", ["dog", "rain"])
    assert not names_only("A dog barks while rain falls.", ["dog"])
    assert not names_only("A dog barks.", ["dog", "rain"])


def test_names_of_data_sets() -> None:
    assert kind_of("urban", "dog") == kind_of("effects", "puppy bark") == "dog"
    assert kind_of("sounds", "aeroplane") == kind_of("esc50", "airplane") == "airplane"
    assert kind_of("effects", "leopard growl") == "big cat"
    assert kind_of("effects", "laser") is kind_of("elsewhere", "dog") is None


def test_every_real_label_goes_by_one_kind_or_is_left_out(real_data: Path) -> None:
    left_out, patterns = set(), {pattern for kind in KINDS.values() for pattern in kind.called}
    for data_set, column in {"sounds": "kind", "urban": "kind", "esc50": "kind", "effects": "label"}.items():
        with (real_data / data_set / f"{data_set}.csv").open(encoding="utf-8", newline="") as file:
            labels = {f"{data_set}:{row[column]}" for row in csv.DictReader(file)}
        own = {pattern for pattern in patterns if pattern.startswith(f"{data_set}:")}
        assert all(any(fnmatchcase(label, pattern) for label in labels) for pattern in own)
        for label in labels:
            fitting = [pattern for pattern in own if fnmatchcase(label, pattern)]
            assert len(fitting) <= 1, (label, fitting)
            left_out |= set() if fitting else {label}
    assert len(left_out) == 80
    assert all(label.startswith("effects:") for label in left_out)
    assert {"effects:laser", "effects:zombie death", "effects:melee hit", "effects:woosh"} <= left_out


def test_classes_of_audioset_are_real(real_data: Path) -> None:
    classes = set(np.load(real_data / "tags" / "audioset_mn04.npz")["classes"])
    assert {name for kind in KINDS.values() for name in kind.audioset} <= classes
