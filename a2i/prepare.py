"""`python -m a2i.prepare data=NAME`: a data set, there and checked, and its sounds decoded once for all epochs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from a2i.compose import clear_errors, plain, prepared, use_arguments
from a2i.machine import begin_program
from a2i.places import CONF

if TYPE_CHECKING:
    from a2i.data import Clip


def fill_cache(settings: dict[str, Any], clips: list["Clip"]) -> None:
    """Prepare waveforms and features as `conf/prepare.yaml` asks.

    Raises:
        OSError: the disk has too little room.
        ValueError: a setting does not fit, or some sound files can't be used.
    """
    from a2i.data.cache import log_mels, waveforms
    from a2i.data.filling import fill
    from a2i.features import FeatureSettings

    folder, bins, workers = Path(settings["cache"]).expanduser(), settings["features"], settings["workers"]
    for name, value, lowest in (("features", bins, 1), ("workers", workers, 0)):
        if value is not None and (not isinstance(value, int) or value < lowest):
            raise ValueError(f"got {name}={value!r}; expected null or a whole number of at least {lowest}")
    caches = [waveforms(folder)] if settings["waveforms"] else []
    caches += [log_mels(folder, FeatureSettings(num_mel_bins=bins))] if bins is not None else []
    if not caches:
        raise ValueError("got waveforms=false and features=null; expected one of them, or cache=null for none")
    made = fill(caches, clips, workers, lambda line: print(line, flush=True))
    print(f"{made} entries made, the others were there; to train from them: loader.cache={folder}")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="prepare")
def main(config: DictConfig) -> None:
    """Entry point."""
    from rich.console import Console
    from rich.table import Table

    table = Table("split", "clips", "captions", "hours")
    settings, every = plain(config), []
    with clear_errors():
        source = prepared(settings["data"])
        for split in settings["splits"]:
            clips = source.clips(split)
            seconds = sum(clip.seconds() for clip in clips)
            captions = sum(len(clip.captions) for clip in clips)
            table.add_row(split, str(len(clips)), str(captions), f"{seconds / 3600:.2f}")
            every += clips
    Console().print(table)
    if settings["cache"] is None:
        return
    try:
        with clear_errors():
            fill_cache(settings, every)
    except KeyboardInterrupt:
        print("\ninterrupted; what was made is kept: the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    begin_program()
    use_arguments(paths=("data.root", "cache"))
    main()
