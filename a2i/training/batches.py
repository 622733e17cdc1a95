"""Clips → batches: which clips stand together, in which order, and what a batch holds."""

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from a2i.captioner.text import CaptionTokenizer, TokenBatch
from a2i.data import NAMELESS, Clip
from a2i.data.cache import Cache, Entry, loader
from a2i.errors import one_line
from a2i.features import side_by_side
from a2i.training.augment import WaveformAugment, join_captions
from a2i.training.labels import label_shares, mixed_tags, stacked_tags

logger = logging.getLogger(__name__)

CaptionChoice = Literal["first", "random", "all"]
InputKind = Literal["waveforms", "log_mels", "states"]  # what is read of a clip
POOL = 50  # batches that are sorted by length together
INSTEAD = 20  # clips that are tried in the place of one that can't be read


@dataclass
class Batch:
    """B clips with C captions to learn: their `waveforms`, or from a cache their `log_mels` or encoder `states`.

    Attributes:
        names: (B) clips' names.
        waveforms: (B, N) float32 at the captioner's sampling rate, zeros at the end; None where log-mels or states are read.
        lengths: (B,) samples of each, or frames of each log-mel, or states.
        tokens: of C captions.
        clip_index: (C,) the clip that each caption is of.
        references: (B) all captions of each clip.
        labels: (B, labels + 1) shares of each clip; see `label_shares`.
        log_mels: (B, T, num_mel_bins) as `LogMel` gives them, or None.
        states: (B, S, D) as the encoder gives them, or None.
        tags: (B, classes) probabilities, NaN where a clip has none; None where no clip has. See `a2i.data.tags`.
        counts: False for the stand-in of a rank that has no clip of a step; see `LengthBatchSampler`.
    """

    names: list[str]
    waveforms: Tensor | None
    lengths: Tensor
    tokens: TokenBatch
    clip_index: Tensor
    references: list[tuple[str, ...]]
    labels: Tensor | None = None
    log_mels: Tensor | None = None
    states: Tensor | None = None
    tags: Tensor | None = None
    counts: bool = True

    @property
    def mask(self) -> Tensor:
        """(B, T) or (B, S) bool, True for real frames of log-mels, or real states."""
        values = self.log_mels if self.states is None else self.states
        assert values is not None
        return torch.arange(values.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def to(self, device: torch.device | str, **_: Any) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: value.to(device) if hasattr(value, "to") else value for name, value in values.items()})


class BrokenClipError(ValueError):
    """A sound that could not be read in the middle of training; says which, and what is wrong."""


@dataclass(frozen=True)
class Broken:
    """What comes in place of an item, and of its batch, where its sound can't be read.

    Not an error: PyTorch would put the whole traceback of the process that reads into its message.
    """

    message: str


@dataclass(frozen=True)
class StandIn:
    """An item that is heard and not learnt from; see `LengthBatchSampler`."""

    item: "Item"


# A clip; its waveform, log-mel or states, or the cache's entry of it; the captions to learn; the labels and tags of all its
# sources.
Item = tuple[Clip, Tensor | Entry, tuple[str, ...], frozenset[str] | None, np.ndarray | None]


