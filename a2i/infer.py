"""`python -m a2i.infer audio=…`: caption sounds and draw the captions."""

import gc
import glob
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from a2i import audio
from a2i.command_line import entry_point
from a2i.compose import at_home, check_out, check_targets, fitting, plain
from a2i.machine import begin_program

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage


def find_sounds(sounds: str | list[str]) -> list[Path]:
    """The files that `audio=` means: a file, a folder (with all below it), a glob pattern, a text file that lists one path
    a line, or several of these as a list or with commas between.

    Raises:
        ValueError: nothing was asked for, or nothing was found. A file that is missing is no error here, nor is a pattern
            or folder without sounds among others: it becomes a failed result, and the others go on.
    """
    if isinstance(sounds, list):
        return _each(sounds)
    path = Path(at_home(sounds))
    kind = _kind(path)
    if kind == "file" and path.suffix.lower() in (".txt", ".lst", ".list"):
        return _each(_listed(path))
    if kind == "file":
        return [path]
    if kind == "folder":
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in audio.SUFFIXES and file.is_file())
        if not found:
            raise ValueError(f"{sounds}: no sound files in this folder; expected {', '.join(sorted(audio.SUFFIXES))}")
        return found
    if any(sign in str(path) for sign in "*?["):
        found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())
        if found:
            return found
        raise ValueError(f"{sounds}: no file matches this pattern")
    parts = [part.strip() for part in sounds.split(",") if part.strip()]
    return _each(parts) if len(parts) > 1 else [path]


def _kind(path: Path) -> str | None:
    try:
        return "folder" if path.is_dir() else "file" if path.exists() else None
    except OSError:  # too long for a name: several with commas between
        return None


def _each(sounds: list[str]) -> list[Path]:
    """What each of several means; a list within a list is a file like any other."""
    found: list[Path] = []
    for sound in map(str, sounds):
        try:
            found += [Path(sound)] if _kind(Path(at_home(sound))) == "file" else find_sounds(sound)
        except ValueError:
            found.append(Path(sound))
    return found


