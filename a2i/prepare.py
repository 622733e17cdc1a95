"""`python -m a2i.prepare data=NAME`: download or make a data set, check it, and say what it holds."""

import hydra
from omegaconf import DictConfig

from a2i.compose import clear_errors, plain, prepared, use_arguments
from a2i.places import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="prepare")
def main(config: DictConfig) -> None:
    """Entry point."""
    from rich.console import Console
    from rich.table import Table

    table = Table("split", "clips", "captions", "hours")
    with clear_errors():
        source = prepared(plain(config.data))
        for split in config.splits:
            clips = source.clips(split)
            seconds = sum(clip.seconds() for clip in clips)
            captions = sum(len(clip.captions) for clip in clips)
            table.add_row(split, str(len(clips)), str(captions), f"{seconds / 3600:.2f}")
    Console().print(table)


if __name__ == "__main__":
    use_arguments(paths=("data.root",))
    main()
