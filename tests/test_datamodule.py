import csv
from pathlib import Path

import pytest
from conftest import SENTENCES

from a2i.captioner.text import CaptionTokenizer
from a2i.data.clotho import Clotho
from a2i.data.folder import Folder
from a2i.training import ranks
from a2i.training.datamodule import CaptionDataModule


@pytest.fixture
def folder(sounds: Path) -> Path:
    with (sounds / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "caption_1", "caption_2", "split"])
        for name, split in (("low", "train"), ("middle", "train"), ("high", "val")):
            writer.writerow([f"{name}.wav", *SENTENCES[:2], split])
    return sounds


def test_loaders_of_any_source(folder: Path, tokenizer: CaptionTokenizer) -> None:
    data = CaptionDataModule(Folder(folder), tokenizer, 16_000, batch_size=1, captions="random", val_batch_size=4)
    data.prepare_data()
    data.setup("fit")
    assert data.train_batches() == 2
    assert sorted(name for batch in data.train_dataloader() for name in batch.names) == ["low.wav", "middle.wav"]
    (batch,) = data.val_dataloader()
    assert batch.names == ["high.wav"]
    assert batch.references == [tuple(SENTENCES[:2])]
    assert len(batch.tokens.inputs) == 2, "validation takes all captions"


def test_it_goes_on_after_the_batches_that_were_learnt_from(folder: Path, tokenizer: CaptionTokenizer) -> None:
    data = CaptionDataModule(Folder(folder), tokenizer, 16_000, batch_size=1)
    data.setup("fit")
    assert data.state_dict()["given"] == 0
    seen = [batch.names for batch in data.train_dataloader()]
    again = CaptionDataModule(Folder(folder), tokenizer, 16_000, batch_size=1)
    again.load_state_dict({"given": 1})
    again.setup("fit")
    assert [batch.names for batch in again.train_dataloader()] == seen[1:]


def test_other_clips_than_before_are_told(
    folder: Path, tokenizer: CaptionTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """A shard that is missing now, or one more sound: each clip has another place in the order."""

    def opened(tokens: CaptionTokenizer = tokenizer, labels: list[str] | None = None) -> CaptionDataModule:
        data = CaptionDataModule(Folder(folder), tokens, 16_000, batch_size=1, labels=labels)
        data.setup("fit")
        return data

    state = opened().state_dict()
    opened().check_same(state)
    opened().check_same({"given": 1})  # of an earlier version
    table = (folder / "captions.csv").read_text()
    for name, told in (("high", 0), ("low", 1)):  # validation has no order to go on with
        (folder / "captions.csv").write_text(table.replace(f"{name}.wav,", f"./{name}.wav,"))
        opened().check_same(state)
        assert len(caplog.records) == told
    assert "the training clips are not those from before (2 clips of hash " in caplog.text
    other = CaptionTokenizer.train(["Others were read.", "And read again."], 300)
    for changed in (opened(other), opened(labels=["bell"])):
        with pytest.raises(ValueError, match=r"give other tokens or labels than its weights have learnt; put back"):
            changed.check_same(state)


def test_ranks_that_found_other_clips_do_not_begin(
    folder: Path, tokenizer: CaptionTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes its share of a batch by the clips' places: one that lacks a shard would learn twice from some."""
    data = CaptionDataModule(Folder(folder), tokenizer, 16_000, batch_size=1)
    monkeypatch.setattr(ranks, "of_each", lambda value: [value, "1 clips of hash 0123abcd"])
    with pytest.raises(
        ValueError, match=r"different clips of the split 'train' \(2 clips of hash .*; 1 clips of hash 0"
    ):
        data.setup("fit")


def test_missing_files_are_told_exactly(tmp_path: Path, tokenizer: CaptionTokenizer, real_data: Path) -> None:
    data = CaptionDataModule(Clotho(real_data / "clotho", version="v1"), tokenizer, 16_000)
    with pytest.raises(FileNotFoundError) as missing:
        data.setup("test")
    assert len(missing.value.missing) == 1040  # type: ignore[attr-defined]
    assert "Santa Motor.wav" in str(missing.value)