class ClipDataset(Dataset):
    """Items are keyed by (epoch, index), so that all that is random about one is the same after resuming."""

    def __init__(
        self,
        clips: Sequence[Clip],
        captions: CaptionChoice,
        seed: int,
        sampling_rate: int,
        augment: WaveformAugment | None = None,
        load: Callable[[Clip], np.ndarray] | None = None,
        replace: bool = False,
    ) -> None:
        """Set up; `load` gives a clip's waveform of `sampling_rate` Hz, or, without `augment`, its log-mel or states; None for
        the waveform from its sound file. With `replace`, a clip in a broken shard has another in its place, where its data set
        says so."""
        if captions not in get_args(CaptionChoice):
            raise ValueError(f"got captions={captions!r}; expected one of {', '.join(get_args(CaptionChoice))}")
        self.clips, self.captions, self.seed, self.augment = list(clips), captions, seed, augment
        self.sampling_rate, self.load = sampling_rate, load or loader(sampling_rate)
        self.replace, self.told = replace, set[str]()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, ...]) -> Item | StandIn | Broken:
        """The item of (epoch, index); a stand-in where the key has a third number."""
        epoch, index, *stands_in = key
        clip = self.clips[index]
        try:
            item = self._item_or_another(epoch, index)
            return StandIn(item) if stands_in else item
        except (OSError, ValueError) as error:
            return Broken(f"{clip.name!r}: {' '.join(str(error).split())}")

    def _item_or_another(self, epoch: int, index: int) -> Item:
        """The item; another, always the same, where it lies in a broken shard that is to be left out."""
        for attempt in range(INSTEAD):
            clip = self.clips[index]
            try:
                return self._item(clip, epoch, index)
            except (OSError, ValueError) as error:
                if not self.replace or not getattr(clip.path, "replaceable", False) or attempt + 1 == INSTEAD:
                    raise
                if (line := one_line(error)) not in self.told:
                    logger.warning("%s; training takes another clip in its place", line)
                    self.told.add(line)
            index = random.Random(f"{self.seed} {epoch} {index} {attempt}").randrange(len(self.clips))
        raise AssertionError("unreachable")

    def _item(self, clip: Clip, epoch: int, index: int) -> Item:
        chosen, labels, tags = self._chosen(clip, epoch, index), clip.labels, clip.tags
        if self.augment is None and isinstance(self.load, Cache):
            kept = self.load.open(clip)  # the batch reads it to its place
            return clip, kept if isinstance(kept, Entry) else torch.from_numpy(kept), chosen, labels, tags
        waveform = self.load(clip)
        if self.augment is not None:
            rng, rate = np.random.default_rng([self.seed, epoch, index]), self.sampling_rate
            waveform = self.augment.alone(waveform, rate, rng)
            if rng.random() < self.augment.mix and (other := self._other(clip, rng)) is not None:
                second = self.augment.alone(self.load(self.clips[other]), rate, rng)
                waveform = self.augment.together(waveform, second, rate, rng)
                others, more = self._chosen(self.clips[other], epoch, other), self.clips[other].labels
                labels = None if labels is None or more is None else labels | more
                tags = mixed_tags(tags, self.clips[other].tags)
                chosen = tuple(join_captions(*pair, rng) for pair in zip(chosen, others, strict=False))
            elif (
                self.augment.background
                and rng.random() < self.augment.background
                and (other := self._other(clip, rng)) is not None
            ):
                back = self.augment.alone(self.load(self.clips[other]), rate, rng)
                waveform = self.augment.behind(waveform, back, rate, rng)
            waveform = self.augment.recorded(waveform, rate, rng)
        return clip, torch.from_numpy(waveform), chosen, labels, tags

    def _chosen(self, clip: Clip, epoch: int, index: int) -> tuple[str, ...]:
        """The captions to learn in this epoch."""
        if self.captions == "first":
            return clip.captions[:1]
        if self.captions == "random":
            return (random.Random(f"{self.seed} {epoch} {index}").choice(clip.captions),)
        return clip.captions

    def _other(self, clip: Clip, rng: np.random.Generator) -> int | None:
        """A clip of something else to hear beside it; None where there is none, or nothing to name in this one."""
        if _nameless(clip):
            return None
        for index in rng.integers(len(self.clips), size=20).tolist():
            other = self.clips[index]
            known = clip.labels is not None and other.labels is not None
            if other != clip and not _nameless(other) and not (known and clip.labels & other.labels):
                return int(index)
        return None


def learnt(clip: Clip, choice: CaptionChoice) -> tuple[str, ...]:
    """The captions of a clip that some epoch may learn from."""
    return clip.captions[:1] if choice == "first" else clip.captions


def _nameless(clip: Clip) -> bool:
    return clip.labels is not None and clip.labels <= NAMELESS


def collate(
    tokenizer: CaptionTokenizer, names: Sequence[str] = (), kind: InputKind = "waveforms", padding: float = 0.0
) -> Callable[[list[Item | StandIn | Broken]], Batch | Broken]:
    """What makes a batch of a dataset's items; `Broken` where one of them is.

    Args:
        tokenizer: of captions.
        names: of the labels.
        kind: what the items hold of a clip.
        padding: behind the shorter ones.
    """

    def batch(items: list[Item | StandIn | Broken]) -> Batch | Broken:
        if broken := [item for item in items if isinstance(item, Broken)]:
            return Broken("; ".join(item.message for item in broken))
        counts = not any(isinstance(item, StandIn) for item in items)
        whole = [item.item if isinstance(item, StandIn) else item for item in items if not isinstance(item, Broken)]
        clips, sounds, captions, labels, tags = zip(*whole, strict=True)
        try:
            padded = side_by_side(sounds, padding)
        except OSError as error:  # a cache's entry
            return Broken(" ".join(str(error).split()))
        return Batch(
            names=[clip.name for clip in clips],
            waveforms=padded if kind == "waveforms" else None,
            log_mels=padded if kind == "log_mels" else None,
            states=padded if kind == "states" else None,
            lengths=torch.tensor([sound.shape[0] for sound in sounds]),
            tokens=tokenizer.encode([caption for some in captions for caption in some]),
            clip_index=torch.tensor([index for index, some in enumerate(captions) for _ in some]),
            references=[clip.captions for clip in clips],
            labels=torch.tensor([label_shares(some, names) for some in labels]),
            tags=stacked_tags(tags),
            counts=counts,
        )

    return batch


