"""Caption metrics against hand-worked values, pycocoevalcap itself, and the published scores of another system."""

import csv
import math
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from a2i.metrics import Inputs, Score
from a2i.metrics.captions import score_captions
from a2i.metrics.fense import FLUENCY_FILE
from a2i.metrics.java import coco_folder, start_java
from a2i.metrics.parts import MissingError, Parts, Tokens
from a2i.metrics.registry import compute
from a2i.metrics.tokens import tokenize_without_java

PREDICTED = [
    "A dog barks loudly, while rain falls on the roof.",
    "",
    "birds",
    "People's footsteps don't stop (on gravel).",
    "the wind the wind the wind",
    "A car passes.",
    "café music",
]
REFERENCES = [
    ["A dog is barking while the rain falls on a roof.", "Rain, and a loud dog!"],
    ["A cat meows.", "a cat is meowing at the door"],
    ["birds", "Birds are singing.", "A bird sings in the forest", "birds sing", "many birds"],
    ["Footsteps on gravel don't stop.", "People walk (on gravel)"],
    ["The wind blows."],
    ["A car passes by.", "a car passes", "cars pass"],
    ["café music"],
]
NO_JAVA = Parts(java="no-such-java")
BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
ALL = (*BLEU, "rouge_l", "cider_d", "meteor", "spice", "spider", "spider_fl", "fense")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java 8 or newer on the PATH")


@pytest.fixture(scope="module")
def published() -> list[dict[str, str]]:
    """Every thirteenth caption of another system, with its scores; experiments/caption_metrics_parity has them all."""
    if not os.environ.get("A2I_REAL_DATA"):
        return []
    path = Path(os.environ["A2I_REAL_DATA"]) / "peer_captions" / "peer_scores.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))[::13]


@pytest.fixture(scope="module")
def captions(published: list[dict[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Those made here, then those of another system: together, since METEOR takes seconds to start."""
    predicted = [*PREDICTED, *(row["caption_predicted"] for row in published)]
    return predicted, [*REFERENCES, *([row[f"caption_{n}"] for n in range(1, 6)] for row in published)]


@pytest.fixture(scope="module")
def scores(captions: tuple[list[str], list[list[str]]]) -> dict[str, Score]:
    """All metrics, in an environment whose Java speaks German and so has a decimal comma."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE")
        return score_captions(*captions)


def script(path: Path, text: str) -> str:
    """A program to run in place of Java."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def pycocoevalcap(predicted: list[str], references: list[list[str]]) -> dict[str, tuple[float, list[float]]]:
    """Corpus score and scores of the clips, from pycocoevalcap's own tokenizer and scorers."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    given = tokenizer.tokenize({i: [{"caption": text} for text in group] for i, group in enumerate(references)})
    found = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(predicted)})
    corpus, clips = Bleu(4).compute_score(given, found, verbose=0)
    scores = {name: (corpus[i], clips[i]) for i, name in enumerate(BLEU)}
    meteor = Meteor()
    for name, scorer in (("rouge_l", Rouge()), ("cider_d", Cider()), ("meteor", meteor)):
        scores[name] = scorer.compute_score(given, found)
    meteor.meteor_p.stdout.close()
    meteor.meteor_p.stderr.close()
    return scores


@pytest.mark.long
@needs_java
def test_same_as_pycocoevalcap(captions: tuple[list[str], list[list[str]]], scores: dict[str, Score]) -> None:
    """Empty and one-word captions, one to five references, contractions, brackets, letters beyond ASCII."""
    want = pycocoevalcap(*captions)
    assert list(want) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor"]
    for name, (corpus, clips) in want.items():
        got = scores[name]
        assert got.missing is None, name
        assert got.settings["tokenizer"] == "ptb"
        assert got.value == pytest.approx(corpus, abs=1e-12), name
        assert got.clips == pytest.approx(list(clips), abs=1e-12), name
        assert got.clips[1] == 0  # the empty caption
    assert scores["meteor"].clips[6] == 1
    assert scores["meteor"].value != pytest.approx(np.mean(scores["meteor"].clips), abs=1e-3)


