"""Picture models of every class that `conf/image` names, whole and on disk, with tiny random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,"]
CHAT = "{% for message in messages %}user {{ message['content'] }} end {% endfor %}"
SIDE = 32  # pixels of a picture
WIDTH = 8  # of every text model


def clip_tokenizer(length: int = 24) -> Any:
    from transformers import CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=length)


def clip_text(kind: Any, length: int = 24) -> Any:
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return kind(config)


def t5(width: int = WIDTH) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *LETTERS]
    tokenizer = T5TokenizerFast(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=4, d_ff=width, num_layers=1, num_heads=2)
    return T5EncoderModel(config), tokenizer


def qwen(kind: str, layers: int) -> tuple[Any, Any]:
    """A text model of the Qwen3 family, whose tokenizer puts a prompt into a conversation."""
    import transformers
    from transformers import Qwen2TokenizerFast, Qwen3Config

    pieces = ["<|endoftext|>", *LETTERS, "Ġ"]
    tokenizer = Qwen2TokenizerFast(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=512
    )
    tokenizer.chat_template = CHAT
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=512,
    )
    return getattr(transformers, kind)(config), tokenizer


def gemma() -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizerFast

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
    tokenizer = GemmaTokenizerFast(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=512
    )
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
    )
    return Gemma2Model(config), tokenizer


def vae(channels: int, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
        sample_size=SIDE,
        **settings,
    )


def flow_vae(channels: int) -> Any:
    return vae(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)


def unet(width: int, **settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(8, 8),
        norm_num_groups=2,
        layers_per_block=1,
        sample_size=SIDE // 2,
        cross_attention_dim=width,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **settings,
    )


def stable_diffusion() -> Any:
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip_text(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        unet=unet(WIDTH),
        scheduler=PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip_text(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + WIDTH,
        ),
        scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
    )


def stable_diffusion_3() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    text, tokenizer = t5(2 * WIDTH)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIDE // 2,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=2 * WIDTH,
            pooled_projection_dim=2 * WIDTH,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_vae(4),
        text_encoder=clip_text(CLIPTextModelWithProjection, 77),
        tokenizer=clip_tokenizer(77),
        text_encoder_2=clip_text(CLIPTextModelWithProjection, 77),
        tokenizer_2=clip_tokenizer(77),
        text_encoder_3=text,
        tokenizer_3=tokenizer,
    )


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    text, tokenizer = t5()
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(2, 2, 4),
            guidance_embeds=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flow_vae(4),
        text_encoder=clip_text(CLIPTextModel, 77),
        tokenizer=clip_tokenizer(77),
        text_encoder_2=text,
        tokenizer_2=tokenizer,
    )


def flux2_klein() -> Any:
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    text, tokenizer = qwen("Qwen3ForCausalLM", 27)  # three of whose layers it reads, the last of them the 27th
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLFlux2(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=SIDE,
        ),
        text_encoder=text,
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=False,
        ),
        is_distilled=True,
    )


def z_image() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    text, tokenizer = qwen("Qwen3Model", 2)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 2, 2],
        axes_lens=[256, 32, 32],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):  # are made without values
        torch.nn.init.ones_(token)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_vae(4),
        text_encoder=text,
        tokenizer=tokenizer,
        transformer=transformer,
    )


def sana_sprint() -> Any:
    from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler

    text, tokenizer = gemma()
    return SanaSprintPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.4,
        ),
        transformer=SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=WIDTH,
            sample_size=32,
            qk_norm="rms_norm_across_heads",
            guidance_embeds=True,
        ),
        scheduler=SCMScheduler(),
    )


# By the name of the configuration that is for them.
MAKERS: dict[str, Callable[[], Any]] = {
    "stable_diffusion": stable_diffusion,
    "sd15_lcm": stable_diffusion,
    "sdxl_turbo": stable_diffusion_xl,
    "sd35_turbo": stable_diffusion_3,
    "flux_schnell": flux,
    "flux2_klein": flux2_klein,
    "z_image_turbo": z_image,
    "sana_sprint": sana_sprint,
}


def make(name: str, folder: Path, variant: str | None = None) -> Path:
    """Write the pipeline that is for a configuration, the same one each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MAKERS[name]().save_pretrained(folder, variant=variant)
    return folder


def make_lora(file: Path) -> Path:
    """A LoRA of `stable_diffusion`, in the names that the LCM-LoRA has, large enough to be seen."""
    from safetensors.torch import save_file

    weights: dict[str, torch.Tensor] = {}
    random = torch.Generator().manual_seed(0)
    for name, layer in stable_diffusion().unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            key = f"lora_unet_{name.replace('.', '_')}"
            weights[f"{key}.lora_down.weight"] = torch.randn(2, layer.in_features, generator=random)
            weights[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, 2, generator=random)
            weights[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(weights, file)
    return file
