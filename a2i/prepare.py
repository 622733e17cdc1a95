"""`python -m a2i.prepare data=NAME`: a data set, there and checked, and its sounds decoded once for all epochs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from a2i.command_line import entry_point
from a2i.compose import check_targets, fitting, plain, prepared_data_set
from a2i.machine import begin_program

if TYPE_CHECKING:
    from a2i.data import Clip


FILLING = ("cache", "waveforms", "features", "workers")  # settings of `fill_cache`


def fill_cache(
    clips: list["Clip"],
    cache: str | Path,
    waveforms: bool = True,
    features: int | None = None,
    workers: int | None = None,
) -> None:
    """Prepare waveforms and features, as `conf/prepare.yaml` says.

    Raises:
        OSError: the disk has too little room.
        ValueError: some sound files can't be used.
    """
    from a2i.data import cache as caches
    from a2i.data.filling import fill
    from a2i.features import FeatureSettings

    wanted = [caches.waveforms(cache)] if waveforms else []
    wanted += [caches.log_mels(cache, FeatureSettings(num_mel_bins=features))] if features is not None else []
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


def check(settings: dict[str, Any]) -> None:
    """Check all settings before any work begins.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
    """
    check_targets(settings)
    fitting(count, {"splits": settings["splits"]})
    if not settings["splits"]:
        raise ValueError("got splits=[]; expected a list of splits, such as splits=[train,val]")
    if settings["cache"] is None:
        return
    fitting(fill_cache, {name: settings[name] for name in FILLING})
    for name, lowest in (("features", 1), ("workers", 0)):
        if settings[name] is not None and settings[name] < lowest:
            raise ValueError(f"got {name}={settings[name]}; expected null or a whole number of at least {lowest}")
    if not settings["waveforms"] and settings["features"] is None:
        raise ValueError("got waveforms=false and features=null; expected one of them, or cache=null for none")


@entry_point("prepare")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = plain(config)
    check(settings)
    clips = count(settings["data"], settings["splits"])
    if settings["cache"] is None:
        return
    try:
        fill_cache(clips, **{name: settings[name] for name in FILLING})
    except KeyboardInterrupt:
        print("\ninterrupted; what was made is kept: the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    begin_program()
    main()
