import json
from pathlib import Path

import pytest
from conftest import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.captioner.text import IGNORE, CaptionTokenizer


def test_one_shift_by_hand(real_data: Path) -> None:
    """'Birds' is B|irds in the real GPT-2 vocabulary: 33, 11049."""
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    batch = tokenizer.encode(["Birds", "Birds sing"])
    assert tokenizer.bos_id == tokenizer.eos_id == 50256
    assert batch.inputs.tolist() == [[50256, 33, 11049, 50256], [50256, 33, 11049, 1702]]
    assert batch.targets.tolist() == [[33, 11049, 50256, IGNORE], [33, 11049, 1702, 50256]]
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert len(tokenizer) == 50257


def test_the_published_shift_by_hand(real_data: Path) -> None:
    """Inputs without the last token, targets without the first: 'B' is never a target, 'irds' is the first one."""
    tokenizer = CaptionTokenizer.load(real_data / "gpt2", bos=False)
    batch = tokenizer.encode(["Birds", "Birds sing"])
    assert batch.inputs.tolist() == [[33, 11049, 50256], [33, 11049, 1702]]
    assert batch.targets.tolist() == [[11049, 50256, IGNORE], [11049, 1702, 50256]]
    assert batch.mask.tolist() == [[True, True, False], [True] * 3]
    assert [tokenizer.decode(row[: row.index(50256)]) for row in batch.targets.tolist()] == ["irds", "irds sing"]


def test_both_shifts_on_a_small_tokenizer(tokenizer: CaptionTokenizer) -> None:
    """The same by ids that were looked up one by one, so that it holds without the real tokenizer too."""
    ids = tokenizer.tokenizer("Rain.", add_special_tokens=False)["input_ids"]
    assert len(ids) >= 2
    end = tokenizer.eos_id
    cured = CaptionTokenizer(tokenizer.tokenizer, 20).encode(["Rain."])
    assert cured.inputs.tolist() == [[end, *ids]]
    assert cured.targets.tolist() == [[*ids, end]]
    published = CaptionTokenizer(tokenizer.tokenizer, 20, bos=False).encode(["Rain."])
    assert published.inputs.tolist() == [ids]
    assert published.targets.tolist() == [[*ids[1:], end]]


def test_without_a_beginning_what_is_too_long_is_cut_too(tokenizer: CaptionTokenizer) -> None:
    row = tokenizer.tokenizer(SENTENCES[1], add_special_tokens=False)["input_ids"]
    batch = CaptionTokenizer(tokenizer.tokenizer, max_tokens=3, bos=False).encode([SENTENCES[1]])
    assert batch.inputs.tolist() == [row[:2]]
    assert batch.targets.tolist() == [row[1:3]]
    with pytest.raises(ValueError, match="expected at least 2"):
        CaptionTokenizer(tokenizer.tokenizer, max_tokens=1, bos=False)


