"""The parts of the mini painter, and the folder they ship in.

Latent diffusion: Rombach et al. 2022; v-prediction: Salimans and Ho 2022; zero terminal signal-to-noise and trailing
steps: Lin et al. 2024.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZE = 128  # pixels a side
REDUCTION = 8  # pixels to a latent cell, each way
LATENT_CHANNELS = 8
MAX_LENGTH = 64  # tokens


def build_vae() -> AutoencoderKL:
    """128 px RGB → (8, 16, 16) latents: four levels, 8x reduction."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )


def build_unet(text_width: int) -> UNet2DConditionModel:
    """Two levels, 80 and 160 channels; the text is attended to at 8 x 8."""
    return UNet2DConditionModel(
        sample_size=SIZE // REDUCTION,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(80, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=5,
        norm_num_groups=16,
        cross_attention_dim=text_width,
    )


def build_text_model(tokenizer: CLIPTokenizer, width: int = 128, layers: int = 3) -> CLIPTextModel:
    """A small CLIP text transformer whose token numbers are the tokenizer's."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """DDIM that starts from pure noise (zero terminal SNR) and counts its steps from there."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # no effect with trailing steps; the pipeline asks for it
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Unscaled latents (B, 8, 16, 16) of pictures (B, 3, 128, 128): the mode of the posterior."""
    return torch.cat([vae.encode(part.to(vae.device)).latent_dist.mode().float() for part in pictures.split(32)])


def export_pipeline(
    folder: Path, vae: AutoencoderKL, text_model: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> None:
    """Writes the pipeline in float16 to `folder`, replacing what is there in one move."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for key in ("is_local", "local_files_only"):  # how it was loaded is no part of what it is
        tokenizer.init_kwargs.pop(key, None)

    def half(model: Any, fresh: Any) -> Any:
        fresh.load_state_dict(model.state_dict())
        return fresh.to("cpu", torch.float16)

    small_vae = half(vae, AutoencoderKL.from_config(_own(vae.config)))
    # from_config takes a value registered later for the default, and drops it.
    small_vae.register_to_config(scaling_factor=vae.config.scaling_factor)
    StableDiffusionPipeline(
        vae=small_vae,
        text_encoder=half(text_model, CLIPTextModel(text_model.config)),
        tokenizer=tokenizer,
        unet=half(unet, UNet2DConditionModel.from_config(_own(unet.config))),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(part)
    for file in part.rglob("*.safetensors"):
        file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def _own(config: Any) -> dict[str, Any]:
    """A configuration without the folder that the weights were loaded from: where it comes from is no part of what it is."""
    return {key: value for key, value in config.items() if key != "_name_or_path"}