def test_by_hand() -> None:
    got = score_captions(
        ["A dog barks.", "rain on a roof", "Rain!"],
        [["a dog barks loudly", "dogs"], ["rain falls on the roof"], ["the rain"]],
        metrics=["bleu_1", "bleu_2", "rouge_l"],
        parts=NO_JAVA,
    )
    # Of 3 words 3 are right, of 4 three, of 1 one; the references closest in length have 4, 5 and 2 words.
    short = [math.exp(1 - 4 / 3), math.exp(1 - 5 / 4), math.exp(1 - 2 / 1)]
    assert got["bleu_1"].clips == pytest.approx((short[0], 3 / 4 * short[1], short[2]), abs=1e-6)
    assert got["bleu_1"].value == pytest.approx(7 / 8 * math.exp(1 - 11 / 8), abs=1e-6)
    assert got["bleu_2"].value == pytest.approx(math.sqrt(7 / 8 * 2 / 5) * math.exp(1 - 11 / 8), abs=1e-6)
    assert got["bleu_2"].value != pytest.approx(np.mean(got["bleu_2"].clips), abs=0.01)

    def f_score(precision: float, recall: float) -> float:
        return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)

    want = (f_score(3 / 3, 3 / 4), f_score(3 / 4, 3 / 5), f_score(1 / 1, 1 / 2))
    assert got["rouge_l"].clips == pytest.approx(want)
    assert got["rouge_l"].value == pytest.approx(np.mean(want))


def test_cider_d_by_hand() -> None:
    """One caption is its reference, one shares nothing; words are in one clip each, so each weighs log 2."""
    got = score_captions(["rain falls on roofs", "wind"], [["rain falls on roofs"], ["a dog"]], ["cider_d"], NO_JAVA)
    assert got["cider_d"].clips == pytest.approx((10, 0))
    assert got["cider_d"].value == pytest.approx(5)


def test_one_clip_has_no_cider_d() -> None:
    got = score_captions(["rain"], [["rain"]], ["cider_d", "spider", "bleu_1"], NO_JAVA)
    for name in ("cider_d", "spider"):
        assert got[name].value is None
        assert "at least two clips" in str(got[name].missing)
    assert got["bleu_1"].value == pytest.approx(1)


def test_a_clip_does_not_depend_on_the_others() -> None:
    metrics = [*BLEU, "rouge_l"]
    together = score_captions(PREDICTED, REFERENCES, metrics, NO_JAVA)
    for i in range(len(PREDICTED)):
        alone = score_captions(PREDICTED[i : i + 1], REFERENCES[i : i + 1], metrics, NO_JAVA)
        for name in metrics:
            assert alone[name].clips == together[name].clips[i : i + 1]


def test_a_reference_without_a_word_is_left_out() -> None:
    group = ["a dog barks", "dogs bark at night"]
    want = score_captions(["a dog", "rain"], [group, ["rain"]], [*BLEU, "rouge_l", "cider_d"], NO_JAVA)
    got = score_captions(["a dog", "rain"], [["", *group, " ... "], ["rain"]], [*BLEU, "rouge_l", "cider_d"], NO_JAVA)
    assert got == want
    with pytest.raises(ValueError, match=r"clip 1: got the references .*expected one with a word"):
        score_captions(["a dog", "rain"], [group, ["?", ""]], ["rouge_l"], NO_JAVA)


@needs_java
def test_line_ends_within_a_caption_shift_nothing() -> None:
    predicted = ["a\u2028dog", "rain\x0bfalls", "a\r\ncat", "wind\x85blows", "birds"]
    references = [["a dog"], ["rain falls"], ["a cat"], ["wind blows"], ["birds"]]
    got = score_captions(predicted, references, ["rouge_l"])["rouge_l"]
    assert got.settings["tokenizer"] == "ptb"
    assert got.clips == pytest.approx([1] * 5)


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("A dog barks, loudly.", "a dog barks loudly"),
        ("People's footsteps don't stop; it's 3 o'clock!", "people 's footsteps do n't stop it 's 3 o'clock"),
        ("They can’t, cannot -- and we’ll…", "they ca n't can not and we 'll"),
        ('a well-known A/C hums: "brr"', "a well-known a/c hums brr"),
        ("5,000 volts & 50% more", "5,000 volts & 50 % more"),
        (" - ... ' ", ""),
        ("", ""),
    ],
)
def test_the_rule_in_place_of_the_treebank_tokenizer(sentence: str, tokens: str) -> None:
    assert tokenize_without_java(sentence) == tokens


@needs_java
def test_the_rule_equals_the_treebank_tokenizer_on_clotho(real_data: Path) -> None:
    from a2i.metrics.tokens import tokenize

    with (real_data / "clotho" / "clotho_captions_evaluation.csv").open(newline="", encoding="utf-8") as file:
        captions = [row[f"caption_{n}"] for row in csv.DictReader(file) for n in range(1, 6)]
    tokens = tokenize(captions, [["-", "a"]] * len(captions), Parts())
    assert tokens.settings == {"tokenizer": "ptb"}
    assert len(captions) == 5225
    assert tokens.predicted == [tokenize_without_java(caption) for caption in captions]


@needs_java
@pytest.mark.usefixtures("real_data")
def test_same_as_published_scores(published: list[dict[str, str]], scores: dict[str, Score]) -> None:
    assert len(published) == 40
    for name in (*BLEU, "rouge_l", "meteor"):
        got = scores[name].clips[len(PREDICTED) :]
        assert got == pytest.approx([float(row[name]) for row in published], abs=1e-7), name


