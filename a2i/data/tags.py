"""Tags: what another model, a published tagger of many classes, hears in each recording.

A recording that is labelled with one kind of sound holds others; a kind with few recordings is like others. A tagger's word
says both, and an encoder that learns from it beside the labels learns from a teacher (Hinton et al. 2015, "Distilling the
knowledge in a neural network").
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from a2i.audio import Held
from a2i.data import Clip
from a2i.errors import first_line


class Tags:
    """A table of tags.

    Args:
        table: an `.npz` file with `files` (N,), paths relative to `root`, and `probabilities` (N, classes).
        root: folder of the recordings.
    """

    def __init__(self, table: str | Path, root: str | Path) -> None:
        self.table, self.root = Path(table).expanduser(), Path(root).expanduser().absolute()

    def of(self, clips: Iterable[Clip]) -> list[Clip]:
        """The clips, each with its tags where the table has them.

        Raises:
            FileNotFoundError: there is no table.
            ValueError: the table does not hold what it should.
        """
        tags = self._read()
        return [replace(clip, tags=tags.get(self._place(clip))) for clip in clips]

    def _place(self, clip: Clip) -> str:
        if isinstance(clip.path, Held):
            return ""
        path = clip.path.absolute()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else ""

    def _read(self) -> dict[str, np.ndarray]:
        if not self.table.is_file():
            raise FileNotFoundError(
                f"{self.table}: no such file; expected a table of tags, or a data set without: tags=null"
            )
        try:
            with np.load(self.table, allow_pickle=False) as table:
                files, probabilities = table["files"], table["probabilities"].astype(np.float32)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(
                f"{self.table}: can't be read as tags ({first_line(error)}); expected an .npz file with files and"
                " probabilities"
            ) from error
        inside = probabilities.ndim == 2 and bool(((probabilities >= 0) & (probabilities <= 1)).all())
        if not inside or len(files) != len(probabilities):
            raise ValueError(
                f"{self.table}: got {len(files)} files and probabilities of shape {probabilities.shape}; expected"
                " (files, classes) from 0 to 1"
            )
        return {str(file): row for file, row in zip(files.tolist(), probabilities, strict=True)}
