"""What training reads of a clip in place of its waveform: log-mels, or the states of an encoder that does not learn."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from a2i.captioner import Captioner
from a2i.data import Clip
from a2i.data.cache import Cache, decoded_by, loader, log_mels
from a2i.data.filling import fill
from a2i.machine import find_device
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch, InputKind
from a2i.training.ranks import as_long

PROBE = 10  # seconds of silence that tell how many states a second has


def cached_inputs(
    kind: InputKind,
    folder: str | Path | None,
    captioner: Captioner,
    clips: Sequence[Clip],
    learns: bool,
    augmented: bool,
    device: str | None = None,
) -> tuple[InputKind, Cache, float] | None:
    """Compute log-mels or states of all clips into the cache. Returns the kind, the cache and the padding value.

    None for waveforms, which the loader reads itself.

    Args:
        kind: `waveforms`, `log_mels` or `states`.
        folder: of the cache, as `loader.cache` gives it: None and `memory` are no folder.
        captioner: whose feature settings, and for states whose encoder, it is.
        clips: of all splits.
        learns: whether the encoder does.
        augmented: whether spectrograms are, in training.
        device: for states, where they are computed; None for CUDA where there is one, else the CPU.

    Raises:
        ValueError: the kind is unknown, there is no folder, or states would not be the same in every epoch.
        OSError: the disk has too little room.
    """
    if kind not in get_args(InputKind):
        raise ValueError(f"got loader.inputs={kind!r}; expected one of {', '.join(get_args(InputKind))}")
    if kind == "waveforms":
        return None
    if folder is None or folder == "memory":
        cache_is = "null" if folder is None else folder
        raise ValueError(f"got loader.inputs={kind} with loader.cache={cache_is}; expected loader.cache=FOLDER")
    if kind == "states" and (learns or augmented):
        raise ValueError(
            f"got loader.inputs=states with training.freeze_encoder={not learns} and training.augment"
            f" {'set' if augmented else 'null'}: states would change; expected freeze_encoder=true and augment=null"
        )
    if kind == "log_mels":
        cache, padding, workers = log_mels(folder, captioner.log_mel.settings), captioner.log_mel.settings.padding, None
        fill([cache], clips, workers, print)
        return kind, cache, padding
    captioner.to(find_device(device)).encoder.eval()
    cache = encoder_states(folder, captioner)
    fill([cache], clips, 0, print)
    captioner.to("cpu")
    return kind, cache, 0.0


def encoded(
    captioner: Captioner, batch: Batch, augment: SpecAugment | None = None, together: bool = False
) -> tuple[Tensor, Tensor]:
    """The encoder's states (B, S, D) and their mask (B, S): of the batch itself, or from its log-mels or waveforms.

    With `together` its log-mels are as long as those of all ranks.
    """
    if batch.states is not None:
        return batch.states, batch.mask
    if batch.log_mels is not None:
        log_mel, mask = batch.log_mels, batch.mask
    else:
        log_mel, mask = captioner.log_mel(batch.waveforms, batch.lengths)
    if augment is not None:
        log_mel = augment(log_mel, mask)
    if together:
        log_mel, mask = as_long(log_mel, mask, captioner.log_mel.settings.padding)
    states: tuple[Tensor, Tensor] = captioner.encoder(log_mel, mask)
    return states


def encoder_states(folder: str | Path, captioner: Captioner) -> Cache:
    """The encoder's states of each clip alone, (S, D) float32, without those that its mask leaves out.

    What attends to them knows no order, so that this changes nothing but float32's last bits.
    """
    encoder: Any = captioner.encoder
    digest = hashlib.sha256()
    for name, weights in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    about = {
        "kind": "states",
        **decoded_by(captioner.sampling_rate),
        "torch": str(torch.__version__),
        "features": asdict(captioner.log_mel.settings),
        "encoder": {"class": type(encoder).__qualname__, "settings": encoder.settings, "weights": digest.hexdigest()},
    }
    silence = _encoded(captioner, np.zeros(PROBE * captioner.sampling_rate, np.float32))
    return Cache(folder, about, partial(_states, captioner), silence.size / PROBE)


def _states(captioner: Captioner, clip: Clip) -> np.ndarray:
    return _encoded(captioner, loader(captioner.sampling_rate)(clip))


@torch.no_grad()
def _encoded(captioner: Captioner, waveform: np.ndarray) -> np.ndarray:
    device = captioner.device
    log_mel, mask = captioner.log_mel(
        torch.from_numpy(waveform)[None].to(device), torch.tensor([len(waveform)], device=device)
    )
    states, states_mask = captioner.encoder(log_mel, mask)
    found: np.ndarray = states[0][states_mask[0]].float().cpu().numpy()
    return found