def _listed(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no list in UTF-8; save it again as one, with a path a line") from error
    if not any(lines):
        raise ValueError(f"{path}: lists no files; expected one path a line")
    return [line for line in lines if line]


def output_names(sounds: list[Path]) -> list[str]:
    """A file name without ending for each sound: its stem, with a number behind it where that is taken already."""
    taken: set[str] = set()
    names = []
    for sound in sounds:
        name, count = sound.stem, 1
        # Some file systems take no notice of case.
        while name.lower() in taken:
            count += 1
            name = f"{sound.stem}_{count}"
        taken.add(name.lower())
        names.append(name)
    return names


def infer(
    a2i: "AudioToImage",
    sounds: list[Path],
    out: Path,
    seed: int,
    decoding: dict[str, Any],
    batch_size: int = 1,
    picture_batch: int = 1,
) -> Iterator[dict[str, Any]]:
    """Caption and draw each sound; one that fails gives an `error` and the others go on.

    Yields:
        one object for each sound, as it stands in `results.jsonl`, once its picture is on disk.
    """
    results = a2i.each(sounds, seed, batch_size, picture_batch, show_progress=len(sounds) == 1, **decoding)
    for sound, name, result in zip(sounds, output_names(sounds), results, strict=True):
        row: dict[str, Any] = {
            "audio": str(sound),
            "caption": None,
            "candidates": [],
            "confidence": None,
            "image": None,
            "seed": seed,
            "captioner": a2i.name,
            "image_model": a2i.painter.name if a2i.painter else None,
            "warning": None,
        }
        error, seconds = (result, 0.0) if isinstance(result, Exception) else (None, result.seconds)
        began = time.perf_counter()
        if not isinstance(result, Exception):
            row |= {
                "caption": result.caption,
                "candidates": list(result.candidates),
                "confidence": round(result.confidence, 4),
                "log_probabilities": [round(value, 4) for value in result.log_probabilities],
                "flagged": result.flagged,
                "unseen_tokens": result.unseen_tokens,
                "warning": result.warning,
            }
            row |= {"parts": [asdict(part) for part in result.parts]} if result.parts else {}
            try:
                if result.image is not None:
                    row["image"] = str(result.save(out / f"{name}.png"))
            # Whatever one file does to a disk, the others go on.
            except Exception as failure:
                error = failure
        row["error"] = None if error is None else _line(error)
        row["seconds"] = round(seconds + time.perf_counter() - began, 3)
        yield row


def _line(error: Exception) -> str:
    """What was wrong, in one line; with the error's kind where no user is expected to have caused it."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {message}"


def write_results(rows: Iterator[dict[str, Any]], path: Path, count: int) -> list[dict[str, Any]]:
    """Write a line for each result as soon as it is there, so that an interruption loses none, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = []
    with (
        path.open("w", encoding="utf-8") as file,
        Progress(*columns, disable=count < 2 or not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("listening and drawing", total=count)
        for row in rows:
            file.write(json.dumps(row) + "\n")
            file.flush()
            done.append(row)
            message = (
                f"{row['audio']}: {row['caption']} ({row['confidence']:.0%} sure)"
                + (f"; warning: {row['warning']}" if row["warning"] else "")
                if row["error"] is None
                else f"{row['audio']}: error: {row['error']}"
            )
            # A file's name may be no text at all.
            message = message.encode("utf-8", "replace").decode()
            style = None if row["error"] is None else "red"
            bar.console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)
            bar.advance(task)
    return done


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Check what can be checked before a model is loaded, and give the settings as they are wanted.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `out`.
    """
    settings = fitting(_check, settings)  # held against its annotations
    _check(**settings)
    from a2i.decoders import Decoding  # here: --help and what is wrong above need not wait for torch

    check_targets(settings)
    fitting(Decoding, {name: value for name, value in settings["decoding"].items() if value is not None}, "decoding.")
    return settings


def _check(
    *,
    audio: str | list[str] | None,
    captioner: str | None,
    out: str,
    seed: int,
    device: str | None,
    batch_size: int,
    picture_batch: int,
    **others: Any,
) -> None:
    if not audio:
        raise ValueError("no sound given; expected audio=FILE, a folder, a pattern or a list (--help tells more)")
    for name, value in (("batch_size", batch_size), ("picture_batch", picture_batch)):
        if value < 1:
            raise ValueError(f"got {name}={value}; expected a whole number of at least 1")
    check_out(out)


@entry_point("infer", bare="audio")
def main(config: DictConfig) -> None:
    """Entry point."""
    # Thousands of modules are imported and none is garbage: to look for some takes a seventh of the time to the first
    # picture. What is loaded stays, so that later collections need not look at it either.
    gc.disable()
    settings = check(plain(config))
    sounds, out = find_sounds(settings["audio"]), Path(settings["out"])
    from a2i.pipeline import AudioToImage

    out.mkdir(parents=True, exist_ok=True)
    a2i = AudioToImage.load(
        settings["captioner"], settings["image"] or None, settings["device"], settings.get("audio_language")
    )
    gc.freeze()
    gc.enable()
    a2i.captioner.decoding_with(**settings["decoding"])
    small = [("captioner", "captioner=FOLDER")] if settings["captioner"] is None else []
    small += [("painter", "image=stable_diffusion")] if settings["image"].get("model") == "embedded" else []
    if small:
        names, full = (" and ".join(words) for words in zip(*small, strict=True))
        print(f"using the small embedded {names}; for full ones: {full}")
    if licence := getattr(a2i.captioner, "licence", None):
        print(f"captions by {a2i.captioner.name}, licence: {licence}")
    if a2i.painter is not None and a2i.painter.licence:
        print(f"pictures by {a2i.painter.name}, licence: {a2i.painter.licence}")
    try:
        batches = (settings["batch_size"], settings["picture_batch"])
        steps = infer(a2i, sounds, out, settings["seed"], settings["decoding"], *batches)
        rows = write_results(steps, out / "results.jsonl", len(sounds))
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was done is in {out / 'results.jsonl'}", file=sys.stderr)
        sys.exit(130)
    failed = sum(row["error"] is not None for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} done; results in {out / 'results.jsonl'}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    begin_program()
    main()
