"""The two models of FENSE (arXiv:2110.04684): how like two sentences are, and whether one is fluent.

They run through aac-metrics 0.5.4, from files that are there already: nothing here asks the network.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from a2i import hub
from a2i.metrics.parts import MissingError, Parts, Score, Tokens, library

FLUENCY_FILE = "echecker_clotho_audiocaps_base.ckpt"  # FENSE's own
FLUENCY_THRESHOLD = 0.9  # a caption has a fluency error where its probability is above this
FLUENCY_PENALTY = 0.9  # and loses this share of its score
_FETCH_FENSE = 'python -c "from aac_metrics.classes.fense import FENSE; FENSE()"'


def sentence_similarity(tokens: Tokens, parts: Parts) -> Score:
    """Mean cosine of a caption's sentence embedding with those of its references."""
    from aac_metrics.functional.sbert_sim import sbert_sim
    from sentence_transformers import SentenceTransformer

    with _readable(parts.sentence_model):
        model = SentenceTransformer(_model_folder(parts.sentence_model), device=_device(parts), local_files_only=True)
    corpus, clips = sbert_sim(tokens.predicted, tokens.references, sbert_model=model, device=_device(parts))
    settings = {**library("aac-metrics"), "sentence_model": parts.sentence_model}
    return Score.of(clips["sbert_sim"], settings, corpus["sbert_sim"])


def fluency_error(tokens: Tokens, parts: Parts) -> Score:
    """1 where FENSE's classifier finds a fluency error in a caption, otherwise 0."""
    import torch
    from aac_metrics.functional.fer import BERTFlatClassifier, fer
    from transformers import AutoTokenizer

    folder = Path(os.environ.get("FENSE_DATA") or Path(torch.hub.get_dir()) / "fense_data")
    file = Path(parts.fluency_model or folder / FLUENCY_FILE).expanduser()
    with _readable(file):
        saved = torch.load(file, map_location="cpu", weights_only=True)
        encoder = _model_folder(saved["model_type"])
        classifier = BERTFlatClassifier(encoder, saved["num_classes"])
        saved["state_dict"].pop("encoder.embeddings.position_ids", None)  # transformers keeps them no more
        classifier.load_state_dict(saved["state_dict"])
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
    classifier.eval().requires_grad_(False).to(_device(parts))
    corpus, clips = fer(tokens.predicted, True, classifier, tokenizer, FLUENCY_THRESHOLD, _device(parts))
    settings = {"fluency_model": file.name, "threshold": FLUENCY_THRESHOLD, "penalty": FLUENCY_PENALTY}
    return Score.of(clips["fer"], {**library("aac-metrics"), **settings}, corpus["fer"])


def _model_folder(model: str) -> str:
    """A folder as it is; of a Hub id its folder in the Hub's cache."""
    from huggingface_hub import snapshot_download
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar over some hundred tensors that are there at once
    folder = Path(model).expanduser()
    return str(folder) if folder.is_dir() else snapshot_download(model, local_files_only=True)


def _device(parts: Parts) -> str:
    import torch

    return parts.device or ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _readable(model: str | Path) -> Iterator[None]:
    """`MissingError` for a model that is not there, or is not what it should be."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, UnpicklingError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        why = hub.why(error) if isinstance(error, UnpicklingError) else why
        raise MissingError(
            f"the model {model} cannot be read ({why:.200}); {_FETCH_FENSE} downloads FENSE's"
        ) from error


def penalised(score: Any, error: Any) -> Any:
    """Scores of captions, less the penalty where there is a fluency error (1, otherwise 0)."""
    return score * (1 - FLUENCY_PENALTY * error)
