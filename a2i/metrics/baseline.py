"""Baselines that spread BERTScore over more of its range: what unrelated sentences score with a model and layer."""

import csv
import os
from importlib.util import find_spec
from pathlib import Path


def read_baseline(source: str, num_layers: int, path: str | Path | None = None) -> tuple[float, float, float]:
    """What pairs of unrelated sentences score on average: precision, recall and F1 of a model's layer.

    Args:
        source: the model's Hub id, for the English baselines that `bert-score` brings along.
        num_layers: the layer.
        path: a file as `bert-score` has them, columns LAYER, P, R, F and a row for each layer from 0; None for its own.

    Raises:
        FileNotFoundError: there is no baseline for this model.
        ValueError: the file is none, or does not have this layer.
    """
    file = _own(source) if path is None else Path(os.path.expanduser(path))
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"got rescale_with_baseline for the model {source!r}, but there is no baseline for it: bert-score has none, "
            f"or {file} is not there. Expected baseline=FILE.tsv with columns LAYER, P, R, F"
        )
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = {
                int(row["LAYER"]): (float(row["P"]), float(row["R"]), float(row["F"])) for row in csv.DictReader(lines)
            }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: can't be read as a baseline ({error}); expected columns LAYER, P, R, F") from error
    if num_layers not in rows or max(rows[num_layers]) >= 1:
        raise ValueError(f"{file}: got no baseline below 1 for layer {num_layers}; expected one")
    return rows[num_layers]


def _own(source: str) -> Path | None:
    from a2i.metrics.sentence_model import ADOPTERS

    spec = find_spec("bert_score")
    if spec is None or not spec.submodule_search_locations or Path(source).is_dir():
        return None
    owner, _, name = source.rpartition("/")
    known = name if owner in ADOPTERS else source
    return Path(spec.submodule_search_locations[0]) / "rescale_baseline" / "en" / f"{known}.tsv"
