"""Whose captions are scored, where they come from, and the scoring itself."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i.data.captioned import Captioned, read_captions, same_clip
from a2i.data.folder import told
from a2i.evaluate.pictures import load_models
from a2i.evaluate.settings import EvaluateSettings
from a2i.names import is_folder, is_place
from a2i.plugins import choices

if TYPE_CHECKING:
    from a2i.metrics.bertscore import BERTScore
    from a2i.metrics.parts import Parts
    from a2i.metrics.scoring import Scored


@dataclass(frozen=True)
class System:
    """A system with its captions and scores, under a short name.

    Attributes:
        name: for headings.
        clips: those that are scored.
        scored: their scores.
        about: where they come from.
        listed: all clips, in their order, with those that failed among them; empty for `clips`.
    """

    name: str
    clips: Sequence[Captioned]
    scored: "Scored"
    about: dict[str, Any]
    listed: Sequence[Captioned] = ()

    @property
    def failed(self) -> list[Captioned]:
        return [clip for clip in self.listed if clip.error is not None]


@dataclass(frozen=True)
class Scorer:
    """The chosen metrics with their models, to score one system after another."""

    metrics: list[str]
    bertscore: "BERTScore | str | None"
    parts: "Parts"
    samples: int
    models: dict[str, Any]

    @classmethod
    def of(cls, settings: EvaluateSettings, device: str | None = None) -> "Scorer":
        """Load the models, so that what is wrong is said before any captioning.

        Args:
            settings: checked.
            device: where the models run; None for CUDA where there is one, else the CPU.

        Raises:
            ValueError: a metric is unknown, or the pool does not fit.
            FileNotFoundError: a model was asked for and can't be had.
        """
        from a2i.machine import find_device
        from a2i.metrics.parts import Parts
        from a2i.metrics.registry import registered

        metrics = chosen_metrics(settings)
        given = {name: value for name, value in settings.caption_metrics.items() if value is not None}
        parts = Parts(device=device, **given)
        needs = {need for metric in registered() if metric.always or metric.name in metrics for need in metric.needs}
        bertscore = _load_bertscore(settings.bertscore, device) if "bertscore" in needs else None
        models = load_models(needs, find_device(device), clip=settings.clip, clap=settings.clap, pool=settings.pool)
        return cls(metrics, bertscore, parts, settings.bootstrap_samples, models)

    def score(self, clips: Sequence[Captioned], name: str = "") -> "Scored":
        """Score a system's captions."""
        from a2i.metrics.scoring import score

        captions, references = [clip.caption for clip in clips], [clip.references for clip in clips]
        with busy(f"scoring {len(clips)} captions {name}"):
            return score(
                captions, references, self.metrics, self.bertscore, self.parts, self.samples, self.models, clips
            )


def chosen_metrics(settings: EvaluateSettings) -> list[str]:
    """The metrics that were asked for: by default all, those of pictures where there are or will be pictures.

    Raises:
        ValueError: one is unknown.
    """
    from a2i.metrics.registry import choices, registered

    asked, known = settings.metrics, choices()
    if asked is None:
        seen = settings.pictures is not None or settings.image
        without = {metric.name for metric in registered() if "picture" in metric.needs and not seen}
        return [name for name in known if name not in without]
    metrics = [asked] if isinstance(asked, str) else list(asked)
    unknown = [name for name in metrics if name not in known]
    if unknown or not metrics:
        raise ValueError(f"got metrics={unknown}; expected some of {', '.join(known)}")
    return metrics


def _load_bertscore(settings: dict[str, Any], device: str | None) -> "BERTScore | str":
    from a2i.machine import find_device
    from a2i.metrics.bertscore import BERTScore

    try:
        return BERTScore(**{"device": find_device(device), **settings})
    except ImportError as error:  # the offline model's package
        return " ".join(str(error).split())


def busy(message: str) -> AbstractContextManager[Any]:
    """A context in which a terminal shows that something goes on."""
    from rich.console import Console

    return Console(stderr=True).status(message)


def read_if_written(source: str) -> list[Captioned] | None:
    """Captions from a CSV, which may have no references, or a folder that evaluate wrote; None for a captioner folder.

    Raises:
        FileNotFoundError: it is none of these.
        ValueError: as `read_captions`.
    """
    from a2i.captioner.folder import SETTINGS_FILE

    path = Path(os.path.expanduser(source))
    is_hub_id = is_place(source) and not path.exists()
    if source in choices("captioner") or is_hub_id or (path / SETTINGS_FILE).is_file():
        return None
    path = path / "captions.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"got {told(Path(source))}; expected a captioner folder, a CSV of captions, a folder with captions.csv, a Hub id,"
            f" or a captioner's name: {', '.join(choices('captioner'))}"
        )
    return read_captions(path, need_references=False)


def note_other_references(clips: Sequence[Captioned], others: Sequence[Captioned], source: str) -> None:
    """Say so where two tables have other references for the same clips."""
    theirs = {same_clip(clip.file_name): set(clip.references) for clip in others if clip.references}
    differing = sum(theirs.get(same_clip(clip.file_name)) not in (None, set(clip.references)) for clip in clips)
    if differing:
        print(f"{differing} clips have other references in {source}; all are scored with those of the evaluated system")


def about(
    source: str, is_captioner: bool, settings: EvaluateSettings, data: str, against: bool = False
) -> dict[str, Any]:
    """Where scores come from."""
    from a2i.metrics.scoring import LEVEL

    by: dict[str, Any] = (
        {"captioner": source, "data": data, "split": settings.split} if is_captioner else {"captions": source}
    )
    own = settings.captioner or {}
    if is_captioner and not against and not is_folder(own):  # more than a folder
        by["captioner_settings"] = own
    changed = {name: value for name, value in settings.decoding.items() if value is not None}
    if is_captioner and changed:
        by["decoding"] = changed
    if is_captioner and settings.rerank is not None:
        by["rerank"] = {"kind": settings.rerank, "model": settings.rerank_model}
    if settings.image:
        told = {name: value for name, value in settings.image.items() if name != "_target_" and value is not None}
        by["pictures"] = {**told, "seed": settings.seed}
    elif settings.pictures is not None and not against:
        by["pictures"] = settings.pictures
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {**by, "intervals": f"bootstrap, {settings.bootstrap_samples} samples, {LEVEL:.0%}", "made": made}


def short_names(source: str, against: str | None) -> tuple[str, str]:
    """Names for two systems: the last part of their paths that says something, or all where that is the same."""
    short = []
    for path in map(Path, (source, against or "")):
        resolved = Path(os.path.expanduser(path)).resolve()
        short.append(resolved.parent.name if resolved.stem in ("captioner", "captions") else resolved.stem)
    return (short[0], short[1]) if short[0] != short[1] else (source, str(against))
