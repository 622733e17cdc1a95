"""`python -m a2i.evaluate captioner=FOLDER data=NAME split=NAME out=FOLDER`: how good the captions are.

Scored so far: BERTScore, and what can be counted in the captions themselves.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from a2i.compose import clear_errors, plain, prepared, use_arguments
from a2i.data.folder import read_table
from a2i.metrics.table import write_captions
from a2i.places import CONF

if TYPE_CHECKING:
    from a2i.data import Clip

PREDICTED = "caption_predicted"


def read_captions(path: str | Path) -> list[dict[str, Any]]:
    """Any system's captions from a CSV with columns `file_name`, `caption_predicted`, `caption_1` … `caption_n`.

    Returns:
        rows of `file_name`, `caption_predicted` (which may be empty) and `references`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a row has no reference or a name that another has.
    """
    path = Path(path)
    table = read_table(path, ["file_name", PREDICTED, "caption_1"])
    rows: dict[str, dict[str, Any]] = {}
    for number, row in table:
        numbered = [name for name in row if name.startswith("caption_") and name.removeprefix("caption_").isdigit()]
        references = [row[name].strip() for name in numbered if row[name].strip()]
        if not references:
            raise ValueError(f"{path}, row {number}: no reference; expected one in {', '.join(numbered)}")
        if row["file_name"] in rows:
            raise ValueError(f"{path}, row {number}: {row['file_name']} is there twice; expected one row a clip")
        caption = row[PREDICTED].strip()
        rows[row["file_name"]] = {"file_name": row["file_name"], PREDICTED: caption, "references": references}
    if not rows:
        raise ValueError(f"{path}: no rows; expected one a clip")
    return list(rows.values())


def predict(
    captioner_folder: str, clips: list["Clip"], batch_size: int, device: str | None, decoding: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Caption clips with a captioner folder, the longest first, a progress bar over them; rows as in `read_captions`."""
    from rich.progress import track

    from a2i import audio
    from a2i.captioner import Captioner
    from a2i.pipeline import find_device

    captioner = Captioner.load(captioner_folder, find_device(device))
    clips = sorted(clips, key=lambda clip: -clip.seconds())
    batches = [clips[first : first + batch_size] for first in range(0, len(clips), batch_size)]
    for batch in track(batches, description="captioning", disable=not sys.stderr.isatty()):
        waveforms = [audio.load(clip.path, clip.start, clip.end) for clip in batch]
        for clip, candidates in zip(batch, captioner.caption(waveforms, **decoding), strict=True):
            yield {"file_name": clip.name, PREDICTED: candidates[0].caption, "references": list(clip.captions)}


def score(rows: list[dict[str, Any]], bertscore: dict[str, Any]) -> dict[str, Any]:
    """Score captions. Each row gets its own values; returned are those of the whole, an object per metric."""
    from a2i.metrics.bertscore import BERTScore

    metric = BERTScore(**bertscore)
    scores = metric.score([row[PREDICTED] for row in rows], [row["references"] for row in rows])
    whole: dict[str, Any] = {}
    for name in ("precision", "recall", "f1"):
        values = getattr(scores, name)
        whole[name] = float(values.mean())
        for row, value in zip(rows, values.tolist(), strict=True):
            row[f"bertscore_{name}"] = value
    captions = [row[PREDICTED] for row in rows]
    words = [caption.lower().rstrip(".").split() for caption in captions]
    return {
        "bertscore": {**whole, **metric.settings},
        "captions": {
            "count": len(captions),
            "distinct": len(set(captions)) / len(captions),
            "empty": sum(not caption for caption in captions) / len(captions),
            "mean_words": sum(map(len, words)) / len(words),
            "vocabulary": len({word for some in words for word in some}),
        },
    }


def write(rows: list[dict[str, Any]], scores: dict[str, Any], out: Path) -> None:
    """Write `captions.csv` and `scores.json`."""
    out.mkdir(parents=True, exist_ok=True)
    write_captions(out / "captions.csv", rows, ["bertscore_precision", "bertscore_recall", "bertscore_f1"])
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    """Entry point."""
    with clear_errors():
        settings = plain(config)
        out = Path(settings["out"]).expanduser()
        if out.exists() and not out.is_dir():
            raise ValueError(f"got out={out}, which is a file; expected a folder, or a name that is free")
        if (settings["captioner"] is None) == (settings["captions"] is None):
            raise ValueError("expected either captioner=FOLDER data=NAME, or captions=FILE.csv (--help tells more)")
        if settings["captions"] is not None:
            rows = read_captions(settings["captions"])
        else:
            clips = prepared(settings["data"]).clips(settings["split"])
            rows = list(
                predict(settings["captioner"], clips, settings["batch_size"], settings["device"], settings["decoding"])
            )
        scores = score(rows, settings["bertscore"])
        write(sorted(rows, key=lambda row: row["file_name"]) if settings["captions"] is None else rows, scores, out)
    for metric, values in scores.items():
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float | int))
        print(f"{metric}: {numbers}")
    print(f"scores and captions in {out}")


if __name__ == "__main__":
    use_arguments(paths=("captioner", "captions", "out", "data.root"))
    main()
