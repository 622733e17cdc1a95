"""Sources of clips → Lightning's loaders."""

import copy
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.pytorch import LightningDataModule

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip, DataSet, Drawing
from a2i.data.cache import Cache, loader, waveforms
from a2i.training import ranks
from a2i.training.augment import WaveformAugment
from a2i.training.batches import CaptionChoice, ClipDataset, InputKind, LengthBatchSampler, ResumableLoader, collate
from a2i.training.labels import label_names

logger = logging.getLogger(__name__)


class CaptionDataModule(LightningDataModule):
    """Loads any source of captioned clips in batches of similar length."""

    def __init__(
        self,
        source: DataSet,
        tokenizer: CaptionTokenizer,
        sampling_rate: int,
        batch_size: int = 8,
        captions: CaptionChoice = "first",
        val_batch_size: int | None = None,
        num_workers: int = 0,
        cache: str | Path | None = None,
        inputs: tuple[InputKind, Cache, float] | None = None,
        augment: WaveformAugment | None = None,
        seed: int = 0,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Set up, without reading anything yet.

        Args:
            source: see `a2i.data`.
            tokenizer: the captioner's.
            sampling_rate: of the waveforms that the captioner hears, in Hz.
            batch_size: clips in a training batch: of one step, over all devices together, so that a run is the same on any
                number of devices.
            captions: of a clip in an epoch: its `first` (as published), a `random` one, or `all`.
            val_batch_size: clips in a validation batch, over all devices; None for `batch_size`.
            num_workers: processes that read sounds; 0 for none but this one.
            cache: of decoded sounds: None for none; `memory`, in each process that reads them, 4 bytes a sample; or a folder,
                from which all processes read them, filled by `a2i.prepare` or as they come.
            inputs: what is read of a clip in place of its waveform, the cache that holds it, and the padding value; None for
                waveforms.
            augment: of training waveforms; None for none.
            seed: of all that is random: the order, the choice of captions, what `augment` does.
            labels: names of the labels, in the order in which they stand in a batch; None for those of the training clips.

        Raises:
            ValueError: waveforms are to be augmented, but log-mels or states are read.
        """
        super().__init__()
        if inputs is not None and augment is not None:
            raise ValueError(f"got loader.inputs={inputs[0]} with waveforms to augment; set loader.augment=null")
        self.load, self.inputs, self.augment = _load(cache, sampling_rate), inputs, augment
        self.sampling_rate = sampling_rate
        self.source, self.tokenizer = source, tokenizer
        self.batch_size, self.val_batch_size = batch_size, val_batch_size or batch_size
        self.captions, self.num_workers, self.seed = captions, num_workers, seed
        self._labels = labels
        self.clips: dict[str, list[Clip]] = {}
        self._given = 0
        self._shared = True
        self._drawn = functools.partial(source.drawn, seed=seed) if isinstance(source, Drawing) else None
        self._seconds: dict[str, list[float]] = {}

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """List the clips.

        Raises:
            FileNotFoundError: files are missing; the message says exactly which.
            ValueError: a split has no clip, or the ranks found others each.
        """
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in splits.get(stage or "fit", ("train", "val")):
            if split not in self.clips:
                self.clips[split] = self.source.clips(split)
                self._seconds[split] = [clip.seconds() for clip in self.clips[split]]
            if not self.clips[split]:
                raise ValueError(f"the split {split!r} has no clips; expected at least one")
            found = ranks.of_each(self._known_by(split))
            if len(set(found)) > 1:  # a batch is shared by the clips' places in the list
                raise ValueError(
                    f"the devices found different clips of the split {split!r} ({'; '.join(found)}): a file or shard that one"
                    " can read is missing for another; mend that, and start again"
                )

    def _known_by(self, split: str) -> str:
        """How many clips a split has, and a hash of all that an epoch's order depends on."""
        digest = hashlib.sha256()
        for clip, seconds in zip(self.clips[split], self._seconds[split], strict=True):
            digest.update(f"{clip.name}\0{clip.start} {clip.end} {seconds}\n".encode(errors="backslashreplace"))
        return f"{len(self.clips[split])} clips of hash {digest.hexdigest()[:8]}"

    @property
    def labels(self) -> list[str]:
        """Names of the labels; they stand in a batch in this order."""
        return list(self._labels or label_names(self.clips.get("train", [])))

    def train_dataloader(self) -> ResumableLoader:
        loader = self._loader("train", self.batch_size, self.captions, shuffle=True)
        # A loader that Lightning asks for in mid-run, with reload_dataloaders_every_n_epochs, begins where the last one ended.
        loader.go_on_from(max(self._given, self.state_dict()["given"]))
        return loader

    def plain_dataloader(self) -> ResumableLoader:
        """The training clips as they are, in their order."""
        return self._loader("train", self.val_batch_size, self.captions, shuffle=False)

    def part(self, clips: Sequence[Clip], mix: float, changed: bool = True) -> "CaptionDataModule":
        """The same with some of the training clips alone, of which another share is mixed with others of these.

        Args:
            clips: that it trains on.
            mix: share that is mixed, where this one augments.
            changed: as this one changes them; False mixes them as they are.
        """
        part = copy.copy(self)
        part._drawn = None
        part.clips, part._seconds = {"train": list(clips)}, {"train": [clip.seconds() for clip in clips]}
        if (own := self.augment) is not None:
            part.augment = copy.copy(own)
            if not changed:
                part.augment = WaveformAugment(gap_db=own.gap_db, gain_db=0.0, shift=False, in_turn=own.in_turn)
            part.augment.mix = mix
        return part

    def alone(self) -> "CaptionDataModule":
        """The same for a process that works while the others wait: with all clips of every batch."""
        own = copy.copy(self)
        own._shared = False
        return own

    def state_dict(self) -> dict[str, Any]:
        """Batches that were learnt from, over all epochs: not the one that an interruption fell into. And what they are of."""
        if self.trainer is None:
            return {"given": self._given, **self._known()}
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return {"given": total.processed, **self._known()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._given = state_dict["given"]

    def check_same(self, state_dict: dict[str, Any]) -> None:
        """Tell whether a run that goes on has other training clips than before; call it once they are listed.

        Raises:
            ValueError: the weights that were learnt mean other tokens or labels than these clips give.
        """
        now = self._known()
        before = {name: state_dict.get(name, now[name]) for name in now}  # an earlier version kept none
        clips = f"{before['clips']} then, {now['clips']} now"
        if before["meanings"] != now["meanings"]:
            raise ValueError(
                f"the training clips are not those of the run ({clips}), and give other tokens or labels than its weights have"
                " learnt; put back what is missing, or begin a new run"
            )
        if before["clips"] != now["clips"] and ranks.rank() == 0:
            logger.warning(
                "the training clips are not those from before (%s): of this epoch some may come twice, and others not",
                clips,
            )

    def _known(self) -> dict[str, str]:
        """Hashes of the training clips, and of what a captioner's numbers mean."""
        if "train" not in self.clips:
            return {}
        meanings = [sorted(self.tokenizer.tokenizer.get_vocab().items()), self.labels]
        digest = hashlib.sha256(json.dumps(meanings).encode()).hexdigest()
        return {"clips": self._known_by("train"), "meanings": digest[:16]}

    def val_dataloader(self) -> ResumableLoader:
        return self._loader("val", self.val_batch_size, "all", shuffle=False)

    def test_dataloader(self) -> ResumableLoader:
        return self._loader("test", self.val_batch_size, "all", shuffle=False)

    def train_batches(self) -> int:
        """Of an epoch."""
        return self._loader("train", self.batch_size, self.captions, shuffle=True).epoch

    def _loader(self, split: str, batch_size: int, captions: CaptionChoice, shuffle: bool) -> ResumableLoader:
        clips = self.clips[split]
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer and self._shared else (0, 1)
        # Lightning cuts epochs itself; the sampler has to know where those of training end, to begin the next one there.
        limit = trainer.limit_train_batches if trainer and split == "train" else None
        seconds = self._seconds[split]
        chooses = shuffle and self._drawn is not None and self._drawn(0) is not None
        drawn = cast(Callable[[int], Sequence[int]], self._drawn) if chooses else None
        sampler = LengthBatchSampler(seconds, batch_size, shuffle, self.seed, rank, ranks, limit, drawn)
        workers: dict[str, Any] = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        kind, load, padding = self.inputs or ("waveforms", self.load, 0.0)
        return ResumableLoader(
            ClipDataset(
                clips, captions, self.seed, self.sampling_rate, self.augment if shuffle else None, load, shuffle
            ),
            sampler,
            collate_fn=collate(self.tokenizer, self.labels, kind, padding),
            **workers,
        )


def _load(cache: str | Path | None, rate: int) -> Callable[[Clip], np.ndarray]:
    """What gives a clip's waveform."""
    if cache == "memory":
        return functools.cache(loader(rate))
    return loader(rate) if cache is None else waveforms(cache, rate)