def test_what_cannot_be_computed_is_missing_and_never_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FENSE_DATA", str(tmp_path))
    got = score_captions(["a dog"] * 2, [["a cat"]] * 2, parts=Parts(java="no-such-java", spice_folder=tmp_path))
    assert list(got) == list(ALL)
    reasons = {
        "meteor": "there is no 'no-such-java': install Java",
        "spice": "get_stanford_models downloads it",
        "spider": "get_stanford_models downloads it",
        "spider_fl": "get_stanford_models downloads it",
        "fense": f"{FLUENCY_FILE} cannot be read (No such file or directory); python -c",
    }
    for name, score in got.items():
        assert (score.missing is None) == (name not in reasons)
        assert (score.value is None) == (score.clips is None) == (name in reasons)
        assert reasons.get(name, "") in (score.missing or "")
        assert "\n" not in (score.missing or "")
        assert score.settings["tokenizer"] == "fallback"
        assert "no-such-java" in score.settings["tokenizer_reason"]


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aac_metrics.functional.bleu", None)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    got = score_captions(["a dog"], [["a cat"]], ["bleu_1", "meteor", "spice", "rouge_l"])
    assert got["bleu_1"].missing == 'aac_metrics is not installed: pip install "a2i[eval]"'
    assert got["meteor"].missing == got["spice"].missing == 'pycocoevalcap is not installed: pip install "a2i[eval]"'
    assert got["rouge_l"].value is not None


def test_a_java_that_hangs_or_fails(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hangs = Parts(java=script(tmp_path / "hangs", f"echo $$ >> {pid}; exec sleep 60"), java_seconds=0.5)
    start = time.monotonic()
    got = score_captions(["a dog"], [["a cat"]], ["meteor"], hangs)["meteor"]
    assert time.monotonic() - start < 30  # it hangs for 60
    assert str(got.missing).endswith("hangs): it took longer than 0.5 s")
    assert len(pid.read_text().split()) == 2  # the tokenizer's and METEOR's
    for number in map(int, pid.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)

    fails = Parts(java=script(tmp_path / "fails", "echo 'Error: no heap' >&2; echo more >&2; exit 1"))
    assert str(score_captions(["a dog"], [["a cat"]], ["meteor"], fails)["meteor"].missing).endswith(": Error: no heap")
    (tmp_path / "text").write_text("not a program")
    (tmp_path / "text").chmod(0o755)
    got = score_captions(["a dog"], [["a cat"]], ["meteor"], Parts(java=str(tmp_path / "text")))["meteor"]
    assert "cannot be run" in str(got.missing)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, ValueError])
def test_an_exception_leaves_no_java_behind(tmp_path: Path, error: type[BaseException]) -> None:
    expected = MissingError if error is ValueError else error
    with pytest.raises(expected), start_java([], Parts(java=script(tmp_path / "java", "exec sleep 60"))) as process:  # noqa: PT012
        assert process.poll() is None
        raise error
    assert process.returncode is not None


@needs_java
def test_spice_that_fails_says_why(tmp_path: Path) -> None:
    """Its real program, with empty files in place of the Stanford jars."""
    (tmp_path / "lib").mkdir()
    for jar in coco_folder("spice").rglob("*.jar"):
        if "stanford" not in jar.name:
            (tmp_path / jar.relative_to(coco_folder("spice"))).symlink_to(jar)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "lib" / name).touch()
    got = score_captions(["a dog"], [["a cat"]], ["spice"], Parts(spice_folder=tmp_path))["spice"]
    assert got.value is None
    assert "NoClassDefFoundError: edu/stanford/nlp" in str(got.missing)


