"""Several sources as one, split by split."""

from collections.abc import Mapping
from dataclasses import replace

from a2i.data import Clip, Source


class Combined:
    """The clips of several sources one after another; a clip's name gets its source's key in front, ``key/name``.

    Args:
        sources: by key. Each must have every split that is asked for: one that lacks it raises its own error.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        if not sources:
            raise ValueError(
                "no source; expected at least one, such as data.sources.mine._target_=a2i.data.folder.Folder"
            )
        self.sources = dict(sources)

    def prepare(self) -> None:
        """Prepare each source."""
        for source in self.sources.values():
            source.prepare()

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` of every source, in the order of the sources."""
        return [
            replace(clip, name=f"{key}/{clip.name}")
            for key, source in self.sources.items()
            for clip in source.clips(split)
        ]
