"""The Audio Spectrogram Transformer (Gong, Chung and Glass 2021), for clips of any length.

The weights and the layers are `transformers.ASTModel`'s. Here is what it lacks for captioning: a mask over frames, and
three ways to encode more than the 10.24 s (1,024 frames) that its position embeddings cover.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from transformers import ASTConfig, ASTModel

from a2i import hub
from a2i.captioner.encoders import register
from a2i.features import FeatureSettings

LongAudio = Literal["truncate", "window", "interpolate"]
WINDOW_GROUP = 16  # windows that are encoded at once where nothing is learnt
SPECIAL = 2  # CLS and distillation tokens before the patches


@register
class ASTEncoder(nn.Module):
    """Log-mel → states of all patches.

    What happens to audio longer than the position embeddings (`config.max_length` frames, 10.24 s as published):

    * `truncate`: the rest is dropped, as the published extractor does;
    * `window`: every 10.24 s is encoded by itself and the states are joined along time, so that none is lost;
    * `interpolate`: the position embeddings are stretched along time over the whole clip.

    A clip that fits is encoded alike by all three. Patches that begin in padding take part in nothing: neither in attention
    nor, through the returned mask, in what the decoder attends to.
    """

    name = "ast"
    config_class = ASTConfig

    def __init__(
        self,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        long_audio: LongAudio = "window",
        revision: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Build from pretrained weights or from a configuration.

        Args:
            pretrained: Hub id or local folder of an AST checkpoint (a classifier's head is left out); None for random
                weights after `config`.
            config: `transformers.ASTConfig`'s values, where they differ from AST-base.
            long_audio: see the class.
            revision: branch, tag or commit on the Hub.
            gradient_checkpointing: trade time for memory when training.

        Raises:
            ValueError: a setting is unknown, or the checkpoint is not an AST or lacks weights.
        """
        super().__init__()
        if long_audio not in get_args(LongAudio):
            raise ValueError(f"got long_audio={long_audio!r}; expected one of {', '.join(get_args(LongAudio))}")
        if pretrained is not None and config is not None:
            raise ValueError("got both pretrained and config; expected one: a checkpoint brings its own configuration")
        if pretrained is None:
            self.model = ASTModel(ASTConfig(**{**(config or {}), "attn_implementation": "sdpa"}))
            if (layers := self.model.config.num_hidden_layers) < 1:
                raise ValueError(f"got config.num_hidden_layers={layers}; expected at least 1")
            # Zeros, as transformers leaves them, would let every patch at every time look alike in a model trained from
            # nothing.
            nn.init.trunc_normal_(self.model.embeddings.position_embeddings, std=0.02)
        else:
            self.model = _load(pretrained, revision)
        if gradient_checkpointing:
            self.model.activation_checkpointing_enable()
        self.long_audio = long_audio

    @property
    def settings(self) -> dict[str, Any]:
        return {"config": self.model.config.to_diff_dict(), "long_audio": self.long_audio}

    @property
    def width(self) -> int:
        """D, the size of a state."""
        return int(self.model.config.hidden_size)

    def forward(self, log_mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            log_mel: (B, T, num_mel_bins), padded as `LogMel` pads it.
            mask: (B, T) bool, True for real frames, at least one a clip, all before the padding.

        Returns:
            states (B, S, D) and mask (B, S) bool. In every window CLS and distillation come first, then the patches, low
            frequencies before high, each along time. 10.24 s give 2 + 12 × 101 states.
        """
        config = self.model.config
        if log_mel.shape[-1] != config.num_mel_bins:
            raise ValueError(f"got {log_mel.shape[-1]} mel bins; this AST expects {config.num_mel_bins}")
        frames = mask.sum(dim=1)
        if self.long_audio == "truncate":
            log_mel, frames = log_mel[:, : config.max_length], frames.clamp_max(config.max_length)
        if self.long_audio != "window" or log_mel.shape[1] <= config.max_length:
            return self._encode(log_mel, frames)
        return self._encode_windows(log_mel, frames)

    def _encode_windows(self, log_mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Windows of as many frames as a full row of patches covers (1,016), so that no frame falls between two.

        Windows that hold no real frame are not computed.
        """
        size = (self._columns_known - 1) * self.model.config.time_stride + _of_time(self.model.config.patch_size)
        batch, length, bins = log_mel.shape
        count = -(-length // size)
        windows = pad(log_mel, (0, 0, 0, count * size - length)).view(batch * count, size, bins)
        # A clip that fits is one window, as it is without longer neighbours.
        frames = torch.where(frames <= self.model.config.max_length, frames.clamp_max(size), frames)
        inside = (frames[:, None] - torch.arange(count, device=frames.device) * size).clamp(0, size).flatten()
        used = inside > 0
        # Without gradients nothing of a group has to stay: memory is bounded, however long the clips.
        group = len(windows) if torch.is_grad_enabled() else WINDOW_GROUP
        most = int(self._columns(inside).max())
        parts = zip(windows[used].split(group), inside[used].split(group), strict=True)
        encoded = [self._encode(*part, most) for part in parts]
        some_states, some_mask = (torch.cat(part) for part in zip(*encoded, strict=True))
        states = some_states.new_zeros(batch * count, *some_states.shape[1:])
        states_mask = some_mask.new_zeros(batch * count, some_mask.shape[1])
        states[used], states_mask[used] = some_states, some_mask
        return states.view(batch, -1, self.width), states_mask.view(batch, -1)

    @property
    def _columns_known(self) -> int:
        """Patches along time that have position embeddings: 101 as published."""
        return int(self.model.embeddings.get_shape(self.model.config)[1])

    def _columns(self, frames: Tensor) -> Tensor:
        """Patches along time (B,) that cover so many frames, the last one filled up with padding where needed."""
        config = self.model.config
        columns = -(-(frames - _of_time(config.patch_size)).clamp_min(0) // config.time_stride) + 1
        fits = frames <= config.max_length
        return torch.where(fits, columns.clamp_max(self._columns_known), columns)

    def _encode(self, log_mel: Tensor, frames: Tensor, most: int | None = None) -> tuple[Tensor, Tensor]:
        """One pass over (B, T, F), of which the first `frames` (B,) of each clip are real; `most` columns of patches."""
        config, embeddings = self.model.config, self.model.embeddings
        columns = self._columns(frames)
        most = most or int(columns.max())
        needed = (most - 1) * config.time_stride + _of_time(config.patch_size)
        padding = FeatureSettings().padding
        log_mel = pad(log_mel[:, :needed], (0, 0, 0, max(0, needed - log_mel.shape[1])), value=padding)
        real = torch.arange(needed, device=frames.device) < frames[:, None]
        log_mel = log_mel.masked_fill(~real[:, :, None], padding)

        patches = embeddings.patch_embeddings(log_mel)  # (B, rows × most, D)
        special = torch.cat((embeddings.cls_token, embeddings.distillation_token), dim=1).expand(len(patches), -1, -1)
        hidden = torch.cat((special, patches), dim=1) + self._positions(columns, most)
        hidden = embeddings.dropout(hidden)

        rows = patches.shape[1] // most
        in_time = torch.arange(most, device=columns.device) < columns[:, None]  # (B, most)
        mask = torch.cat((in_time.new_ones(len(in_time), SPECIAL), in_time.repeat(1, rows)), dim=1)
        attention_mask = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in self.model.layers:
            hidden = layer(hidden, attention_mask)
        return self.model.layernorm(hidden), mask

    def _positions(self, columns: Tensor, most: int) -> Tensor:
        """Position embeddings (1 or B, 2 + rows × most, D): the first columns, or stretched for clips that need more."""
        table = self.model.embeddings.position_embeddings
        known = self._columns_known
        grid = table[:, SPECIAL:].unflatten(1, (-1, known))  # (1, rows, known, D)
        if most <= known:
            return torch.cat((table[:, :SPECIAL], grid[:, :, :most].flatten(1, 2)), dim=1)
        grid = grid.permute(0, 3, 1, 2)  # (1, D, rows, known)
        clips = []
        # A clip's positions depend on its own length alone, so that its neighbours in a batch change nothing.
        for count in columns.tolist():
            size = (grid.shape[2], max(count, known))
            own = grid if count <= known else interpolate(grid, size, mode="bilinear", align_corners=False)
            own = pad(own, (0, max(0, most - own.shape[3])))[..., :most]
            clips.append(own.permute(0, 2, 3, 1).flatten(1, 2))
        stretched = torch.cat(clips)
        return torch.cat((table[:, :SPECIAL].expand(len(stretched), -1, -1), stretched), dim=1)


def _of_time(size: int | list[int] | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[1]


def _load(pretrained: str, revision: str | None) -> ASTModel:
    try:
        hub.look_up(pretrained, revision, "config.json")
        load: Any = ASTModel.from_pretrained
        model, report = load(
            pretrained,
            revision=revision or "main",
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation="sdpa",
        )
    except (*hub.failures(), ValueError, RuntimeError) as error:
        raise ValueError(
            f"could not load an AST checkpoint from {pretrained} ({hub.why(error)}); expected a Hub id such"
            " as MIT/ast-finetuned-audioset-10-10-0.4593 (needs the network once) or a local folder with config.json and"
            " model.safetensors"
        ) from error
    if report["missing_keys"]:
        raise ValueError(
            f"{pretrained}: lacks {len(report['missing_keys'])} of AST's weights, {sorted(report['missing_keys'])[0]} among"
            " them; expected an AST checkpoint"
        )
    return model
