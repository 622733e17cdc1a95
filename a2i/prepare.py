"""`python -m a2i.prepare data=NAME`: a data set, there and checked, and its sounds decoded once for all epochs."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def __post_init__(self) -> None:
        if not self.splits:
            raise ValueError("got splits=[]; expected a list of splits, such as splits=[train,val]")
        if self.cache is None:
            return
        for name, value, lowest in (("features", self.features, 1), ("workers", self.workers, 0)):
            if value is not None and value < lowest:
                raise ValueError(f"got {name}={value}; expected null or a whole number of at least {lowest}")
        if not self.waveforms and self.features is None:
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


def count(data: dict[str, Any], splits: list[str]) -> list["Clip"]:
    """Prepare a data set, print how much each split holds, and give all clips of these."""
    from rich.console import Console
    from rich.table import Table

    table, every = Table("split", "clips", "captions", "hours"), []
    source = prepared_data_set(data)
    for split in splits:
        clips = source.clips(split)
        seconds = sum(clip.seconds() for clip in clips)
        captions = sum(len(clip.captions) for clip in clips)
        table.add_row(split, str(len(clips)), str(captions), f"{seconds / 3600:.2f}")
        every += clips
    Console().print(table)
    return every


@entry_point("prepare")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    clips = count(settings.data, settings.splits)
    if settings.cache is None:
        return
    try:
        fill_cache(clips, settings.cache, settings.waveforms, settings.features, settings.kind, settings.workers)
    except KeyboardInterrupt:
        print("\ninterrupted; what was made is kept: the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    begin_program()
    main()
