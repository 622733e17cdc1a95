"""ESC-10: 5 s recordings of ten kinds of sound, 44.1 kHz mono Ogg Vorbis (Piczak, ACM Multimedia 2015)."""

import re
from pathlib import Path

from a2i.data import Clip
from a2i.data.esc10_captions import LABELS, SENTENCES, captions_for

_FOLDER = re.compile(r"\d{3} - (.+)")
_FILE = re.compile(r"(?P<fold>\d+)-(?P<freesound_id>\d+)-(?P<take>[A-Za-z0-9]+)\.ogg")
_SOURCE = "https://github.com/karolpiczak/ESC-10"


class Esc10:
    """ESC-10 in its official layout, ``root/001 - Dog bark/fold-freesoundID-take.ogg``, with captions of our making.

    The data set has kinds, but no captions: each clip gets sentences that name its kind (`a2i.data.esc10_captions`). Clips
    cut from one recording share a fold, so splits are folds: one is ``"val"``, one ``"test"``, the others ``"train"``.

    Args:
        root: the folder with the ten folders of kinds.
        val_fold: the fold to validate on; None to train on that too, and validate on none.
        test_fold: the fold to test on; it may be absent unless ``"test"`` is asked for.
        captions_per_clip: different sentences for a clip, at most 14.
        seed: another seed gives the clips other sentences.
    """

    def __init__(
        self, root: str | Path, val_fold: int | None = 4, test_fold: int = 5, captions_per_clip: int = 5, seed: int = 0
    ) -> None:
        if val_fold == test_fold:
            raise ValueError(f"val_fold and test_fold are both {val_fold}; expected two folds, or clips leak")
        self.root = Path(root)
        self.val_fold, self.test_fold = val_fold, test_fold
        self.captions_per_clip, self.seed = captions_per_clip, seed

    def prepare(self) -> None:
        """Check that the ten kinds are there and that training and validation have clips; nothing is made."""
        for split in ("train", "val"):
            self.clips(split)

    def clips(self, split: str) -> list[Clip]:
        """The clips of ``"train"``, ``"val"`` or ``"test"``, kind by kind, in the order of their names.

        Raises:
            FileNotFoundError: the folder of a kind is missing.
            ValueError: the split is unknown or its fold absent, or a file's name is not of the data set's form.
        """
        return [
            Clip(
                path.name,
                path,
                captions_for(kind, path.name, self.captions_per_clip, self.seed),
                labels=frozenset({LABELS[kind]}),
                recording=path.name.split("-")[1],  # its number at Freesound
            )
            for path, kind in self._files(split)
        ]

    def kinds(self, split: str) -> dict[str, str]:
        """The kind of each clip by its name, such as ``"Dog bark"``: what a caption should name."""
        return {path.name: kind for path, kind in self._files(split)}

    def _files(self, split: str) -> list[tuple[Path, str]]:
        if split not in ("train", "val", "test"):
            raise ValueError(f"unknown split {split!r}; expected one of train, val, test")
        by_fold: dict[int, list[tuple[Path, str]]] = {}
        names: dict[str, Path] = {}
        for kind, folder in self._folders().items():
            for path in sorted(folder.glob("*.ogg")):
                match = _FILE.fullmatch(path.name)
                if not match:
                    raise ValueError(f"{path} is not called fold-freesoundID-take.ogg; rename or remove it")
                if path.name in names:
                    raise ValueError(f"{path} and {names[path.name]} have one name; it is in two kinds: remove one")
                names[path.name] = path
                by_fold.setdefault(int(match["fold"]), []).append((path, kind))
        held_out = {"val": self.val_fold, "test": self.test_fold}
        fold = held_out.get(split)
        if split == "val" and fold is None:
            return []
        if fold is not None:
            if fold not in by_fold:
                raise ValueError(
                    f"no fold {fold} for {split!r} in {self.root}, which has the folds {sorted(by_fold)}; "
                    f"set data.{split}_fold to one of them"
                )
            return by_fold[fold]
        files = [file for fold in sorted(by_fold.keys() - held_out.values()) for file in by_fold[fold]]
        if not files:
            raise ValueError(
                f"only the folds {sorted(by_fold)} are in {self.root}: none is left for 'train'; add others"
            )
        return files

    def _folders(self) -> dict[str, Path]:
        matches = [(_FOLDER.fullmatch(path.name), path) for path in (self.root.iterdir() if self.root.is_dir() else ())]
        folders = {match[1]: path for match, path in sorted(matches, key=lambda pair: pair[1]) if match}
        absent = [kind for kind in SENTENCES if kind not in folders]
        if absent:
            raise FileNotFoundError(
                f"no folder in {self.root} for {', '.join(absent)}; expected '001 - Dog bark' and so on: get ESC-10 "
                f"from {_SOURCE} and set data.root to its folder"
            )
        return {kind: folders[kind] for kind in SENTENCES}
