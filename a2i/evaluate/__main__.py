"""`python -m a2i.evaluate captioner=FOLDER data=NAME split=NAME out=FOLDER`: how good the captions are.

Or `captions=FILE.csv` for any system's captions; `against=` for a comparison with another's of the same clips.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from a2i.command_line import entry_point
from a2i.compose import check_out, check_targets, fitting, plain
from a2i.data.captioned import Captioned, aligned, read_captions, with_pictures, with_sounds
from a2i.evaluate.board import log_run, wandb_settings
from a2i.evaluate.pages import show, write, write_comparison, write_page
from a2i.evaluate.pictures import draw, load_painter
from a2i.evaluate.ranks import Ranks, joined
from a2i.evaluate.systems import (
    Scorer,
    System,
    about,
    chosen_metrics,
    note_other_references,
    predict,
    read_if_written,
    short_names,
)
from a2i.machine import begin_program


def evaluate(settings: dict[str, Any], out: Path, data: str, ranks: Ranks) -> None:
    """Score captions, write all files, and print what came of it.

    Args:
        settings: composed from `conf/evaluate.yaml`, as plain containers.
        out: folder to write to.
        data: name of the data set, for the record.
        ranks: who caption and draw; the first scores and writes.

    Raises:
        ValueError: the settings, the captions or the clips are at fault.
        FileNotFoundError: something is not there.
    """
    from a2i.pipeline import find_device  # here: --help and a wrong name need not wait for torch

    source, against = settings["captions"] or settings["captioner"], settings["against"]
    # What takes no time comes first: it would be a pity to find a wrong name after an hour.
    metrics = chosen_metrics(settings)
    clips = [] if settings["captions"] is None else read_captions(source)
    others = read_if_written(against) if against else []
    device = ranks.device(settings["device"])
    painter = load_painter(settings, find_device(device), ranks.first)
    scorer = Scorer.of(settings, device) if ranks.first else None
    clips = _with_media(clips or predict(source, settings, ranks), settings, ranks)
    if against:
        others = others or predict(against, settings, ranks)
        if ranks.first:
            note_other_references(clips, others, against)
        others = aligned(clips, others, against)
    if painter is not None:
        if "blame" in metrics:
            clips = draw(clips, painter, out / "pictures_human", settings, ranks, human=True)
        if against:
            others = aligned(clips, others or [], against)  # the human pictures are of both
            others = draw(others, painter, out / "pictures_against", settings, ranks, human=False)
        clips = draw(clips, painter, out / "pictures", settings, ranks, human=False)
    if scorer is not None:
        _score(clips, others or [], scorer, settings, out, data)


def _with_media(clips: list[Captioned], settings: dict[str, Any], ranks: Ranks) -> list[Captioned]:
    """The clips with the sounds and pictures of the folders that were named."""
    if settings["audio"]:
        clips = with_sounds(clips, settings["audio"])
    if settings["pictures"]:
        clips, other = with_pictures(clips, settings["pictures"])
        if other and ranks.first:
            print(f"{other} of the pictures in {settings['pictures']} were drawn from other captions than these")
    return clips


def _score(
    clips: list[Captioned], others: list[Captioned], scorer: Scorer, settings: dict[str, Any], out: Path, data: str
) -> None:
    """Score a system, and another of the same clips if there is one; write and print all."""
    source, against = settings["captions"] or settings["captioner"], settings["against"]
    names = short_names(source, against)
    record = about(source, settings["captions"] is None, settings, data)
    system = System(names[0], clips, scorer.score(clips, names[0]), record)
    write(system, out)
    write_page(out, f"Captions by {names[0]}", system, settings["report"])
    show(system.scored, names[0])
    compared = None
    if others:
        record = about(str(against), others[0].confidence is not None, settings, data, True)
        first = System(names[1], others, scorer.score(others, names[1]), record)
        print()
        show(first.scored, names[1])
        compared = write_comparison(out, first, system, settings["bootstrap_samples"], settings["report"])
    if wanted := wandb_settings(settings["logger"]):
        split = "test" if settings["captioner"] is None else settings["split"]
        log_run(wanted, out, system, compared, split, settings["report"])
    print(f"\nto look at: {out / ('comparison.html' if against else 'report.html')}; all files in {out}")


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Check what can be checked before anything is loaded, and give the settings as they are wanted.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `out`.
    """
    settings = fitting(_check, settings)  # held against its annotations
    _check(**settings)
    _check_report(**fitting(_check_report, settings["report"], "report."))
    check_targets(settings)
    return settings


def _check(
    *,
    captioner: str | None,
    captions: str | None,
    against: str | None,
    split: str,
    name: str,
    out: str,
    metrics: str | list[str] | None,
    bootstrap_samples: int,
    batch_size: int,
    device: str | None,
    audio: str | None,
    pictures: str | None,
    seed: int,
    pool: str | None,
    **others: Any,
) -> None:
    check_out(out)
    if (captioner is None) == (captions is None):
        raise ValueError("expected either captioner=FOLDER data=NAME, or captions=FILE.csv (--help tells more)")
    if audio is not None and captions is None:
        raise ValueError("got audio= with captioner=; the sounds are those of the data: audio= goes with captions=")
    for key, value, lowest in (("batch_size", batch_size, 1), ("bootstrap_samples", bootstrap_samples, 0)):
        if value < lowest:
            raise ValueError(f"got {key}={value}; expected a whole number of at least {lowest}")
    for key, table in (("captions", captions), ("against", against)):
        path = Path(table or "")
        file = path / "captions.csv" if path.is_dir() else path
        overwritten = file.resolve().parent == Path(out).resolve() and file.name in ("captions.csv", "submission.csv")
        if table is not None and overwritten:
            raise ValueError(f"got {key}={table} and out={out}, which would overwrite it; expected another folder")


def _check_report(*, clips: int | None, sounds: bool) -> None:
    if clips is not None and clips < 1:
        raise ValueError(f"got report.clips={clips}; expected null or a whole number of at least 1")


@entry_point("evaluate")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    with joined() as ranks:
        evaluate(settings, Path(settings["out"]), HydraConfig.get().runtime.choices["data"], ranks)


if __name__ == "__main__":
    begin_program()
    main()
