"""The settings of an evaluation, checked before anything is loaded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2i.audio.addresses import refuse_secrets
from a2i.compose import check_decoding, check_out, check_seed, checked
from a2i.fitting import fitting
from a2i.image_settings import styled
from a2i.metrics.parts import Parts
from a2i.names import name_of, with_revision
from a2i.rerank import check as check_rerank


@dataclass(frozen=True)
class CaptioningSettings:
    """Those of `conf/evaluate.yaml` that captioning a data set's split takes, whoever captions it."""

    data: dict[str, Any]
    split: str
    batch_size: int
    decoding: dict[str, Any]
    device: str | None
    seed: int
    rerank: str | None = field(default=None, kw_only=True)
    rerank_model: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class EvaluateSettings(CaptioningSettings):
    """The settings of `conf/evaluate.yaml`, checked; that file tells what each is."""

    captions: str | None
    against: str | None
    name: str
    out: str
    metrics: str | list[str] | None
    bootstrap_samples: int
    audio: str | None
    pictures: str | None
    image: dict[str, Any] | None
    style: dict[str, Any] | None
    pool: str | None
    report: dict[str, Any]
    bertscore: dict[str, Any]
    clip: dict[str, Any]
    clap: dict[str, Any]
    caption_metrics: dict[str, Any]
    logger: dict[str, dict[str, Any]] | None
    captioner: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_rerank(self.rerank, self.rerank_model)
        check_out(self.out)
        if (self.captioner is None) == (self.captions is None):
            raise ValueError(
                "expected either captioner=NAME|FOLDER data=NAME, or captions=FILE.csv (--help tells more)"
            )
        if self.audio is not None and self.captions is None:
            raise ValueError(
                "got audio= with captioner=, whose sounds are those of the data; expected it with captions= alone"
            )
        for key, value, lowest in (
            ("batch_size", self.batch_size, 1),
            ("bootstrap_samples", self.bootstrap_samples, 0),
        ):
            if value < lowest:
                raise ValueError(f"got {key}={value}; expected a whole number of at least {lowest}")
        for key, table in (("captions", self.captions), ("against", self.against)):
            path = Path(table or "")
            file = path / "captions.csv" if path.is_dir() else path
            written = file.resolve().parent == Path(self.out).resolve()
            if table is not None and written and file.name in ("captions.csv", "submission.csv"):
                raise ValueError(
                    f"got {key}={table} and out={self.out}, which would overwrite it; expected another folder"
                )
        _check_report(**fitting(_check_report, self.report, "report."))

    @property
    def source(self) -> str:
        """Whose captions are scored: a table, or a captioner's name, folder or Hub id."""
        return self.captions if self.captions is not None else name_of(self.captioner or {})


def check(settings: dict[str, Any]) -> EvaluateSettings:
    """Check what can be checked before anything is loaded.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `out`.
    """
    captioner = with_revision(settings.get("captioner"), settings.get("captioner_revision"))
    image = styled(settings["image"], settings["style"])
    rerank_model = (settings["clap"] or {}).get("model") if settings["rerank"] == "clap" else None
    given = {"captioner": captioner, "image": image, "rerank_model": rerank_model}
    refuse_secrets(settings["data"], "data")  # first: what else is wrong is told with the value
    made = checked(EvaluateSettings, settings | given)
    check_decoding(made.decoding)
    for name, models in (("clip", made.clip), ("clap", made.clap)):
        fitting(_check_model, models, f"{name}.")
    parts = {name: value for name, value in made.caption_metrics.items() if value is not None}
    Parts(**fitting(Parts, parts, "caption_metrics."))
    from a2i.metrics.bertscore import BERTScore  # here: what is wrong above need not wait for torch

    fitting(BERTScore, made.bertscore, "bertscore.")
    return made


def _check_model(*, model: str | None = None, revision: str | None = None) -> None: ...


def _check_report(*, clips: int | None, sounds: bool) -> None:
    if clips is not None and clips < 0:
        raise ValueError(f"got report.clips={clips}; expected null or a whole number of at least 0")
