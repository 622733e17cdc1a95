"""Several data sets as one."""

from collections.abc import Mapping
from dataclasses import replace

from a2i.data import Clip, DataSet
from a2i.data.tags import Tags


class Combined:
    """The clips of several data sets, one set after another. A clip is called ``key/name``.

    Args:
        sources: data sets by key. Each must have every split that is asked for, or raises its own error.
        repeat: by key, how many times a data set's training clips come in an epoch; 1 for keys that are not given. It
            balances few real recordings with many made sounds.
        tags: what a tagger hears in their recordings, which training may learn from too; None for none.
    """

    def __init__(
        self, sources: Mapping[str, DataSet], repeat: Mapping[str, int] | None = None, tags: Tags | None = None
    ) -> None:
        if not sources:
            raise ValueError(
                "no source; expected at least one, such as data.sources.mine._target_=a2i.data.folder.Folder"
            )
        self.sources, self.repeat, self.tags = dict(sources), dict(repeat or {}), tags
        wrong = {key: times for key, times in self.repeat.items() if key not in self.sources or times < 1}
        if wrong:
            raise ValueError(f"got repeat={wrong}; expected 1 or more, of {', '.join(self.sources)}")

    def prepare(self) -> None:
        """Prepare each data set."""
        for source in self.sources.values():
            source.prepare()

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"`` of every data set, in the order given."""
        clips = [
            replace(clip, name=f"{key}/{clip.name}")
            for key, source in self.sources.items()
            for clip in source.clips(split) * (self.repeat.get(key, 1) if split == "train" else 1)
        ]
        return clips if self.tags is None else self.tags.of(clips)
