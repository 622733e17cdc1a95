"""`python -m a2i.evaluate captioner=FOLDER data=NAME split=NAME out=FOLDER`: how good the captions are.

Or `captions=FILE.csv` for any system's captions; `against=` for a comparison with another's of the same clips.
"""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from a2i.compose import clear_errors, plain, use_arguments
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
from a2i.places import CONF


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


def _check(settings: dict[str, Any], out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"got out={out}, which is a file; expected a folder, or a name that is free")
    if (settings["captioner"] is None) == (settings["captions"] is None):
        raise ValueError("expected either captioner=FOLDER data=NAME, or captions=FILE.csv (--help tells more)")
    if settings["audio"] is not None and settings["captions"] is None:
        raise ValueError("got audio= with captioner=; the sounds are those of the data: audio= goes with captions=")
    for name, value in (("captions", settings["captions"]), ("against", settings["against"])):
        path = Path(value or "").expanduser()
        file = path / "captions.csv" if path.is_dir() else path
        if (
            value is not None
            and file.resolve().parent == out.resolve()
            and file.name in ("captions.csv", "submission.csv")
        ):
            raise ValueError(f"got {name}={value} and out={out}, which would overwrite it; expected another folder")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    """Entry point."""
    with clear_errors():
        settings = plain(config)
        out = Path(settings["out"]).expanduser()
        _check(settings, out)
        try:
            with joined() as ranks:
                evaluate(settings, out, HydraConfig.get().runtime.choices["data"], ranks)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            sys.exit(130)


if __name__ == "__main__":
    begin_program()
    use_arguments(
        paths=(
            *("captioner", "captions", "against", "out", "audio", "pictures", "pool", "data.root", "image.model"),
            *("bertscore.model", "bertscore.baseline", "clip.model", "clap.model"),
        )
    )
    main()
