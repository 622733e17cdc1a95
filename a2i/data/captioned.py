"""Clips with a system's captions: read and write tables of them, and find their sounds and pictures."""

import csv
import io
import json
import math
import os
import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from a2i.audio import Held
from a2i.captioner.cleaning import words
from a2i.data.folder import MissingRecordingsError, locate, named_place, read_table, told
from a2i.whole import write_text

PREDICTED = "caption_predicted"


@dataclass(frozen=True)
class Captioned:
    """A clip with a system's caption.

    Attributes:
        file_name: its name in the data set.
        caption: what the system says; may be empty.
        references: what people say.
        candidates: captions that the system proposed, the best first.
        confidence: of the caption, in [0, 1]; None if the system does not say.
        audio: the sound file; None if it was not found.
        start: seconds from the file's beginning; None for the beginning.
        end: seconds from the file's beginning; None for the end.
        image: a picture drawn from the caption; None without one.
        human_image: a picture drawn from the first reference; None without one.
        error: why there is no caption, in one line; None where nothing failed.
    """

    file_name: str
    caption: str
    references: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    confidence: float | None = None
    audio: Path | Held | None = None
    start: float | None = None
    end: float | None = None
    image: Path | None = None
    human_image: Path | None = None
    error: str | None = None


def read_captions(path: str | Path, need_references: bool = True, sounds: str | Path | None = None) -> list[Captioned]:
    """Any system's captions from a CSV with columns `file_name`, `caption_predicted`, `caption_1` … `caption_n`.

    Args:
        path: of the CSV; other columns are ignored.
        need_references: False for a table that may have none, such as a DCASE submission.
        sounds: the folder that the names are relative to, if it is known.

    Returns:
        one clip for each row; captions may be empty. An `error` that evaluate wrote in place of a caption is read too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or there twice, or a row has no name, no reference, a name that another has, or
            one that leads out of the folder of sounds.
    """
    path = Path(os.path.expanduser(path))
    table = read_table(path, ["file_name", PREDICTED, *(["caption_1"] if need_references else [])])
    clips: dict[str, Captioned] = {}
    named: set[str] = set()  # a blank behind a name is a slip, and no other clip
    for number, row in table:
        numbered = [name for name in row if name.startswith("caption_") and name.removeprefix("caption_").isdigit()]
        references = tuple(row[name].strip() for name in numbered if row[name].strip())
        name = row["file_name"]
        if not name.strip():
            raise ValueError(f"{path}, row {number}: no file name; expected one, or no row")
        if need_references and not references:
            raise ValueError(f"{path}, row {number}: no reference; expected one in {', '.join(numbered)}")
        if same_clip(name) in named:
            raise ValueError(f"{path}, row {number}: {name.strip()!r} is there twice; expected one row a clip")
        named.add(same_clip(name))
        if sounds is not None:
            named_place(Path(os.path.expanduser(sounds)), name, f"{path}, row {number}")
        caption = row[PREDICTED].strip()
        # Other people's tables may have a column of that name which says something of a caption that is there.
        failed = None if caption else row.get("error", "").strip() or None
        clips[name] = Captioned(name, caption, references, error=failed)
    if not clips:
        raise ValueError(f"{path}: no rows; expected one a clip")
    return list(clips.values())


def aligned(clips: Sequence[Captioned], others: Sequence[Captioned], source: str) -> list[Captioned]:
    """Another system's captions of the same clips, in their order and with their names, references, sounds and people's
    pictures.

    Args:
        clips: whose order and references count.
        others: in any order.
        source: of the others, for the message.

    Raises:
        ValueError: the others are not of the same clips; says which.
    """
    check_same_clips([clip.file_name for clip in clips], [clip.file_name for clip in others], source)
    theirs = {same_clip(clip.file_name): clip for clip in others}
    ours_too = ("file_name", "references", "audio", "start", "end", "human_image")
    return [
        replace(theirs[same_clip(clip.file_name)], **{name: getattr(clip, name) for name in ours_too}) for clip in clips
    ]


def in_both(clips: Sequence[Captioned], others: Sequence[Captioned]) -> list[Captioned]:
    """The clips that are also among the others."""
    theirs = {same_clip(clip.file_name) for clip in others}
    return [clip for clip in clips if same_clip(clip.file_name) in theirs]


