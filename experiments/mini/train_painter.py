"""Trains the mini painter: a small Stable Diffusion pipeline that draws emoji from short English sentences.

    python experiments/mini/train_painter.py --out RUN --vae-minutes 12 --unet-minutes 40 [--resume]

Three stages: an autoencoder on all the emoji; a text model that learns to tell the concepts of
``painter_concepts.tsv`` apart; a UNet, with that text model, on their latents. Every checkpoint of the last stage also
writes ``RUN/painter``, a folder that ``diffusers.StableDiffusionPipeline.from_pretrained`` loads.
"""

import argparse
import math
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.training_utils import EMAModel
from painter_data import Concept, caption, load_picture, read_concepts, read_names, tokenizer_texts, train_tokenizer
from painter_model import (
    MAX_LENGTH,
    SIZE,
    build_scheduler,
    build_text_model,
    build_unet,
    build_vae,
    encode,
    export_pipeline,
)
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

CAPTION_DROPOUT = 0.12
LATENT_NOISE = 0.1  # so that the decoder forgives small errors of the UNet


class Stage:
    """One training run: optimiser, schedule, moving average, checkpoints, and a clean stop at Ctrl-C.

    `modules` are trained together; `loss(step)` gives the loss of one batch, which depends on seed and step alone, so a
    resumed run goes on as if it had not stopped. Exactly one of `steps` and `minutes` bounds it.
    """

    def __init__(self, name: str, modules: dict[str, torch.nn.Module], accelerator: Accelerator, args: Any) -> None:
        self.path = Path(args.out) / f"{name}.pt"
        self.name, self.accelerator, self.args = name, accelerator, args
        self.steps, self.minutes = getattr(args, f"{name}_steps"), getattr(args, f"{name}_minutes")
        self.modules = {key: accelerator.prepare(module) for key, module in modules.items()}
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        optimizer = torch.optim.AdamW(self.parameters, lr=args.learning_rate, betas=(0.9, 0.99), weight_decay=1e-2)
        self.optimizer = accelerator.prepare(optimizer)
        self.ema = EMAModel(self.parameters, decay=args.ema)
        self.step, self.seconds, self.stopped = 0, 0.0, False

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return self.step / self.steps if self.steps else self.seconds / (60 * self.minutes)

    def learning_rate(self) -> float:
        """Linear warm-up over 100 steps, constant, then a cosine to nothing over the last 60 %."""
        fall = max(0.0, (min(self.progress(), 1.0) - 0.4) / 0.6)
        return float(self.args.learning_rate * min(1.0, (self.step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * fall)))

    def run(self, loss: Callable[[int], torch.Tensor], export: Callable[["Stage"], None] | None = None) -> None:
        """Trains until the bound or a stop signal; saves every few minutes and at the end, then calls `export`."""
        before = signal.signal(signal.SIGINT, lambda *_: setattr(self, "stopped", True))
        bar = tqdm(desc=self.name, total=self.steps, initial=self.step, mininterval=10)
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        try:
            while self.progress() < 1 and not self.stopped:
                value = self._update(loss)
                self.seconds = time.monotonic() - started
                bar.update()
                bar.set_postfix_str(f"loss {value:.4f}, {100 * self.progress():.0f} %", refresh=False)
                if time.monotonic() - saved > 60 * self.args.checkpoint_minutes:
                    self.save(export)
                    saved = time.monotonic()
        finally:
            bar.close()
            signal.signal(signal.SIGINT, before)
        self.save(export)
        if self.stopped:
            raise SystemExit(f"stopped at step {self.step} of {self.name}; go on with --resume")

    def _update(self, loss: Callable[[int], torch.Tensor]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        torch.manual_seed(self.args.seed * 1_000_003 + self.step)
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            value = loss(self.step)
        self.accelerator.backward(value)
        self.accelerator.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.ema.step(self.parameters)
        self.step += 1
        return float(value.detach())

    def save(self, export: Callable[["Stage"], None] | None = None) -> None:
        """Writes the checkpoint beside its place and moves it there, then calls `export` with the averaged weights."""
        state = {
            "modules": {key: module.state_dict() for key, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.path)
        if export:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
            export(self)
            self.ema.restore(self.parameters)

    def resume(self) -> bool:
        """Takes up the checkpoint if there is one."""
        if not self.path.is_file():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def vae_loss(vae: AutoencoderKL, pictures: torch.Tensor, favoured: torch.Tensor, batch: int) -> torch.Tensor:
    """Absolute error of pixels and of their differences, and a little KL; three in four pictures are favoured."""
    anywhere = torch.randint(len(pictures), (batch // 4,))
    index = torch.cat([anywhere, favoured[torch.randint(len(favoured), (batch - batch // 4,))]])
    pixels = pictures[index].to(vae.device)
    posterior = vae.encode(pixels).latent_dist
    latents = posterior.sample()
    drawn = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
    across, down = drawn.diff(dim=3) - pixels.diff(dim=3), drawn.diff(dim=2) - pixels.diff(dim=2)
    kl = posterior.kl().mean() / latents[0].numel()
    return functional.l1_loss(drawn, pixels) + 0.5 * (across.abs().mean() + down.abs().mean()) + 1e-3 * kl


def batch_of(
    concepts: list[Concept], tokenizer: CLIPTokenizer, args: Any, step: int, dropout: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Concept numbers (B,) and token ids (B, MAX_LENGTH) of one batch; a part `dropout` of the captions is empty."""
    rng = random.Random(f"{args.seed} {step}")
    index = rng.choices(range(len(concepts)), [concept.weight for concept in concepts], k=args.batch)
    texts = ["" if rng.random() < dropout else caption(concepts, i, rng) for i in index]
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return torch.tensor(index), tokens.input_ids


def text_loss(modules: dict[str, Any], index: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the concept, read by a linear head from the end of the text and from the padding after it.

    With only the picture to learn from, the text model takes long to tell concepts apart.
    """
    device = next(modules["text_model"].parameters()).device
    states = modules["text_model"](ids.to(device)).last_hidden_state
    ended = ids == modules["text_model"].config.eos_token_id
    labels = index[:, None].expand_as(ids)[ended].to(device)
    return functional.cross_entropy(modules["head"](states[ended.to(device)]).float(), labels)


def unet_loss(
    modules: dict[str, Any], scheduler: DDIMScheduler, latents: torch.Tensor, index: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of v on a batch of latents with their captions."""
    states = modules["text_model"](ids.to(latents.device)).last_hidden_state
    clean = latents[index.to(latents.device)]
    noise = torch.randn_like(clean)
    times = torch.randint(scheduler.config.num_train_timesteps, (len(clean),), device=clean.device)
    noisy = scheduler.add_noise(clean, noise, times)
    predicted = modules["unet"](noisy, times, states).sample
    return functional.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, times))


def train_vae(args: Any, accelerator: Accelerator, pictures: torch.Tensor, favoured: torch.Tensor) -> AutoencoderKL:
    """The autoencoder with averaged weights; its scaling factor gives the concepts' latents a deviation of 1."""
    torch.manual_seed(args.seed)
    vae = build_vae()
    stage = Stage("vae", {"vae": vae}, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"vae: resumed at step {stage.step}")
    stage.run(lambda step: vae_loss(stage.modules["vae"], pictures, favoured, args.vae_batch))
    stage.ema.copy_to(stage.parameters)
    vae = accelerator.unwrap_model(stage.modules["vae"]).eval()
    vae.register_to_config(scaling_factor=float(1 / encode(vae, pictures[favoured]).std()))
    return vae


def train_text(args: Any, accelerator: Accelerator, tokenizer: CLIPTokenizer, concepts: list[Concept]) -> CLIPTextModel:
    """The text model, first taught to tell the concepts apart."""
    torch.manual_seed(args.seed)
    text_model = build_text_model(tokenizer)
    modules = {"text_model": text_model, "head": torch.nn.Linear(text_model.config.hidden_size, len(concepts))}
    stage = Stage("text", modules, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"text: resumed at step {stage.step}")
    stage.run(lambda step: text_loss(stage.modules, *batch_of(concepts, tokenizer, args, step, dropout=0)))
    return accelerator.unwrap_model(stage.modules["text_model"])


def train_unet(
    args: Any, accelerator: Accelerator, vae: AutoencoderKL, tokenizer: CLIPTokenizer, text_model: CLIPTextModel,
    concepts: list[Concept], pictures: torch.Tensor,
) -> None:  # fmt: skip
    """The UNet and the text model, jointly; `args.out/painter` is written at every checkpoint."""
    torch.manual_seed(args.seed)
    models = {"unet": build_unet(text_model.config.hidden_size), "text_model": text_model}
    stage = Stage("unet", models, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"unet: resumed at step {stage.step}")
    latents, scheduler = encode(vae, pictures) * vae.config.scaling_factor, build_scheduler()

    def loss(step: int) -> torch.Tensor:
        return unet_loss(stage.modules, scheduler, latents, *batch_of(concepts, tokenizer, args, step, CAPTION_DROPOUT))

    def export(stage: Stage) -> None:
        trained = {key: accelerator.unwrap_model(module) for key, module in stage.modules.items()}
        export_pipeline(Path(args.out) / "painter", vae, trained["text_model"], tokenizer, trained["unet"])

    stage.run(loss, export)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ["A2I_REAL_DATA"]) / "emoji" if "A2I_REAL_DATA" in os.environ else None
    parser.add_argument("--data", type=Path, default=default, help="png/ and names.tsv; default $A2I_REAL_DATA/emoji")
    parser.add_argument("--concepts", type=Path, default=Path(__file__).with_name("painter_concepts.tsv"))
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and the pipeline folder `painter`")
    for name, minutes in (("vae", 12.0), ("text", 2.0), ("unet", 40.0)):
        parser.add_argument(f"--{name}-minutes", type=float, default=minutes)
        parser.add_argument(f"--{name}-steps", type=int, default=0, help="if given, this and not the minutes")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--vae-batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the weights' moving average")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint-minutes", type=float, default=3)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("no --data: give a folder with png/ and names.tsv, or set A2I_REAL_DATA")
    return args


def main(argv: list[str] | None = None) -> None:
    """Trains the stages, or what is left of them."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # several times as fast on a CPU in the first steps
    args.out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=args.precision)
    concepts, names = read_concepts(args.concepts), read_names(args.data)
    files = sorted(names)
    pictures = torch.stack([load_picture(args.data / "png" / file, SIZE) for file in files])
    missing = [concept.file for concept in concepts if concept.file not in names]
    if missing:
        raise ValueError(f"{args.concepts} names pictures that {args.data}/names.tsv lacks: {missing}")
    favoured = torch.tensor([files.index(concept.file) for concept in concepts])
    vae = train_vae(args, accelerator, pictures, favoured)
    folder = args.out / "tokenizer"
    if not (args.resume and folder.is_dir()):
        texts = tokenizer_texts(concepts, names.values(), args.seed)
        train_tokenizer(texts, vocab_size=2048, max_length=MAX_LENGTH).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    text_model = train_text(args, accelerator, tokenizer, concepts)
    train_unet(args, accelerator, vae, tokenizer, text_model, concepts, pictures[favoured])


if __name__ == "__main__":
    main()
