"""Several data sets as one."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from a2i.data import Clip, DataSet
from a2i.data.tags import Tags


class Combined:
    """The clips of several data sets, one set after another. A clip is called ``key/name``.

    With `weights` an epoch draws from each set in proportion to its weight. A set is gone through to its end before any of its
    clips comes again, however many epochs that takes: then every clip of it has been learnt from as often as any other, or once
    more. Which clips an epoch has is a function of the seed and the epoch's number alone, so a run that goes on draws the same.

    Args:
        sources: data sets by key. Each must have every split that is asked for, or raises its own error.
        repeat: by key, how many times a data set's training clips come in an epoch; 1 for keys that are not given. It
            balances few real recordings with many made sounds.
        tags: what a tagger hears in their recordings, which training may learn from too; None for none.
        weights: by key, the set's share of an epoch, of any sum; 1 for keys that are not given. None for all clips once, or
            as `repeat` says.
        epoch_clips: with `weights`, clips in an epoch; None for as many as all sets together have.
        scored: keys of the sets whose validation and test clips count; None for all.
    """

    def __init__(
        self,
        sources: Mapping[str, DataSet],
        repeat: Mapping[str, int] | None = None,
        tags: Tags | None = None,
        weights: Mapping[str, float] | None = None,
        epoch_clips: int | None = None,
        scored: Sequence[str] | None = None,
    ) -> None:
        if not sources:
            raise ValueError(
                "no source; expected at least one, such as data.sources.mine._target_=a2i.data.folder.Folder"
            )
        self.sources, self.repeat, self.tags = dict(sources), dict(repeat or {}), tags
        known = ", ".join(self.sources)
        wrong = {key: times for key, times in self.repeat.items() if key not in self.sources or times < 1}
        if wrong:
            raise ValueError(f"got repeat={wrong}; expected 1 or more, of {known}")
        if weights is not None and self.repeat:
            raise ValueError(f"got weights={dict(weights)} and repeat={self.repeat}; expected one of the two")
        given = {
            key: weight
            for key, weight in (weights or {}).items()
            if key not in self.sources or not 0 < weight < math.inf
        }
        if given:
            raise ValueError(
                f"got weights={given}; expected more than 0, of {known} (~data.sources.KEY ~data.weights.KEY leave a set out)"
            )
        if epoch_clips is not None and (weights is None or epoch_clips < len(self.sources)):
            raise ValueError(
                f"got epoch_clips={epoch_clips}; expected weights beside it, and at least a clip of each set"
            )
        if unknown := set(scored or ()) - set(self.sources):
            raise ValueError(
                f"got scored={sorted(unknown)}; expected some of {known}: data.scored=[{next(iter(sources))}]"
            )
        self.weights = None if weights is None else {key: float(weights.get(key, 1.0)) for key in self.sources}
        self.epoch_clips, self.scored = epoch_clips, list(self.sources) if scored is None else list(scored)
        self._sizes: list[int] | None = None

    def prepare(self) -> None:
        """Prepare each data set."""
        for source in self.sources.values():
            source.prepare()

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` of every data set, in the order given."""
        clips = [
            replace(clip, name=f"{key}/{clip.name}")
            for key, source in self.sources.items()
            if split == "train" or key in self.scored
            for clip in source.clips(split) * (self.repeat.get(key, 1) if split == "train" else 1)
        ]
        return clips if self.tags is None else self.tags.of(clips)

    def drawn(self, epoch: int, seed: int) -> list[int] | None:
        """Which of the training clips an epoch has, each set's by its weight, as indices; None without weights.

        Args:
            epoch: its number, from 0.
            seed: another draws others.
        """
        if self.weights is None:
            return None
        if self._sizes is None:
            sizes = {key: len(source.clips("train")) for key, source in self.sources.items()}
            if empty := [key for key, size in sizes.items() if size == 0]:
                raise ValueError(f"{', '.join(empty)} has no clip for training; leave it out: ~data.sources.KEY")
            self._sizes = list(sizes.values())
        counts = shares(list(self.weights.values()), self.epoch_clips or sum(self._sizes))
        found, before = [], 0
        for key, size, count in zip(self.sources, self._sizes, counts, strict=True):
            for place in range(epoch * count, (epoch + 1) * count):
                found.append(before + _order(f"{seed} {key} {place // size}", size)[place % size])
            before += size
        return found


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to weights, at least 1 each, that add up to a total; the largest rests are rounded up."""
    exact = [weight * total / math.fsum(weights) for weight in weights]
    found = [max(1, math.floor(share)) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda index: (found[index] - exact[index], index))
    for index in by_rest[: max(0, total - sum(found))]:
        found[index] += 1
    while sum(found) > total:  # where a share was below 1
        found[max(range(len(found)), key=lambda index: found[index])] -= 1
    return found


@lru_cache(maxsize=8)
def _order(name: str, size: int) -> list[int]:
    """The numbers below `size`, in an order that the name decides."""
    order = list(range(size))
    random.Random(name).shuffle(order)
    return order
