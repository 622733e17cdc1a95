"""Captions as they come, a line each in a file beside the scores, so that no interruption costs the captioning."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

from a2i.audio import Held
from a2i.data import Clip
from a2i.evaluate.settings import CaptioningSettings
from a2i.metrics.provenance import settings_hash, versions
from a2i.names import PLACE, chosen_settings, deciding_captioner, is_folder
from a2i.whole import not_written


class Caption(NamedTuple):
    """What a captioner said of a clip."""

    candidates: tuple[str, ...]  # the best first
    confidence: float | None


class KeptCaptions:
    """A file of captions, only ever added to; each line says by a hash which settings made it.

    Args:
        file: which may not be there yet.
        made_by: whatever changes a caption, by name, as plain values.
    """

    def __init__(self, file: Path, made_by: Mapping[str, Any]) -> None:
        self.file, self.made_by = file, dict(made_by)
        self.key = settings_hash(self.made_by)

    def read(self, clips: Iterable[Clip]) -> tuple[dict[str, Caption], list[str]]:
        """The captions by the clips' names, of those whose sound is the same still; and which other settings there are.

        Lines that can't be read, as a killed process leaves one, are passed over.

        Returns:
            the captions; and where there is none with these settings, the names of the settings in which the last ones
            that are there differ.
        """
        sounds = {clip.name: _sound(clip) for clip in clips}
        found: dict[str, Caption] = {}
        before: dict[str, Any] | None = None
        ours = False
        for line in self._lines():
            try:
                row = json.loads(line)
                if "made_by" in row:
                    before, ours = dict(row["made_by"]), ours or row["settings"] == self.key
                elif row["settings"] == self.key and row["sound"] == sounds.get(row["file_name"], 0):
                    found[row["file_name"]] = _caption(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
        if ours or before is None:
            return found, []
        return found, [name for name, value in self.made_by.items() if before.get(name) != value] or ["settings"]

    def begin(self) -> None:
        """Say in the file what makes the captions to come; what a killed process wrote half of stays a line of its own."""
        content = self.file.read_bytes() if self.file.is_file() else b""
        if content and not content.endswith(b"\n"):
            self._append("\n")
        if f'"settings": "{self.key}", "made_by"' not in content.decode("utf-8", "replace"):
            self._append(_line({"settings": self.key, "made_by": self.made_by}))

    def add(self, captions: Iterable[tuple[Clip, Caption]]) -> None:
        """Add captions; they are in the file when this is done, whatever becomes of the process.

        Raises:
            OSError: the file can't be written.
        """
        rows = (
            {"settings": self.key, "file_name": clip.name, "sound": _sound(clip), **caption._asdict()}
            for clip, caption in captions
        )
        self._append("".join(map(_line, rows)))

    def _append(self, text: str) -> None:
        try:
            # Processes that share the work all add to one file: with one write at its end each, no lines are mixed.
            with self.file.open("ab") as file:
                file.write(text.encode("utf-8"))
        except OSError as error:
            raise not_written(self.file, error) from error

    def _lines(self) -> list[str]:
        if not self.file.is_file():
            return []
        return self.file.read_bytes().decode("utf-8", "replace").split("\n")


def made_by(captioner: "str | Path | Mapping[str, Any]", settings: CaptioningSettings) -> dict[str, Any]:
    """What makes the captions of an evaluation: a captioner's files, the data, decoding settings, versions.

    Args:
        captioner: name, folder, Hub id, or settings as `conf/captioner` has them.
        settings: of which `seed` counts where captions are sampled.
    """
    own: Any = chosen_settings("captioner", captioner) if isinstance(captioner, str | Path) else captioner
    if is_folder(own):
        from a2i.models import captioner_folder  # here: --help and a wrong name need not wait for torch

        own = _contents(captioner_folder(own[PLACE["captioner"]], own.get("revision")))
    elif isinstance(own, Mapping):
        own = deciding_captioner(own)
    seeded = {"seed": settings.seed} if settings.decoding.get("do_sample") else {}
    return {
        "captioner": own,
        "data": settings.data,
        "split": settings.split,
        "decoding": settings.decoding,
        **seeded,
        **({"rerank": [settings.rerank, settings.rerank_model]} if settings.rerank else {}),
        "versions": versions("a2i", "torch", "transformers"),
    }


def _contents(folder: Path) -> str:
    """A hash of a captioner folder's files, but for the card, which changes no caption."""
    from a2i.captioner.folder import CARD_FILE

    total = sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CARD_FILE:
            with path.open("rb") as file:
                total.update(
                    f"{path.relative_to(folder).as_posix()}\n{file_digest(file, 'sha256').hexdigest()}\n".encode()
                )
    return total.hexdigest()[:16]


def _sound(clip: Clip) -> list[int] | None:
    """By which a sound that was exchanged is noticed: bytes, and nanoseconds of its last change or some of a hash; None if it
    is not there."""
    if isinstance(clip.path, Held):
        return [clip.path.size, int(clip.path.digest[:12], 16)]
    try:
        known = os.stat(clip.path)
    except (OSError, ValueError):
        return None
    return [known.st_size, known.st_mtime_ns]


def _caption(row: Mapping[str, Any]) -> Caption:
    candidates, confidence = row["candidates"], row["confidence"]
    if not candidates or not all(isinstance(text, str) for text in candidates):
        raise ValueError("no captions")
    if confidence is not None and not (isinstance(confidence, float | int) and math.isfinite(confidence)):
        raise ValueError("no confidence")
    return Caption(tuple(candidates), confidence)


def _line(row: Mapping[str, Any]) -> str:
    # Escaped, so that a line is a line whatever a name holds.
    return json.dumps(row, allow_nan=False, default=str) + "\n"
