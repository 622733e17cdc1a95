"""`python -m a2i.prepare data=NAME`: a data set, there and checked, and its sounds decoded once for all epochs."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig

from a2i.command_line import entry_point
from a2i.compose import checked, plain, prepared_data_set
from a2i.machine import begin_program

if TYPE_CHECKING:
    from a2i.data import Clip
    from a2i.features import FeatureSettings


@dataclass(frozen=True)
class PrepareSettings:
    """The settings of `conf/prepare.yaml`, checked; that file tells what each is."""

    data: dict[str, Any]
    splits: list[str]
    cache: str | None
    waveforms: bool
    features: int | None
    kind: str
    workers: int | None
    shards: str | None
    shard_mb: float
    encoding: Literal["original", "flac"]

    def __post_init__(self) -> None:
        if not self.splits:
            raise ValueError("got splits=[]; expected a list of splits, such as splits=[train,val]")
        from a2i.audio.addresses import is_address, without_secrets  # here: --help need not wait for NumPy

        for name, folder in (("shards", self.shards), ("cache", self.cache)):
            if folder is not None and is_address(folder):
                raise ValueError(
                    f"got {name}={without_secrets(folder)}, an address; expected a folder of this machine"
                    + (", which can be copied there when it is written" if name == "shards" else "")
                )
        if self.shards is not None and not 0 < self.shard_mb < math.inf:
            raise ValueError(f"got shard_mb={self.shard_mb}; expected more than 0, such as 500")
        if self.cache is None and self.shards is None:
            return
        for name, value, lowest in (("features", self.features, 1), ("workers", self.workers, 0)):
            if value is not None and value < lowest:
                raise ValueError(f"got {name}={value}; expected null or a whole number of at least {lowest}")
        if self.shards is None and not self.waveforms and self.features is None:
            raise ValueError("got waveforms=false and features=null; expected one of them, or cache=null for none")
        feature_settings(self.kind, self.features)


def check(settings: dict[str, Any]) -> PrepareSettings:
    """Check all settings before any work begins.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
    """
    return checked(PrepareSettings, settings)


def feature_settings(kind: Any, num_mel_bins: int | None) -> "FeatureSettings":
    """Of the features that will be learnt from.

    Raises:
        ValueError: there is no such kind.
    """
    from a2i.features import FeatureSettings  # here: --help need not wait for torch

    return FeatureSettings(kind=kind, **({} if num_mel_bins is None else {"num_mel_bins": num_mel_bins}))


def fill_cache(
    clips: list["Clip"],
    cache: str | Path,
    waveforms: bool = True,
    features: int | None = None,
    kind: str = "ast",
    workers: int | None = None,
) -> None:
    """Prepare waveforms and features, as `conf/prepare.yaml` says.

    Raises:
        OSError: the disk has too little room.
        ValueError: some sound files can't be used.
    """
    from a2i.data import cache as caches
    from a2i.data.filling import fill

    learnt = feature_settings(kind, features)
    wanted = [caches.waveforms(cache, learnt.sampling_rate)] if waveforms else []
    wanted += [caches.log_mels(cache, learnt)] if features is not None else []
    made = fill(wanted, clips, workers, lambda line: print(line, flush=True))
    print(f"{made} entries made, the others were there; to train from them: loader.cache={cache}")


def write_shards(
    clips: dict[str, list["Clip"]],
    folder: str | Path,
    shard_mb: float = 500,
    encoding: Literal["original", "flac"] = "original",
    kind: str = "ast",
) -> None:
    """Write the clips of each split as shards, as `conf/prepare.yaml` says.

    Raises:
        OSError: the disk has too little room.
        ValueError: some sound files can't be used; the others are in the shards. Or the folder holds shards of other clips.
    """
    from a2i.data.shards import read_list
    from a2i.data.shards.places import Place
    from a2i.data.shards.writing import failed, told, write_clips

    place, rate = Path(folder).expanduser(), feature_settings(kind, None).sampling_rate
    failures = []
    for split, some in clips.items():
        failures += write_clips(place, split, some, shard_mb, encoding, rate)
    print(
        f"{told(read_list(Place(str(place), place, 0)))} in {place}; to learn from them: data=shards data.root={place}"
    )
    if failures:
        raise failed(failures, place)


def count(data: dict[str, Any], splits: list[str], strict: bool = True) -> dict[str, list["Clip"]]:
    """Prepare a data set, print how much each split holds, and give the clips of each.

    Raises:
        OSError: a sound file is not there; only where `strict`.
        ValueError: a sound file can't be used; only where `strict`.
    """
    from rich.console import Console
    from rich.table import Table

    table, every = Table("split", "clips", "captions", "hours"), {}
    source = prepared_data_set(data)
    for split in splits:
        clips = source.clips(split)
        seconds = sum(_seconds(clip, strict) for clip in clips)
        captions = sum(len(clip.captions) for clip in clips)
        table.add_row(split, str(len(clips)), str(captions), f"{seconds / 3600:.2f}")
        every[split] = clips
    Console().print(table)
    return every


def _seconds(clip: "Clip", strict: bool) -> float:
    try:
        return clip.seconds()
    except (OSError, ValueError):
        if strict:
            raise
        return 0.0  # told when its shard is written


@entry_point("prepare")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    clips = count(settings.data, settings.splits, strict=settings.shards is None)
    if settings.cache is None and settings.shards is None:
        return
    try:
        if settings.shards is not None:
            write_shards(clips, settings.shards, settings.shard_mb, settings.encoding, settings.kind)
            return
        assert settings.cache is not None
        every = [clip for some in clips.values() for clip in some]
        fill_cache(every, settings.cache, settings.waveforms, settings.features, settings.kind, settings.workers)
    except KeyboardInterrupt:
        print("\ninterrupted; what was made is kept: the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    begin_program()
    main()
