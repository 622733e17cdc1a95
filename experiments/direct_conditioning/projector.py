"""From what is heard to the text states that a picture model attends to, and pictures of captions and sounds mixed.

The projector learns to land where the text model puts the words for what sounds: as GlueNet aligns AudioCLIP with the text
space of Stable Diffusion (Qin et al. 2023, "GlueGen"), with a picture model of 5 million weights and 173 kinds of sound.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from a2i.diffusion import Painter
from a2i.whole import write_whole

WEIGHTS = "projector.safetensors"


class Projector(nn.Module):
    """What the captioner's keyword bridge reads of clips → text states.

    The states are those in the middle of all kinds, and a step along the directions in which the kinds differ: one hidden
    layer, or none, tells how far.
    """

    mean: Tensor
    std: Tensor
    middle: Tensor
    basis: Tensor
    kinds: Tensor

    def __init__(self, inputs: int, kinds: int, tokens: int, width: int, hidden: int = 0, dropout: float = 0.3) -> None:
        """Set up with random weights, for `fit_to`.

        Args:
            inputs: 2 D, numbers that are read of a clip: the mean and the maximum of encoder states.
            kinds: K, whose text states it learns.
            tokens: L, text states of a picture.
            width: W, of a text state.
            hidden: units of a hidden layer; 0 for none.
            dropout: rate on the inputs.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("middle", torch.zeros(tokens, width))
        self.register_buffer("basis", torch.zeros(kinds, tokens * width))
        self.register_buffer("kinds", torch.zeros(kinds, kinds))  # each kind's place along the basis
        self.dropout = nn.Dropout(dropout)
        inner = [nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout)] if hidden else []
        self.layers = nn.Sequential(*inner, nn.Linear(hidden or inputs, kinds))

    def fit_to(self, read: Tensor, targets: Tensor) -> None:
        """Take the scale of the inputs from training clips (N, 2 D), and the directions from the kinds' states (K, L, W)."""
        self.mean, self.std = read.mean(dim=0), read.std(dim=0).clamp_min(1e-3)
        self.middle = targets.mean(dim=0)
        apart = (targets - self.middle).flatten(1)
        self.basis = torch.linalg.svd(apart, full_matrices=False).Vh.contiguous()
        self.kinds = apart @ self.basis.T

    def places(self, read: Tensor) -> Tensor:
        """What is read of clips (B, 2 D) → places along the basis (B, K)."""
        places: Tensor = self.layers(self.dropout((read - self.mean) / self.std))
        return places

    def forward(self, read: Tensor) -> Tensor:
        """What is read of clips (B, 2 D) → text states (B, L, W)."""
        return self.middle + (self.places(read) @ self.basis).unflatten(1, self.middle.shape)

    def likely(self, read: Tensor) -> Tensor:
        """As `forward`, but the kinds' own text states, each weighted by how likely it is: (B, 2 D) → (B, L, W).

        The likelihoods are those that `contrast` teaches. States from `forward` may lie where no sentence's are.
        """
        weights = (-self.distances(self.places(read))).softmax(dim=1)
        return self.middle + (weights @ self.kinds @ self.basis).unflatten(1, self.middle.shape)

    def distances(self, places: Tensor) -> Tensor:
        """Places (B, K) → squared distances from the kinds (B, K), of which `SHARPNESS` is a kind's from the middle."""
        scale = self.kinds.square().sum(dim=1).mean() / SHARPNESS
        return torch.cdist(places, self.kinds).square() / scale

    def nearest(self, read: Tensor) -> Tensor:
        """The kind whose text states are nearest to those of each clip: (B, 2 D) → (B,) numbers of kinds."""
        return torch.cdist(self.places(read), self.kinds).argmin(dim=1)

    def nearest_to(self, states: Tensor) -> Tensor:
        """The kind whose text states are nearest to each of some (B, L, W) → (B,) numbers of kinds."""
        return torch.cdist((states - self.middle).flatten(1) @ self.basis.T, self.kinds).argmin(dim=1)

    def loss(self, read: Tensor, kinds: Tensor, contrast: float) -> Tensor:
        """Squared distance to the states of the right kind, and how likely that kind is by its distance beside the others.

        Args:
            read: (B, 2 D).
            kinds: (B,) numbers of the right kinds.
            contrast: weight of the second; with 0, a clip that may be of two kinds lands between them.
        """
        places = self.places(read)
        scale = self.kinds.square().sum(dim=1).mean()  # of a kind's squared distance from the middle
        loss = mse_loss(places, self.kinds[kinds], reduction="sum") / len(places) / scale
        if contrast:
            loss = loss + contrast * cross_entropy(-self.distances(places), kinds)
        return loss


SHARPNESS = 10.0  # of the likelihoods by distance: a kind as far away as the middle has e^-10 of the nearest


def save_projector(folder: Path, projector: Projector, settings: Mapping[str, Any]) -> None:
    """Write the weights, with what `Projector` was built with, to `folder`."""
    told = {name: str(value) for name, value in settings.items()}
    write_whole(folder / WEIGHTS, save(projector.state_dict(), told))


def load_projector(folder: Path) -> Projector:
    """The projector that `train_projector.py` wrote, ready for use."""
    weights = load_file(folder / WEIGHTS)
    first = weights["layers.0.weight"]
    hidden = len(first) if "layers.3.weight" in weights else 0
    projector = Projector(first.shape[1], len(weights["kinds"]), *weights["middle"].shape, hidden=hidden)
    projector.load_state_dict(weights)
    return projector.eval()


@torch.no_grad()
def text_states(painter: Painter, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts → the states that the picture model attends to (B, L, W), and those that guidance draws away from."""
    states, negative = painter.pipeline.encode_prompt(list(texts), painter.pipeline.device, 1, True)
    return states, negative


def mixed(text: Tensor, sound: Tensor, strength: float) -> Tensor:
    """Text states moved towards those of the sound: 0 is the text alone, 1 the sound alone, both exactly.

    Args:
        text: (…, L, W).
        sound: the same.
        strength: 0 to 1.

    Raises:
        ValueError: the strength is not from 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(
            f"got strength={strength}; expected a number from 0 (the caption alone) to 1 (the sound alone)"
        )
    return torch.lerp(text, sound, strength)


@torch.no_grad()
def draw(painter: Painter, states: Tensor, negative: Tensor, seed: int = 0) -> list[Image.Image]:
    """Pictures of text states (B, L, W), as `Painter.draw_batch` draws those of captions; each begins as the same noise."""
    painter.pipeline.set_progress_bar_config(disable=True)
    output = painter.pipeline(
        prompt_embeds=states,
        negative_prompt_embeds=negative[:1].expand(len(states), -1, -1),
        num_inference_steps=painter.steps,
        guidance_scale=painter.guidance_scale,
        width=painter.width,
        height=painter.height,
        generator=[torch.Generator("cpu").manual_seed(seed) for _ in range(len(states))],
    )
    return list(output.images)
