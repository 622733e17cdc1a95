"""`python -m a2i.evaluate captioner=FOLDER data=NAME split=NAME out=FOLDER`: how good the captions are.

Or `captions=FILE.csv` for any system's captions; `against=` for a comparison with another's of the same clips.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from a2i.command_line import entry_point
from a2i.compose import plain
from a2i.data import Clip
from a2i.data.captioned import (
    Captioned,
    aligned,
    check_references,
    check_same_clips,
    in_both,
    read_captions,
    with_pictures,
    with_sounds,
)
from a2i.evaluate.captioning import Captioning, clips_of
from a2i.evaluate.distributed import Ranks, joined
from a2i.evaluate.pages import show, write, write_comparison, write_page
from a2i.evaluate.pictures import draw, load_painter
from a2i.evaluate.settings import EvaluateSettings, check
from a2i.evaluate.systems import (
    Scorer,
    System,
    about,
    chosen_metrics,
    note_other_references,
    read_if_written,
    short_names,
)
from a2i.evaluate.wandb_log import log_run, wandb_settings
from a2i.machine import begin_program
from a2i.metrics.registry import choices
from a2i.whole import sweep

OmegaConf.register_new_resolver(
    "a2i.metrics", lambda: textwrap.fill(", ".join(choices()), 110), replace=True
)  # for --help


def evaluate(settings: EvaluateSettings, data: str, ranks: Ranks) -> int:
    """Score captions, write all files, and print what came of it.

    What can be found wrong is found before the first clip is captioned, and captions are kept as they come: called again it
    goes on with those.

    Args:
        settings: checked.
        data: name of the data set, for the record.
        ranks: who caption and draw; the first scores and writes.

    Returns:
        the number of clips that failed, and are in no score.

    Raises:
        ValueError: the settings, the captions or the clips are at fault.
        FileNotFoundError: something is not there.
        OSError: something can't be written.
    """
    from a2i.machine import find_device  # here: --help and a wrong name need not wait for torch

    source, against, out = settings.source, settings.against, Path(settings.out)
    metrics = chosen_metrics(settings)
    clips = [] if settings.captions is None else read_captions(source, sounds=settings.audio)
    others = read_if_written(against) if against else []
    asked = clips_of(settings.data, settings.split) if settings.captions is None or others is None else []
    _check_clips(clips, others, asked, settings)
    clips = _with_media(clips, settings, ranks) if clips else []
    out.mkdir(parents=True, exist_ok=True)
    if ranks.first:
        sweep(out)
    device = ranks.device(settings.device)
    to_caption = None
    if settings.captioner is not None:
        to_caption = Captioning.of(settings.captioner, settings, asked, ranks, out / "captions.jsonl")
    painter = load_painter(settings.image, settings.pictures, find_device(device), ranks.first, bool(settings.style))
    scorer = Scorer.of(settings, device) if ranks.first else None
    if to_caption is not None:
        clips = to_caption.run()
    if others is None and against is not None:
        others = Captioning.of(against, settings, asked, ranks, out / "captions_against.jsonl").run()
    listed, listed_others = clips, others or []
    clips, others = ([clip for clip in some if clip.error is None] for some in (listed, listed_others))
    if to_caption is not None:
        clips = _with_media(clips, settings, ranks)
    if against:
        if ranks.first:
            note_other_references(clips, others, against)
        if not in_both(clips, others):
            raise ValueError(f"got against={against}, but there is no clip of which both systems have a caption")
        others = aligned(in_both(clips, others), in_both(others, clips), against)
    if painter is not None and settings.image:
        if "blame" in metrics:
            clips = draw(clips, painter, out / "pictures_human", settings.image, settings.seed, ranks, human=True)
        if against:
            others = aligned(in_both(clips, others), others, against)  # the human pictures are of both
            others = draw(others, painter, out / "pictures_against", settings.image, settings.seed, ranks, human=False)
        clips = draw(clips, painter, out / "pictures", settings.image, settings.seed, ranks, human=False)
    failed = len(listed) - len(clips) + sum(clip.error is not None for clip in listed_others)
    if scorer is not None:
        _score(clips, listed, others, listed_others, scorer, settings, data)
    return failed


def _check_clips(
    clips: Sequence[Captioned], others: Sequence[Captioned] | None, asked: Sequence[Clip], settings: EvaluateSettings
) -> None:
    """Raise a ValueError where clips can't be scored, whatever their captions.

    Args:
        clips: of a table; none for a captioner.
        others: of a table to compare with; none without one, None for a captioner.
        asked: those that are captioned, by either.
        settings: checked.
    """
    references = {clip.file_name: clip.references for clip in clips} or {clip.name: clip.captions for clip in asked}
    check_references(references, settings.captions or f"split={settings.split}")
    if settings.against:
        theirs = [clip.name for clip in asked] if others is None else [clip.file_name for clip in others]
        check_same_clips(list(references), theirs, settings.against)
    for some, source in ((clips, settings.captions), (others or [], settings.against)):
        if some and all(clip.error is not None for clip in some):
            raise ValueError(f"{source}: every row has an error in place of a caption; expected captions")
    if settings.pictures and not clips:
        with_pictures([Captioned(clip.name, "", (), audio=clip.path) for clip in asked], settings.pictures)


def _with_media(clips: list[Captioned], settings: EvaluateSettings, ranks: Ranks) -> list[Captioned]:
    """The clips with the sounds and pictures of the folders that were named."""
    if settings.audio:
        clips = with_sounds(clips, settings.audio)
        silent = sum(clip.audio is None for clip in clips)
        if silent and ranks.first:
            print(f"{silent} of {len(clips)} clips have no sound in {settings.audio}")
    if settings.pictures:
        clips, other = with_pictures(clips, settings.pictures)
        if other and ranks.first:
            print(f"{other} of the pictures in {settings.pictures} were drawn from other captions than these")
    return clips


def _score(
    clips: list[Captioned],
    listed: list[Captioned],
    others: list[Captioned],
    listed_others: list[Captioned],
    scorer: Scorer,
    settings: EvaluateSettings,
    data: str,
) -> None:
    """Score a system, and another on the clips that both have if there is one; write and print all.

    Args:
        clips: with captions.
        listed: those, and those that failed.
        others: captions of the same clips by another system, less those of which one of both failed.
        listed_others: all of the other's.
        scorer: with the models.
        settings: checked.
        data: name of the data set.
    """
    source, against, out = settings.source, settings.against, Path(settings.out)
    names = short_names(source, against)
    record = about(source, settings.captions is None, settings, data)
    system = System(names[0], clips, scorer.score(clips, names[0]), record, listed)
    write(system, out)
    write_page(out, f"Captions by {names[0]}", system, settings.report)
    show(system.scored, names[0], system.failed)
    compared = None
    if others:
        by_captioner = any(clip.confidence is not None for clip in others)
        other_record = about(str(against), by_captioner, settings, data, True)
        first = System(names[1], others, scorer.score(others, names[1]), other_record, listed_others)
        print()
        show(first.scored, names[1], first.failed)
        second = system
        if len(others) < len(clips):
            both = in_both(clips, others)
            second = System(names[0], both, scorer.score(both, names[0]), record, listed)
        compared = write_comparison(out, first, second, settings.bootstrap_samples, settings.report)
    if wanted := wandb_settings(settings.logger or {}):
        split = "test" if settings.captioner is None else settings.split
        log_run(wanted, out, system, compared, split, settings.report)


@entry_point("evaluate")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    out = Path(settings.out)
    try:
        with joined() as ranks:
            failed = evaluate(settings, HydraConfig.get().runtime.choices["data"], ranks)
    except KeyboardInterrupt:
        if settings.captions is None:
            print(f"\nthe captions so far are in {out}; the same command goes on from there", file=sys.stderr)
        raise
    if ranks.first:
        print(f"\nto look at: {out / ('comparison.html' if settings.against else 'report.html')}; all files in {out}")
    # The other ranks are done long before the first has scored, and torchrun ends all when one fails.
    if failed and ranks.first:
        sys.exit(1)


if __name__ == "__main__":
    begin_program()
    main()
