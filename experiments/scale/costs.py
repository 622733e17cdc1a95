"""What a million and a thousand million clips cost: processor and GPU hours, storage, network; and where it gets narrow.

    A2I_REAL_DATA=FOLDER python experiments/scale/costs.py --out costs.json     # measures on one core, counts, prints tables
    python experiments/scale/costs.py --read costs.json                         # the tables of figures from before

What is measured: seconds of one core for each second of sound (decoding, features, encoding), for each caption and each small
picture; bytes of each thing that is kept, on real recordings. What is counted: multiplications and additions of the
published-size models, on tensors without content. What is assumed stands in `Assumed`, and in the tables' heads.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

CLIP = 10.0  # seconds of a clip, as AudioCaps has them
CLIPS = 60  # recordings that are measured on


@dataclass(frozen=True)
class Assumed:
    """What no command here can measure.

    Attributes:
        gpu_peak: floating-point operations a second, bfloat16, dense: NVIDIA's data sheet of the H100 SXM.
        share: of that which large matrix products reach (training, encoding, diffusion).
        share_decoding: which decoding reaches, a token at a time.
        cores_per_gpu: processor cores beside each GPU of a common node.
        network: bytes a second that one node reads from an object store.
        gpus_per_node: of a common node.
    """

    gpu_peak: float = 989e12
    share: float = 0.35
    share_decoding: float = 0.02
    cores_per_gpu: int = 14
    network: float = 25e9 / 8
    gpus_per_node: int = 8


def main() -> None:
    """Measure or read, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    parser.add_argument("--read", type=Path, help="figures from before")
    arguments = parser.parse_args()
    if arguments.read:
        figures = json.loads(arguments.read.read_text(encoding="utf-8"))
    else:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        figures = {"assumed": asdict(Assumed()), "measured": measured(), "counted": counted()}
        if arguments.out:
            arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(tables(figures))


# --- Measured


def measured() -> dict[str, float]:
    """Seconds of one core, and bytes, on real recordings."""
    from a2i.audio import load
    from a2i.machine import keep_freed_memory
    from a2i.pipeline import AudioToImage

    keep_freed_memory()
    sounds = sorted((Path(os.environ["A2I_REAL_DATA"]) / "esc10").rglob("*.ogg"))[::5][:CLIPS]
    a2i = AudioToImage.load(device="cpu")
    captioner, rate = a2i.captioner, a2i.captioner.sampling_rate
    load(sounds[0], rate)
    spent, waveforms = timed(lambda: [load(sound, rate) for sound in sounds])
    seconds = sum(len(waveform) for waveform in waveforms) / rate
    found: dict[str, float] = {"recordings": len(sounds), "seconds_of_sound": seconds}
    # The decoder is a process of its own: its time counts by the wall, on an otherwise idle machine.
    found["decode_per_second"] = spent / seconds
    found["ogg_bytes_per_second"] = sum(sound.stat().st_size for sound in sounds) / seconds
    found["flac_bytes_per_second"] = sum(flac(waveform, rate) for waveform in waveforms) / seconds
    found["waveform_bytes_per_second"] = 4.0 * rate
    log_mel = captioner.log_mel  # type: ignore[attr-defined]
    lengths = [torch.tensor([len(waveform)]) for waveform in waveforms]
    features = [torch.from_numpy(waveform)[None] for waveform in waveforms]
    with torch.inference_mode():
        spent, mels = timed(lambda: [log_mel(*pair) for pair in zip(features, lengths, strict=True)])
        found["features_per_second"] = spent / seconds
        found["log_mel_bytes_per_second"] = sum(mel.numel() * 2 for mel, _ in mels) / seconds
        spent, states = timed(lambda: [captioner.encoder(*mel) for mel in mels])  # type: ignore[attr-defined]
    found["encode_per_second"] = spent / seconds
    found["state_bytes_per_second"] = sum(state.numel() * 2 for state, _ in states) / seconds
    few = waveforms[:24]
    spent, captions = timed(lambda: captioner.caption(few))
    whole = sum(len(waveform) for waveform in few) / rate
    found["caption"] = (spent - whole * (found["features_per_second"] + found["encode_per_second"])) / len(few)
    painter = a2i.painter
    assert painter is not None
    texts = [each[0].caption for each in captions[:6]]
    painter.draw_batch(texts[:1], [0])
    spent, drawings = timed(lambda: [painter.draw_batch([text], [0])[0] for text in texts])
    found["small_picture"] = spent / len(texts)
    found["small_picture_bytes"] = float(np.mean([png(drawing.image) for drawing in drawings]))
    found["row_bytes"] = float(row_bytes(sounds[:4]))
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that it took, and what it gave."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def flac(waveform: np.ndarray, rate: int) -> int:
    """Bytes as 16-bit FLAC."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="FLAC", subtype="PCM_16")
    return len(file.getvalue())


def png(image: Any) -> int:
    """Bytes as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.tell()


def row_bytes(sounds: list[Path]) -> int:
    """Of a line of `results.jsonl`."""
    from a2i.__main__ import main as a2i

    with tempfile.TemporaryDirectory() as out:
        with suppress(SystemExit):
            a2i(["infer", *map(str, sounds), "image=none", f"out={out}", "workers=1"])
        return (Path(out) / "results.jsonl").stat().st_size // len(sounds)