def same_clip(name: str) -> str:
    """A clip's name in one spelling: forward slashes, no `./`, no blanks at the ends, Unicode normal form C."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/"))


def check_same_clips(names: Sequence[str], others: Sequence[str], source: str) -> None:
    """Check that two systems captioned the same clips; the ValueError lists those that differ.

    Args:
        names: of the clips that are evaluated.
        others: of those of another system.
        source: of the others, for the message.
    """
    ours, theirs = ({same_clip(name): name for name in some} for some in (names, others))
    missing, more = (sorted(one[key] for key in one.keys() - other) for one, other in ((ours, theirs), (theirs, ours)))
    if missing or more:
        parts = [f"without {_names(missing)}"] if missing else []
        parts += [f"with {_names(more)}, which are not evaluated"] if more else []
        raise ValueError(
            f"{source}: got {len(theirs)} clips, {' and '.join(parts)}; expected the same {len(ours)} clips that are evaluated"
        )


def check_references(references: Mapping[str, Sequence[str]], source: str) -> None:
    """Check that every clip has a reference with a word in it, which most metrics need; the ValueError lists those that don't.

    Args:
        references: by the clips' names.
        source: of the references, for the message.
    """
    bare = [name for name, texts in references.items() if not any(map(words, texts))]
    if bare:
        what = "1 clip has" if len(bare) == 1 else f"{len(bare)} clips have"
        raise ValueError(
            f"{source}: {what} no reference with a word in it: {_names(bare)}; expected one, or no such clip"
        )


def with_sounds(clips: Sequence[Captioned], folder: str | Path) -> list[Captioned]:
    """The clips with their sound files in `audio`; None for those that the folder does not have.

    Raises:
        ValueError: it is no folder, or has none of them.
    """
    folder, names = Path(os.path.expanduser(folder)), [clip.file_name for clip in clips]
    try:
        found = locate(names, folder, "")
    except MissingRecordingsError as error:
        found = locate([name for name in names if name not in set(error.missing)], folder, "")
    if not found:
        raise ValueError(
            f"got audio={told(folder)}, which has none of the clips ({_names(names)}); expected their folder"
        )
    return [replace(clip, audio=found.get(clip.file_name)) for clip in clips]


def with_pictures(clips: Sequence[Captioned], folder: str | Path) -> tuple[list[Captioned], int]:
    """The clips with the pictures that `python -m a2i.infer` left in a folder, and how many drew another caption.

    A picture belongs to a clip by its sound's path as `results.jsonl` has it, as far as that is known, else by its sound's
    name, else by its own: `<stem>.png`.

    Raises:
        ValueError: it is no folder, or has none of them; `results.jsonl` or a picture can't be read; or a clip could have
            the picture of another, whose sound has the same name.
    """
    folder = Path(os.path.expanduser(folder))
    by_path = _drawn(folder)
    by_name: dict[str, list[Path]] = {}
    for sound in by_path:
        by_name.setdefault(unicodedata.normalize("NFC", sound.name), []).append(sound)
    found, other = [], 0
    owners: dict[Path, str] = {}
    for clip in clips:
        path = PurePosixPath(same_clip(clip.file_name))
        there = clip.audio.resolve() if isinstance(clip.audio, Path) else None
        own = [there] if there in by_path else by_name.get(path.name, [])
        if len(own) > 1:  # sounds of several folders have one name
            own = [sound for sound in own if sound.as_posix().endswith(f"/{path}")]
            if len(own) != 1:
                raise ValueError(
                    f"got pictures={told(folder)}, with pictures of several sounds that {clip.file_name!r} may mean; "
                    "expected audio=FOLDER beside it, where these sounds are"
                )
        image, caption = by_path[own[0]] if own else (folder / f"{path.stem}.png", None)
        if not image.is_file():
            found.append(replace(clip, image=None))
            continue
        if not own and owners.setdefault(image, clip.file_name) != clip.file_name:
            raise ValueError(
                f"got pictures={told(folder)}, where {image.name} may be of {owners[image]!r} and of {clip.file_name!r}; "
                "expected results.jsonl beside it, as a2i.infer writes it"
            )
        told_inside = _caption_in(image)
        found.append(replace(clip, image=image))
        other += (caption or told_inside or clip.caption) != clip.caption
    if not any(clip.image for clip in found):
        raise ValueError(
            f"got pictures={told(folder)}, which has none of these clips; expected a folder of a2i.infer's"
        )
    return found, other


def _drawn(folder: Path) -> dict[Path, tuple[Path, str]]:
    """A picture and its caption by the path of their sound, from the `results.jsonl` of a folder, if it has one."""
    file = folder / "results.jsonl"
    drawn: dict[Path, tuple[Path, str]] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else [""]
        for line in lines[:-1]:  # the last is empty, or half of one that a kill left
            row = json.loads(line)
            if row["image"]:
                drawn[Path(row["audio"]).resolve()] = folder / Path(row["image"]).name, row["caption"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: can't be read ({error}); expected the one that a2i.infer writes") from error
    return drawn


def _caption_in(path: Path) -> str | None:
    """The caption that a picture of a2i's holds; None for another.

    Raises:
        ValueError: it can't be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            caption = image.info.get("caption")
            image.verify()
            return caption
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: can't be read as a picture ({error}); remove it, or draw it again with a2i.infer"
        ) from error


def write_scored(path: Path, clips: Sequence[Captioned], columns: Mapping[str, Sequence[float] | None]) -> None:
    """Write `file_name`, `caption_predicted`, `caption_1` … `caption_n`, then the values, a row a clip.

    Where a clip failed, a last column `error` says why.

    Args:
        path: of the CSV.
        clips: N of which nothing failed, at least one, and any number of others.
        columns: N values by name; empty cells where there are none, or a value is not a number.

    Raises:
        OSError: it can't be written.
    """
    count = max(len(clip.references) for clip in clips)
    errors = ["error"] if any(clip.error is not None for clip in clips) else []
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", PREDICTED, *(f"caption_{i + 1}" for i in range(count)), *columns, *errors])
    index = 0
    for clip in clips:
        references = [*clip.references, *[""] * (count - len(clip.references))]
        values = [""] * len(columns)
        if clip.error is None:
            known = (None if of_clips is None else of_clips[index] for of_clips in columns.values())
            values = [f"{value:.6f}" if value is not None and math.isfinite(value) else "" for value in known]
            index += 1
        writer.writerow([clip.file_name, clip.caption, *references, *values, *(clip.error or "" for _ in errors)])
    write_text(path, text.getvalue())


def write_submission(path: Path, clips: Sequence[Captioned]) -> None:
    """Write captions as the DCASE challenge's audio captioning task asks for them: `file_name`, `caption_predicted`.

    A CSV with a header and a row a clip (DCASE 2020 to 2024, task 6; evaluated in the same columns by its baselines).
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", PREDICTED])
    writer.writerows([clip.file_name, clip.caption] for clip in clips)
    write_text(path, text.getvalue())


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