def test_real_captions_survive(real_data: Path) -> None:
    import csv

    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    with (real_data / "clotho" / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
        captions = [row["caption_1"] for row in csv.DictReader(file)]
    batch = tokenizer.encode(captions)
    for caption, row in zip(captions, batch.targets.tolist(), strict=True):
        assert tokenizer.decode(row[: row.index(tokenizer.eos_id)]) == " ".join(caption.split())


@settings(max_examples=60)
@given(texts=st.lists(st.text(min_size=1, max_size=30).filter(lambda text: text.strip()), min_size=1, max_size=4))
def test_any_text_comes_back(tokenizer: CaptionTokenizer, texts: list[str]) -> None:
    long = CaptionTokenizer(tokenizer.tokenizer, max_tokens=500)
    texts = [text.encode("utf-8", "ignore").decode() or "x" for text in texts]
    texts = [text if text.strip() else "x" for text in texts]
    batch = long.encode(texts)
    for text, inputs, targets, mask in zip(texts, batch.inputs, batch.targets, batch.mask, strict=True):
        real = int(mask.sum())
        assert inputs[0] == long.bos_id
        assert targets[real - 1] == long.eos_id
        assert targets[: real - 1].tolist() == inputs[1:real].tolist()
        assert (targets[real:] == IGNORE).all()
        assert long.decode(inputs.tolist()) == " ".join(text.split())


def test_captions_are_tokenised_once(tokenizer: CaptionTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [SENTENCES[0], SENTENCES[1], f" {SENTENCES[0]} "]
    fresh = CaptionTokenizer(tokenizer.tokenizer, 20)
    first = fresh.encode(captions)
    known = dict(fresh._ids)
    assert set(known) == set(SENTENCES[:2])
    monkeypatch.setattr(fresh, "tokenizer", lambda *_, **__: pytest.fail("tokenised again"))
    assert fresh.encode(captions).targets.equal(first.targets)
    monkeypatch.undo()
    monkeypatch.setattr("a2i.captioner.text.REMEMBERED", 1)
    assert fresh.encode(captions).targets.equal(first.targets)
    fresh.encode([SENTENCES[2]])
    assert list(fresh._ids) == [SENTENCES[2]]


def test_what_is_too_long_is_cut_without_an_end(tokenizer: CaptionTokenizer) -> None:
    batch = CaptionTokenizer(tokenizer.tokenizer, max_tokens=3).encode([SENTENCES[1], "Rain."])
    assert batch.mask.sum(1).tolist() == [3, 4]
    assert tokenizer.eos_id not in batch.targets[0].tolist()
    assert tokenizer.eos_id in batch.targets[1].tolist()


def test_decoding_stops_at_the_first_end(tokenizer: CaptionTokenizer) -> None:
    row = tokenizer.encode(["A dog barks."]).inputs[0].tolist()
    assert tokenizer.decode([*row, tokenizer.eos_id, *row[1:]]) == "A dog barks."
    assert tokenizer.decode([tokenizer.bos_id, tokenizer.eos_id]) == ""


def test_save_and_load(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    loaded = CaptionTokenizer.load(tmp_path / "tokenizer", max_tokens=20)
    assert loaded.encode(SENTENCES).inputs.tolist() == tokenizer.encode(SENTENCES).inputs.tolist()
    assert len(loaded) == len(tokenizer)


def test_a_space_before_the_first_word_makes_it_the_same_token(tokenizer: CaptionTokenizer) -> None:
    first, second = (tokenizer.encode([text]).targets[0].tolist() for text in ("bell", "a bell"))
    assert first == second[-len(first) :]


def test_words(tmp_path: Path) -> None:
    """Whole words in small letters; what was never read can't be said."""
    words = CaptionTokenizer.train(SENTENCES, None, max_tokens=20, kind="words")
    expected = {word for text in SENTENCES for word in text.lower().replace(",", "").rstrip(".").split()}
    assert len(words) == len(expected) + 2
    batch = words.encode(["A clock ticks slowly, AND then: thunder!", "A dog sneezes."])
    assert batch.mask.sum(1).tolist() == [8, 4]
    assert words.decode(batch.inputs[0].tolist()) == "a clock ticks slowly and then thunder"
    assert words.decode(batch.inputs[1].tolist()) == "a dog"
    words.save(tmp_path / "words")
    loaded = CaptionTokenizer.load(tmp_path / "words", max_tokens=20)
    assert loaded.encode(SENTENCES).inputs.tolist() == words.encode(SENTENCES).inputs.tolist()
    assert loaded.decode(batch.inputs[1].tolist()) == "a dog"
    assert len(loaded) == len(words) == len(CaptionTokenizer.train(SENTENCES, 999, kind="words"))
    assert len(CaptionTokenizer.train(SENTENCES, 5, kind="words")) == 5


def test_bad_input(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of them blank"):
        tokenizer.encode(["A dog barks.", "  "])
    with pytest.raises(ValueError, match="at least one"):
        tokenizer.encode([])
    with pytest.raises(ValueError, match="at least 257"):
        CaptionTokenizer.train(SENTENCES, 100)
    with pytest.raises(ValueError, match="expected one of bpe, words"):
        CaptionTokenizer.train(SENTENCES, 300, kind="letters")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 3"):
        CaptionTokenizer.train(SENTENCES, 2, kind="words")
    with pytest.raises(ValueError, match="no tokenizer found"):
        CaptionTokenizer.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="knows no tokens"):
        CaptionTokenizer.load(tmp_path)


def test_the_settings_beside_a_vocabulary_tell_what_it_is(tmp_path: Path) -> None:
    """Only a vocabulary with nothing beside it is taken for GPT-2's."""
    words = CaptionTokenizer.train(SENTENCES, None, max_tokens=20, kind="words")
    words.save(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"left": 0, "over": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    loaded = CaptionTokenizer.load(tmp_path, max_tokens=20)
    assert loaded.encode(SENTENCES).inputs.tolist() == words.encode(SENTENCES).inputs.tolist()


def test_code_beside_a_tokenizer_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "y")
    CaptionTokenizer.train(SENTENCES, 257).save(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "strange.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Strange: ...\n")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["strange.Strange", "strange.Strange"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no tokenizer found"):
        CaptionTokenizer.load(tmp_path)
    assert not ran.exists()
    assert not asked, "nobody is asked whether it may run"
