"""Foley: sounds that the project makes itself, with captions, on disk in Clotho's layout.

Nothing is recorded or downloaded: a dozen sources are synthesised, put into scenes and described. The settings alone decide
what is on disk: the same settings give the same bytes, with the same versions of numpy and scipy.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from a2i.data import Clip
from a2i.data.foley.files import Task, make, replace
from a2i.data.foley.recipe import FORMAT, SPLITS, FoleySettings, captions_of, file_name_of, scene_of
from a2i.data.foley.scenes import Scene
from a2i.data.foley.sources import SOURCES
from a2i.machine import cores

__all__ = ["Foley"]

CAPTION_COLUMNS = tuple(f"caption_{number}" for number in range(1, 6))


class Foley:
    """Made sounds and their captions, as a data set.

    On disk: ``root/development/*.wav`` (16 bits), ``root/clotho_captions_development.csv`` and the like for
    ``validation`` and ``evaluation``, and ``root/foley.json`` with the settings and the sources in each file, which is
    written last.

    Args:
        root: the folder; it is made where there is none.
        n_train, n_val, n_test: clips in each split.
        seed: 0 or more; other seeds give other sounds.
        min_seconds, max_seconds: the length of a clip lies between the two.
        sample_rate: Hz, at least 12000.
        alone, mixed, sequence: the shares of clips with one source, with two at once, with one after the other.
        sources: which sources to draw from; None for all.
        workers: processes that make the files; None for as many as the machine has cores.

    Raises:
        ValueError: a setting is out of range, or a source unknown.
    """

    def __init__(
        self,
        root: str | Path,
        n_train: int = 600,
        n_val: int = 60,
        n_test: int = 60,
        seed: int = 0,
        min_seconds: float = 5.0,
        max_seconds: float = 12.0,
        sample_rate: int = 16_000,
        alone: float = 0.5,
        mixed: float = 0.25,
        sequence: float = 0.25,
        sources: Sequence[str] | None = None,
        workers: int | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; expected 1 or more, or none for one per core")
        chosen = list(SOURCES if sources is None else sources)
        order = [name for name in SOURCES if name in chosen] + [name for name in chosen if name not in SOURCES]
        self.settings = FoleySettings(
            n_train, n_val, n_test, seed, min_seconds, max_seconds, sample_rate, alone, mixed, sequence, tuple(order)
        )
        self.root, self.workers = Path(root), workers

    def prepare(self) -> None:
        """Make what is missing. Interrupted, it goes on where it was; two at once write the same bytes.

        Raises:
            ValueError: the folder holds clips made with other settings.
        """
        self._refuse_other_settings()
        tasks = [task for task in self._tasks() if not task[3].exists()]
        if self._mark.exists() and not tasks:
            return
        if not self._mark.exists():
            replace(self._begun, json.dumps(self._identity, indent=2).encode())
        make(tasks, self.workers or cores())
        for split in SPLITS:
            replace(self._table(split), self._caption_table(split))
        replace(self._mark, json.dumps(self._identity | {"clips": self._contents()}, indent=2).encode())
        self._begun.unlink(missing_ok=True)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, in the order of their numbers.

        Raises:
            FileNotFoundError: `prepare` has not been run to its end, or files are missing since.
            ValueError: the split is unknown, or the folder was made with other settings.
        """
        # Here, so that the processes that make the sounds need not load it.
        from a2i.data.clotho import read_split

        _known(split)
        if not self._mark.exists():
            raise FileNotFoundError(f"no finished sounds in {self.root}; call prepare() to make them")
        self._refuse_other_settings()
        advice = "call prepare() to make them again"
        clips = read_split(self._table(split), self.root / SPLITS[split], advice)
        sources = self.sources_in(split)
        return [dataclasses.replace(clip, labels=frozenset(sources[clip.name])) for clip in clips]

    def sources_in(self, split: str) -> dict[str, tuple[str, ...]]:
        """The sources in each file of the split, in the order in which a sequence plays them."""
        return {name: scene.sources for name, scene in self._scenes(_known(split))}

    @property
    def _mark(self) -> Path:
        return self.root / "foley.json"

    @property
    def _begun(self) -> Path:
        """The settings of what is being made, so that other settings do not continue an interrupted run."""
        return self.root / "foley.unfinished.json"

    @property
    def _identity(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.settings)
        return {"format": FORMAT, "settings": settings | {"sources": list(self.settings.sources)}}

    def _table(self, split: str) -> Path:
        return self.root / f"clotho_captions_{SPLITS[split]}.csv"

    def _tasks(self) -> Iterator[Task]:
        for split, folder in SPLITS.items():
            for index in range(self.settings.size(split)):
                yield self.settings, split, index, self.root / folder / file_name_of(self.settings, split, index)

    def _scenes(self, split: str) -> Iterator[tuple[str, Scene]]:
        for index in range(self.settings.size(split)):
            yield file_name_of(self.settings, split, index), scene_of(self.settings, split, index)

    def _caption_table(self, split: str) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(("file_name", *CAPTION_COLUMNS))
        for index in range(self.settings.size(split)):
            writer.writerow((file_name_of(self.settings, split, index), *captions_of(self.settings, split, index)))
        return text.getvalue().encode("utf-8")

    def _contents(self) -> dict[str, dict[str, Any]]:
        return {
            folder: {name: {"scene": scene.kind, "sources": scene.sources} for name, scene in self._scenes(split)}
            for split, folder in SPLITS.items()
        }

    def _refuse_other_settings(self) -> None:
        for path in (self._mark, self._begun):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                theirs = {"format": found["format"], **found["settings"]}
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} can't be read ({error}); delete the folder {self.root}") from error
            ours = {"format": FORMAT, **self._identity["settings"]}
            differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
            if differing:
                what = "; ".join(f"{name}: {theirs.get(name)!r} there, {ours.get(name)!r} now" for name in differing)
                raise ValueError(
                    f"{self.root} holds sounds made with other settings ({what}); delete that folder, choose another "
                    "root, or take the settings back"
                )


def _known(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    return split
