import dataclasses
import functools
import weakref
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i import audio
from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.data import cache as caches
from a2i.data.cache import Entry, waveforms
from a2i.training.augment import WaveformAugment
from a2i.training.batches import Broken, BrokenClipError, ClipDataset, LengthBatchSampler, ResumableLoader, collate

lengths = st.lists(st.floats(0.1, 30.0), min_size=1, max_size=60)


def counted(batch: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Without the stand-in of a rank that has no clip."""
    return [key for key in batch if len(key) == 2]


@settings(max_examples=60)
@given(
    seconds=lengths,
    batch_size=st.integers(1, 9),
    ranks=st.integers(1, 9),
    seed=st.integers(0, 9),
    shuffle=st.booleans(),
    first=st.integers(0, 70),
)
def test_ranks_share_the_batches_of_one(
    seconds: list[float], batch_size: int, ranks: int, seed: int, shuffle: bool, first: int
) -> None:
    """From any place on: in each step they have the clips of one process's batch, each clip once, as many each but for one;
    whoever has none has a stand-in from the same batch."""
    if shuffle:
        ranks = min(ranks, batch_size)
    alone = LengthBatchSampler(seconds, batch_size, shuffle, seed)
    samplers = [LengthBatchSampler(seconds, batch_size, shuffle, seed, rank, ranks) for rank in range(ranks)]
    for sampler in (alone, *samplers):
        sampler.given = first
    steps = list(alone)
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(steps)}
    assert {len(sampler) for sampler in samplers} == {len(alone)}
    for step, of_ranks in zip(steps, zip(*shares, strict=True), strict=True):
        assert sorted(key for share in of_ranks for key in counted(share)) == sorted(step)
        sizes = [len(counted(share)) for share in of_ranks]
        assert max(sizes) - min(sizes) <= 1
        for share in of_ranks:
            if not counted(share):
                assert [key[:2] for key in share] == [step[-1]]
    if not shuffle or first % len(alone) == 0:
        assert sorted(index for step in steps for _, index in step) == list(range(len(seconds)))


@settings(max_examples=40)
@given(seconds=lengths, batch_size=st.integers(1, 9), given_=st.integers(0, 40), seed=st.integers(0, 9))
def test_resuming_anywhere_goes_on_in_the_same_order(
    seconds: list[float], batch_size: int, given_: int, seed: int
) -> None:
    def batches(sampler: LengthBatchSampler, count: int) -> list[list[tuple[int, ...]]]:
        result: list[list[tuple[int, ...]]] = []
        while len(result) < count:
            for batch in sampler:
                sampler.given += 1
                result.append(batch)
                if len(result) == count:
                    break
        return result

    whole = batches(LengthBatchSampler(seconds, batch_size, True, seed), given_ + 20)
    resumed = LengthBatchSampler(seconds, batch_size, True, seed)
    resumed.given = given_
    assert batches(resumed, 20) == whole[given_:]


def test_lengths_are_similar_within_a_batch_and_epochs_differ() -> None:
    seconds = [float(i % 30) for i in range(300)]
    sampler = LengthBatchSampler(seconds, 10, shuffle=True)
    spread = [max(seconds[i] for i in batch) - min(seconds[i] for i in batch) for batch in sampler.order(0)]
    assert max(spread) <= 1
    assert sampler.order(0) != sampler.order(1)
    assert LengthBatchSampler(seconds, 10, shuffle=True, seed=1).order(0) != sampler.order(0)
    unshuffled = LengthBatchSampler(seconds, 10, shuffle=False).order(0)
    assert [seconds[batch[0]] for batch in unshuffled] == sorted((seconds[b[0]] for b in unshuffled), reverse=True)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = []
    for index in range(7):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, tone(300 + index, 0.2 + 0.1 * index), 16_000)
        made.append(Clip(path.name, path, tuple(f"Bell {index} {word}." for word in ("rings", "rang"))))
    return made


def test_a_stand_in_is_heard_and_does_not_count(clips: list[Clip], tokenizer: CaptionTokenizer) -> None:
    dataset = ClipDataset(clips, "all", 0, 16_000)
    batch = collate(tokenizer)([dataset[0, 4, 1]])
    assert not batch.counts
    assert batch.to("cpu").counts is False
    assert torch.equal(batch.waveforms, collate(tokenizer)([dataset[0, 4]]).waveforms)


def loader(clips: list[Clip], tokenizer: CaptionTokenizer, workers: int = 0) -> ResumableLoader:
    sampler = LengthBatchSampler([0.2 + 0.1 * i for i in range(7)], 3, shuffle=True)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    return ResumableLoader(ClipDataset(clips, "random", 0, 16_000), sampler, collate_fn=collate(tokenizer), **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_goes_on_anywhere(clips: list[Clip], tokenizer: CaptionTokenizer, workers: int) -> None:
    """Also where workers have fetched batches ahead that nobody has had; the choice of captions goes on too."""
    whole = loader(clips, tokenizer)
    expected = [(batch.names, batch.tokens.inputs.tolist()) for _ in range(3) for batch in whole]
    resumed = loader(clips, tokenizer, workers)
    resumed.go_on_from(2)
    iter(resumed)  # creating an iterator gives nothing out
    assert [(batch.names, batch.tokens.inputs.tolist()) for _ in range(3) for batch in resumed] == expected[2:]


def test_the_loader_holds_no_batch_while_it_makes_the_next(clips: list[Clip], tokenizer: CaptionTokenizer) -> None:
    batches, handed_out = iter(loader(clips, tokenizer)), []
    for _ in range(2):
        batch = next(batches)
        handed_out.append(weakref.ref(batch))
        del batch
        assert handed_out[-1]() is None


def test_a_limit_shortens_epochs() -> None:
    whole = LengthBatchSampler([1.0] * 10, 2, shuffle=True)
    for limit, count in ((3, 3), (9, 5), (0.5, 2), (1.0, 5)):
        limited = LengthBatchSampler([1.0] * 10, 2, shuffle=True, limit=limit)
        assert limited.epoch == count
        assert len(limited) == 5, "Lightning takes its share of all batches"
        assert limited.order(4) == whole.order(4)[:count]


def test_a_batch(clips: list[Clip], tokenizer: CaptionTokenizer) -> None:
    dataset = ClipDataset(clips, "all", 0, 16_000)
    batch = collate(tokenizer)([dataset[0, 4], dataset[0, 1]])
    assert batch.names == ["4.wav", "1.wav"]
    assert batch.lengths.tolist() == [9_600, 4_800]
    assert batch.waveforms.shape == (2, 9_600)
    assert not batch.waveforms[1, 4_800:].any()
    assert batch.clip_index.tolist() == [0, 0, 1, 1]
    assert batch.references[1] == clips[1].captions
    assert tokenizer.decode(batch.tokens.inputs[3].tolist()) == clips[1].captions[1]
    moved = batch.to("meta")
    assert moved.waveforms.device == moved.tokens.inputs.device == torch.device("meta")


def test_a_batch_from_a_cache(clips: list[Clip], tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    cache = waveforms(tmp_path / "cache", 16_000)
    for _ in range(2):  # made, then read
        items = [ClipDataset(clips, "first", 0, 16_000, load=cache)[0, index] for index in range(len(clips))]
        batch = collate(tokenizer)(items)
        assert batch.waveforms is not None
        for clip, row, length in zip(clips, batch.waveforms, batch.lengths, strict=True):
            assert np.array_equal(row[:length].numpy(), audio.load(clip.path, 16_000))
            assert not row[length:].any()
    assert {type(sound) for _, sound, _, _, _ in items} == {Entry}


def test_choice_of_captions(clips: list[Clip]) -> None:
    def chosen(choice: str, epoch: int) -> list[tuple[str, ...]]:
        dataset = ClipDataset(clips, choice, 0, 16_000)  # type: ignore[arg-type]
        return [dataset[epoch, index][2] for index in range(len(clips))]

    assert chosen("first", 3) == [clip.captions[:1] for clip in clips]
    assert chosen("all", 3) == [clip.captions for clip in clips]
    assert chosen("random", 0) == chosen("random", 0)
    assert any(chosen("random", 0) != chosen("random", epoch) for epoch in range(1, 4))
    with pytest.raises(ValueError, match="expected one of first, random, all"):
        chosen("second", 0)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="at least 1 of each"):
        LengthBatchSampler([], 3, shuffle=True)
    with pytest.raises(ValueError, match=r"got loader.batch_size=3 for 4 devices; expected at least a clip for each"):
        LengthBatchSampler([1.0] * 9, 3, shuffle=True, ranks=4)


def labelled(clips: list[Clip]) -> list[Clip]:
    """Two of one source, one of another, one with nothing to name."""
    labels = [frozenset({"bell"}), frozenset({"bell"}), frozenset({"rain"}), frozenset[str]()]
    return [dataclasses.replace(clip, labels=label) for clip, label in zip(clips, labels, strict=False)]


def test_what_is_mixed_has_no_label_in_common_and_says_both(clips: list[Clip]) -> None:
    some = labelled(clips)
    data = ClipDataset(some, "all", 0, 16_000, WaveformAugment(mix=1.0, shift=False, gain_db=0))
    for epoch in range(10):
        _, waveform, captions, labels, _ = data[epoch, 0]
        assert len(waveform) == max(audio.load(some[index].path, 16_000).size for index in (0, 2))
        assert all("ell 0" in caption and "ell 2" in caption for caption in captions)
        assert len(captions) == 2
        assert labels == {"bell", "rain"}
        _, waveform, captions, _, _ = data[epoch, 3]
        assert captions == some[3].captions
        assert np.array_equal(waveform.numpy(), audio.load(some[3].path, 16_000))
    unknown = ClipDataset(clips, "first", 0, 16_000, WaveformAugment(mix=1.0))
    assert len({unknown[epoch, 0][2] for epoch in range(10)}) > 3


def test_what_is_behind_is_heard_and_not_named(clips: list[Clip]) -> None:
    some = labelled(clips)
    data = ClipDataset(some, "all", 0, 16_000, WaveformAugment(background=1.0, shift=False, gain_db=0))
    plain = audio.load(some[0].path, 16_000)
    _, waveform, captions, labels, _ = data[0, 0]
    assert waveform.shape == plain.shape
    assert not np.allclose(waveform.numpy(), plain, atol=1e-3)
    assert np.corrcoef(waveform.numpy(), plain)[0, 1] > 0.8
    assert (captions, labels) == (some[0].captions, some[0].labels)
    assert np.array_equal(data[0, 3][1].numpy(), audio.load(some[3].path, 16_000))  # nothing is behind what has no name


def test_augmenting_depends_on_seed_epoch_and_clip_alone(clips: list[Clip]) -> None:
    data = [
        ClipDataset(labelled(clips), "random", seed, 16_000, WaveformAugment(mix=0.5, speed=0.1, background=0.5))
        for seed in (0, 0, 1)
    ]
    items = [[each[epoch, index] for epoch in (0, 1) for index in range(4)] for each in data]
    for (_, first, said, _, _), (_, second, said_too, _, _) in zip(items[0], items[1], strict=True):
        assert torch.equal(first, second)
        assert said == said_too
    assert not any(
        torch.equal(first, second) for (_, first, *_), (_, second, *_) in zip(items[0], items[2], strict=True)
    )
    assert not torch.equal(items[0][0][1], items[0][4][1])


def test_a_cache_reads_each_sound_once(clips: list[Clip]) -> None:
    augment, load = WaveformAugment(mix=1.0, speed=0.1), functools.cache(caches.loader(16_000))
    data = ClipDataset(labelled(clips), "first", 0, 16_000, augment, load)
    items = [data[epoch, index] for epoch in (0, 1) for index in range(4)]
    plain = ClipDataset(labelled(clips), "first", 0, 16_000, WaveformAugment(mix=1.0, speed=0.1))
    for clip in clips:
        clip.path.write_bytes(b"no longer a sound")
    for (_, waveform, _, _, _), again in zip(
        items, (data[epoch, index] for epoch in (0, 1) for index in range(4)), strict=True
    ):
        assert torch.equal(waveform, again[1])
    broken = plain[0, 0]
    assert isinstance(broken, Broken)
    assert "can't be read" in broken.message


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sound_that_breaks_is_named_in_one_line(clips: list[Clip], tokenizer: CaptionTokenizer, workers: int) -> None:
    """Not with the traceback of the process that reads."""
    clips[3].path.write_bytes(b"no longer a sound")
    with pytest.raises(BrokenClipError, match=r"^'3\.wav': .*3\.wav: can't be read as sound") as broken:
        list(loader(clips, tokenizer, workers))
    assert "\n" not in str(broken.value)
