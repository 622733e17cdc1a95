"""Evaluation as a call from Python: `from a2i import evaluate`."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from a2i.command_line import composed
from a2i.evaluate.__main__ import evaluate as score
from a2i.evaluate.distributed import Ranks
from a2i.evaluate.settings import check
from a2i.plugins import choices


def evaluate(
    captioner: str | os.PathLike[str] | dict[str, Any] | None = None,
    *,
    captions: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score a captioner on a data set, or any system's captions.

    Examples:
        >>> from a2i import evaluate
        >>> settings = {"data.root": "sounds", "decoding.num_candidates": 1}
        >>> scores = evaluate("mini", data="folder", split="train", metrics=["bleu_4"], **settings)
        captions by a2i-mini-captioner, licence: cc-by-nc-4.0
        mini, 2 clips (value, and where 95 of 100 bootstrap samples lie):
          bleu_4                     0.4273  0.0000 to 1.0000
          ...
        >>> round(scores["bleu_4"]["value"], 4)
        0.4273

    Args:
        captioner: name in `conf/captioner`, folder, Hub id, or settings as such a file holds them; or
        captions: a CSV with `file_name`, `caption_predicted`, `caption_1` … `caption_n`.
        out: folder for `scores.json`, `captions.csv`, `report.html` and the captions as they come; None keeps no file.
        **settings: of `conf/evaluate.yaml`, by dotted key, as plain values; None is `null`.

    Returns:
        what `scores.json` holds, a dictionary of each metric's values and settings by its name; with `against=`, under
        `comparison`, what `comparison.json` holds.

    Raises:
        ValueError: a setting, the captions or the clips are at fault.
        FileNotFoundError: something is not there.
        OSError: something can't be written.
    """
    chosen = {"captioner": captioner, "captions": captions}
    given = {key: value for key, value in chosen.items() if value is not None}
    # None is null, or a group's choice of nothing, as on the command line.
    given |= {key: "none" if value is None and "none" in choices(key) else value for key, value in settings.items()}
    with tempfile.TemporaryDirectory() as nowhere:
        folder = Path(nowhere if out is None else out)
        given["out"] = folder
        data = given.get("data", "clotho")
        values = composed("evaluate", given)
        score(check(values), data if isinstance(data, str) else "settings", Ranks())
        found: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        if given.get("against") is not None:
            found["comparison"] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return found