# --- Counted


def counted() -> dict[str, float]:
    """Operations (a multiplication and an addition are two) of a forward pass of the published-size models."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ASTConfig, ASTModel, GPT2Config, GPT2LMHeadModel

    def count(work: Callable[[], Any]) -> float:
        with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
            work()
        return float(counter.get_total_flops())

    with torch.device("meta"):
        ast, gpt2 = ASTModel(ASTConfig()), GPT2LMHeadModel(GPT2Config(add_cross_attention=True))
        # As stable-diffusion-v1-5's own configuration files have them.
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
    ids = 20

    def written(states: int) -> float:
        return count(
            lambda: gpt2(torch.empty(1, ids, dtype=torch.long), encoder_hidden_states=torch.empty(1, states, 768))
        )

    return {
        "ast_clip": count(lambda: ast(torch.empty(1, 1024, 128))),
        "gpt2_tokens": written(1),
        "gpt2_states": written(1214) - written(1),  # keys and values of the encoder's states, and attending to them
        "caption_tokens": ids,
        "unet_step": count(lambda: unet(torch.empty(1, 4, 64, 64), torch.empty(1), torch.empty(1, 77, 768))),
        "vae_decode": count(lambda: vae.decode(torch.empty(1, 4, 64, 64))),
        "ast_gpt2_weights": float(sum(one.numel() for model in (ast, gpt2) for one in model.parameters())),
    }


# --- Told


def tables(figures: dict[str, Any]) -> str:
    """Markdown."""
    got, ops, assumed = figures["measured"], figures["counted"], Assumed(**figures["assumed"])
    cpu = {
        "decode": CLIP * got["decode_per_second"],
        "features": CLIP * got["features_per_second"],
        "encode": CLIP * got["encode_per_second"],
        "write the caption": got["caption"],
        "small picture": got["small_picture"],
    }
    fast, slow = assumed.gpu_peak * assumed.share, assumed.gpu_peak * assumed.share_decoding
    gpu = {
        "encode (AST)": ops["ast_clip"] / fast,
        "write the caption (GPT-2, 4 beams)": 4 * (ops["gpt2_states"] / fast + ops["gpt2_tokens"] / slow),
        "picture, 4 steps": (4 * ops["unet_step"] + ops["vae_decode"]) / fast,
        "picture, 30 steps with guidance": (60 * ops["unet_step"] + ops["vae_decode"]) / fast,
        "an epoch of training (AST + GPT-2)": 3 * (ops["ast_clip"] + ops["gpt2_states"] + ops["gpt2_tokens"]) / fast,
    }
    lines = [
        "### Processor hours of one core (measured)",
        "",
        "| of a clip of 10 s | seconds | a million clips, hours | a thousand million, years |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {value:.3f} | {value * 1e6 / 3600:,.0f} | {value * 1e9 / 3.156e7:,.1f} |"
        for name, value in cpu.items()
    ]
    lines += [
        "",
        f"### GPU hours (counted; assumed {assumed.gpu_peak / 1e12:.0f} TFLOP/s × {assumed.share:.0%}, decoding"
        f" {assumed.share_decoding:.0%})",
        "",
        "| of a clip of 10 s | ms | a million clips, hours | a thousand million, hours |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {1e3 * value:.2f} | {value * 1e6 / 3600:,.1f} | {value * 1e9 / 3600:,.0f} |"
        for name, value in gpu.items()
    ]
    kept = {
        "Ogg, as recorded": CLIP * got["ogg_bytes_per_second"],
        "FLAC, 16 bit": CLIP * got["flac_bytes_per_second"],
        "decoded waveforms (cache)": CLIP * got["waveform_bytes_per_second"],
        "log-mels, 2 bytes": CLIP * got["log_mel_bytes_per_second"],
        "encoder states, 2 bytes": CLIP * got["state_bytes_per_second"],
        "a row of results": got["row_bytes"],
        "small picture, PNG": got["small_picture_bytes"],
    }
    lines += [
        "",
        "### Storage (measured)",
        "",
        "| kept of a clip of 10 s | KB | a million clips, GB | a thousand million, TB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {value / 1e3:,.1f} | {value * 1e6 / 1e9:,.1f} | {value * 1e9 / 1e12:,.1f} |"
        for name, value in kept.items()
    ]
    captioned = 1 / (gpu["encode (AST)"] + gpu["write the caption (GPT-2, 4 beams)"])
    lines += [
        "",
        "### What one GPU asks of the rest",
        "",
        "| it does | clips a second | cores to decode for it | bytes a second, FLAC | GPUs that one node's network feeds |",
        "|---|---|---|---|---|",
    ]
    jobs = {
        "captions": captioned,
        "captions and pictures of 4 steps": 1 / (1 / captioned + gpu["picture, 4 steps"]),
        "captions and pictures of 30 steps": 1 / (1 / captioned + gpu["picture, 30 steps with guidance"]),
        "training, from sound": 1 / gpu["an epoch of training (AST + GPT-2)"],
    }
    for name, rate in jobs.items():
        cores, wire = rate * (cpu["decode"] + cpu["features"]), rate * kept["FLAC, 16 bit"]
        lines.append(f"| {name} | {rate:,.1f} | {cores:,.1f} | {wire / 1e6:,.1f} MB | {assumed.network / wire:,.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