def fense_parts(folder: Path, error_logit: float) -> Parts:
    """A sentence model and a classifier with tiny random weights, which gives each caption the same fluency error."""
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(vocab_size=40, hidden_size=16, num_attention_heads=2, intermediate_size=16, num_hidden_layers=1)
    )
    encoder.save_pretrained(folder / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "bark", "##s", "rain", "falls"]
    (folder / "bert" / "vocab.txt").write_text("\n".join(words))
    (folder / "bert" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    weights |= {"clf.weight": torch.zeros(6, 16), "clf.bias": torch.tensor([0, 0, 0, 0, 0, error_logit])}
    weights["encoder.embeddings.position_ids"] = torch.arange(512)  # as in the published file
    saved = {"model_type": str(folder / "bert"), "num_classes": 6, "state_dict": weights}
    torch.save(saved, folder / FLUENCY_FILE)
    return Parts(
        java="no-such-java",
        sentence_model=str(folder / "bert"),
        fluency_model=folder / FLUENCY_FILE,
        device="cpu",
    )


@pytest.mark.parametrize(("error_logit", "share"), [(2.0, 1.0), (3.0, 0.1)], ids=["fluent", "not fluent"])
def test_fense(tmp_path: Path, error_logit: float, share: float) -> None:
    """A probability of 0.88 is no fluency error, one of 0.95 is."""
    parts = fense_parts(tmp_path, error_logit)
    predicted, references = ["A dog barks.", "rain", ""], [["dogs bark", "a cat"], ["rain falls"], ["a dog"]]
    got = score_captions(predicted, references, ["fense"], parts)["fense"]
    assert got.missing is None
    assert got.settings["fluency_model"] == FLUENCY_FILE
    model = SentenceTransformer(str(tmp_path / "bert"), device="cpu")
    for score, caption, group in zip(got.clips, ["a dog barks", "rain", ""], references, strict=True):
        cosines = model.encode(group, normalize_embeddings=True) @ model.encode(caption, normalize_embeddings=True)
        assert score == pytest.approx(share * cosines.mean(), abs=1e-6)
    assert got.value == pytest.approx(np.mean(got.clips))


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    parts = fense_parts(tmp_path, 0.0)
    got = score_captions(["a dog"], [["a cat"]], ["fense"], Parts(java="no-such-java", fluency_model=tmp_path / "bert"))
    assert "cannot be read" in str(got["fense"].missing)
    (tmp_path / "text.ckpt").write_text("no weights")
    for other in (
        Parts(java="no-such-java", fluency_model=tmp_path / "text.ckpt"),
        Parts(java="no-such-java", fluency_model=parts.fluency_model, sentence_model="nobody/no-such-model"),
    ):
        got = score_captions(["a dog"], [["a cat"]], ["fense"], other)
        assert "cannot be read" in str(got["fense"].missing)
        assert got["fense"].value is None


@pytest.mark.long
@needs_java
def test_added_counts_give_the_corpus_score() -> None:
    """What a bootstrap computes again and again is what METEOR's own program says, of all captions and of each."""
    predicted = [*PREDICTED, REFERENCES[0][0]]
    references = [*REFERENCES, REFERENCES[0]]
    got = score_captions(predicted, references, ["meteor", "bleu_4"])
    for score in got.values():
        assert score.tally is not None
        assert score.tally.score() == pytest.approx(score.value, abs=1e-12)
    meteor = got["meteor"]
    assert meteor.tally.formula(meteor.tally.counts) == pytest.approx(meteor.clips, abs=1e-12)
    some = score_captions(predicted[3:], references[3:], ["meteor"])["meteor"].value
    assert meteor.tally.score(np.arange(3, len(predicted))) == pytest.approx(some, abs=1e-12)


def test_spider_is_made_of_its_parts() -> None:
    tokens = Tokens(["a", "b"], [["a"], ["b"]], {"tokenizer": "ptb"})
    known = {
        "cider_d": Score(0.75, (1.0, 0.5), None, {"tokenizer": "ptb", "n": 4}),
        "spice": Score(0.3, (0.4, 0.2), None, {"spice": "1.0"}),
        "fluency_error": Score(0.5, (0.0, 1.0), None, {"penalty": 0.9}),
    }
    inputs = Inputs(["a", "b"], [["a"], ["b"]], NO_JAVA, scores=known)
    inputs.tokens = tokens
    got = compute("spider_fl", inputs)["spider_fl"]
    assert got.clips == pytest.approx((0.7, 0.035))
    assert got.value == pytest.approx(0.3675)
    assert got.settings == {"tokenizer": "ptb", "n": 4, "spice": "1.0", "penalty": 0.9}
    assert compute("spider", inputs)["spider"].value == pytest.approx(0.525)


@pytest.mark.parametrize(
    ("predicted", "references", "metrics", "message"),
    [
        ([], [], ALL, "got 0 captions"),
        (["a", "b"], [["a"]], ALL, "got 2 captions .* and 1 lists of references"),
        ("a", [["b"]], ALL, "got 1 captions .str."),
        (["a"], [[]], ["bleu_1"], "clip 0: got the references"),
        (["a"], ["b c"], ALL, "clip 0.*a list of strings"),
        (["a", float("nan")], [["b"], ["c"]], ALL, "clip 1: got nan"),
        (["a"], [["b", None]], ALL, "clip 0: got 'a' with the references"),
        (["a"], [["b"]], ["bleu_5", "rouge_l"], r"got the metrics \['bleu_5'\]; expected a list of some of bleu_1"),
        (["a"], [["b"]], "rouge_l", "got the metrics"),
    ],
)
def test_wrong_input_is_refused(predicted, references, metrics, message) -> None:
    with pytest.raises(ValueError, match=message):
        score_captions(predicted, references, metrics, NO_JAVA)
    with pytest.raises(ValueError, match=r"got caption_metrics\.java_seconds=0; expected more than 0"):
        Parts(java_seconds=0)