class LengthBatchSampler(Sampler[list[tuple[int, ...]]]):
    """Batches of clips of similar length, in an order that is a function of seed, epoch and batch size alone.

    A batch is that of one step over all ranks: each takes its share of every batch, so that as many ranks as there may be
    learn from the same clips in the same steps, each clip once an epoch. Shares differ by one clip at most. Where a batch has
    fewer clips than there are ranks, the others hear one of its clips again as a stand-in that does not count: they have to
    take part in the step.

    How many batches have been given is all of its state, on each rank the same; Lightning's and torchdata's own ways to resume
    either can't continue in the middle of an epoch, or lose one at an epoch's end.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        limit: int | float | None = None,
        drawn: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        """Arrange clips.

        Args:
            seconds: length of each clip.
            batch_size: clips in a batch, over all ranks.
            shuffle: a new order every epoch; else by length, the longest first.
            seed: of the order.
            rank: of this process.
            ranks: processes.
            limit: of an epoch, as Lightning's `limit_train_batches` counts: batches, or a share of them; None for none.
            drawn: the clips of an epoch, as many in each; None for all.

        Raises:
            ValueError: no clips, or a batch size below 1, or in training below the number of ranks.
        """
        if not seconds or batch_size < 1:
            raise ValueError(f"got {len(seconds)} clips and batch_size={batch_size}; expected at least 1 of each")
        if shuffle and batch_size < ranks:
            raise ValueError(
                f"got loader.batch_size={batch_size} for {ranks} devices; expected at least a clip for each: it is the clips of"
                " a step over all devices"
            )
        self.seconds, self.batch_size, self.shuffle, self.seed = list(seconds), batch_size, shuffle, seed
        self.rank, self.ranks, self.limit = rank, ranks, limit
        self.drawn, self.count = drawn, len(self.seconds if drawn is None else drawn(0))
        self.given = 0

    def __len__(self) -> int:
        """Batches of all clips: the limit is not in it, for Lightning takes its share of this number."""
        return ceil(self.count / self.batch_size)

    @property
    def epoch(self) -> int:
        """Batches of an epoch, as Lightning counts them."""
        if self.limit is None:
            return len(self)
        return min(len(self), self.limit) if isinstance(self.limit, int) else int(len(self) * self.limit)

    def order(self, epoch: int) -> list[list[int]]:
        """All of an epoch's batches, over all ranks, as clips' indices."""
        random_ = random.Random(int.from_bytes(hashlib.sha256(f"{self.seed} {epoch}".encode()).digest()[:8]))
        indices = list(range(self.count) if self.drawn is None else self.drawn(epoch))
        if self.shuffle:
            random_.shuffle(indices)
        pool = self.batch_size * POOL if self.shuffle else len(indices)
        pools = [indices[first : first + pool] for first in range(0, len(indices), pool)]
        indices = [index for some in pools for index in sorted(some, key=lambda index: -self.seconds[index])]
        batches = [indices[first : first + self.batch_size] for first in range(0, len(indices), self.batch_size)]
        if self.shuffle:
            random_.shuffle(batches)
        return batches[: self.epoch]

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        epoch, first = divmod(self.given, self.epoch) if self.shuffle else (0, 0)
        for batch in self.order(epoch)[first:]:
            share = batch[self.rank :: self.ranks]  # of a batch that is sorted by length: as long on each rank
            yield [(epoch, index) for index in share] or [(epoch, batch[-1], 1)]


class ResumableLoader(DataLoader):
    """Counts the batches that it hands over, so that the next epoch is the next one; workers fetch further ahead."""

    def __init__(self, dataset: ClipDataset, sampler: LengthBatchSampler, **options: Any) -> None:
        # With a generator of its own the loader leaves the global random state, on which dropout depends, alone.
        super().__init__(dataset, batch_sampler=sampler, generator=torch.Generator(), **options)

    @property
    def epoch(self) -> int:
        """Batches of an epoch, fewer than `len` where it is limited."""
        return self.batch_sampler.epoch  # type: ignore[union-attr]

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return map(self._counted, super().__iter__())  # a generator would hold each batch while the next is made

    def _counted(self, batch: Batch | Broken) -> Batch:
        if isinstance(batch, Broken):
            raise BrokenClipError(batch.message)
        self.batch_sampler.given += 1  # type: ignore[union-attr]
        return batch

    def go_on_from(self, given: int) -> None:
        """Take so many batches, over all epochs, as given."""
        self.batch_sampler.given = given  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, int]:
        """Empty: Lightning believes a loader that has a state to be resumable, but restores it only in the middle of an
        epoch, and knows not whether the last batch was learnt from. The data module keeps the place."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to load; see `state_dict`."""
