"""Trains the mini painter: a small Stable Diffusion pipeline that draws emoji from short English sentences.

    python experiments/mini/train_painter.py --out RUN --vae-minutes 12 --unet-minutes 40 [--resume] [--start PAINTER]

Three stages: an autoencoder on all the emoji; a text model that learns to tell which one or two concepts of
``painter_concepts.tsv`` a caption names; a UNet, told by that text model, on latents of single concepts and of scenes of two.
Every checkpoint of the last stage also writes ``RUN/painter``, a folder that
``diffusers.StableDiffusionPipeline.from_pretrained`` loads; the end writes ``RUN/painter_record.json``. With ``--start``
the stages begin with the weights of a painter folder, and a stage with neither minutes nor steps leaves its own as they are.
"""

import argparse
import copy
import hashlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from painter_data import (
    Caption,
    Captions,
    compose,
    load_picture,
    read_concepts,
    read_names,
    tokenizer_texts,
    train_tokenizer,
)
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
HIGH_NOISE = 1.5  # exponent: 1 draws every time step as often
AS_THEY_COME = 0.25  # share of the autoencoder's pictures that are not chosen by their hue
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
        if not self.steps and not self.minutes:
            return 1.0
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


def hue_weights(pictures: torch.Tensor, hues: int = 12) -> torch.Tensor:
    """How often each picture (N, 3, S, S) is shown, in sum 1 (N,): so that hues come equally often, greys as they come.

    Most emoji are yellow, red or grey; an autoencoder that sees them as they come paints a frog orange.
    """
    red, green, blue = ((pictures + 1) / 2).unbind(dim=1)
    chroma = pictures.amax(dim=1) - pictures.amin(dim=1)
    angle = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)
    number = ((angle / (2 * math.pi) % 1) * hues).long().clamp(max=hues - 1)
    number = torch.where(chroma > 0.3, number, hues).flatten(1)  # the last one is for greys
    counts = functional.one_hot(number, hues + 1).sum(dim=1)[:, :hues].float()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    weights = (shares / shares.sum(dim=0).clamp(min=1e-6)).sum(dim=1)
    return (1 - AS_THEY_COME) * weights / weights.sum().clamp(min=1e-6) + AS_THEY_COME / len(pictures)


def vae_loss(vae: AutoencoderKL, pictures: torch.Tensor, weights: torch.Tensor, batch: int) -> torch.Tensor:
    """Absolute error of pixels, of their differences and of their colour (R − G, B − G), and a little KL.

    A quarter of the pictures are scenes of two.
    """
    index = torch.multinomial(weights, batch + batch // 4, replacement=True)
    pixels = pictures[index[:batch]]
    pixels[: batch // 4] = compose(pixels[: batch // 4], pictures[index[batch:]])
    pixels = pixels.to(vae.device)
    posterior = vae.encode(pixels).latent_dist
    latents = posterior.sample()
    error = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float() - pixels
    edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    colour = (error[:, ::2] - error[:, 1:2]).abs().mean()
    kl = posterior.kl().mean() / latents[0].numel()
    return error.abs().mean() + 0.5 * edges + colour + 1e-3 * kl


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (B, MAX_LENGTH)."""
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return tokens.input_ids


def text_loss(modules: dict[str, Any], captions: Sequence[Caption], ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what a linear head reads from the end of the text and from the padding after it.

    Even positions tell the ground, or the only concept, odd ones the sky, or that there is none (the last class): so that
    the UNet's cross-attention finds each of the two at places of its own.
    """
    none = modules["head"].out_features - 1
    slots = torch.tensor([(caption.ground, none if caption.sky is None else caption.sky) for caption in captions])
    labels = slots.repeat(1, ids.shape[1] // 2)
    ended = ids == modules["text_model"].config.eos_token_id
    device = next(modules["head"].parameters()).device
    states = modules["text_model"](ids.to(device)).last_hidden_state
    return functional.cross_entropy(modules["head"](states[ended.to(device)]).float(), labels[ended].to(device))


def taught_loss(
    text_model: torch.nn.Module, teacher: CLIPTextModel, ids: torch.Tensor, familiar: torch.Tensor
) -> torch.Tensor:
    """Mean squared distance of the states after the end from the teacher's, of texts of the same pictures, row by row, in
    words that the teacher knows: what understands the teacher then understands new words as well."""
    ids, familiar = ids.to(teacher.device), familiar.to(teacher.device)
    with torch.no_grad():
        wanted = teacher(familiar).last_hidden_state
    ended = (ids == teacher.config.eos_token_id) & (familiar == teacher.config.eos_token_id)
    return functional.mse_loss(text_model(ids).last_hidden_state[ended].float(), wanted[ended].float())


@torch.no_grad()
def slot_accuracy(modules: dict[str, Any], captions: Sequence[Caption], ids: torch.Tensor) -> list[float]:
    """Shares of captions of which the last two positions tell the ground, the sky, and both right."""
    none = modules["head"].out_features - 1
    slots = torch.tensor([(caption.ground, none if caption.sky is None else caption.sky) for caption in captions])
    device = next(modules["head"].parameters()).device
    states = [modules["text_model"](part.to(device)).last_hidden_state[:, -2:] for part in ids.split(64)]
    right = modules["head"](torch.cat(states)).argmax(-1).cpu() == slots
    return [float(share) for share in (*right.float().mean(0), right.all(1).float().mean())]


def unet_loss(
    unet: torch.nn.Module, scheduler: DDIMScheduler, clean: torch.Tensor, states: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of v on latents (B, 8, 16, 16) with the states (B, MAX_LENGTH, width) of their captions.

    Times near pure noise come more often: with the few steps that the painter draws in, what is shown and where is
    settled in the first two or three, and the decoder forgives what the last ones leave.
    """
    noise = torch.randn_like(clean)
    last = scheduler.config.num_train_timesteps - 1
    times = (last * (1 - torch.rand(len(clean), device=clean.device) ** HIGH_NOISE)).round().long()
    predicted = unet(scheduler.add_noise(clean, noise, times), times, states).sample
    return functional.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, times))


def train_vae(args: Any, accelerator: Accelerator, pictures: torch.Tensor) -> AutoencoderKL:
    """The autoencoder with averaged weights; its scaling factor gives the pictures' latents a deviation of 1."""
    torch.manual_seed(args.seed)
    vae = AutoencoderKL.from_pretrained(args.start, subfolder="vae", dtype=torch.float32) if args.start else build_vae()
    if args.start and not (args.vae_steps or args.vae_minutes):
        return vae.to(accelerator.device).eval()
    stage = Stage("vae", {"vae": vae}, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"vae: resumed at step {stage.step}")
    weights = hue_weights(pictures)
    stage.run(lambda step: vae_loss(stage.modules["vae"], pictures, weights, args.vae_batch))
    stage.ema.copy_to(stage.parameters)
    vae = accelerator.unwrap_model(stage.modules["vae"]).eval()
    vae.register_to_config(scaling_factor=float(1 / encode(vae, pictures).std()))
    return vae


def train_text(args: Any, accelerator: Accelerator, tokenizer: CLIPTokenizer, writer: Captions) -> CLIPTextModel:
    """The text model, taught to tell which concepts a caption shows, and where: by cross-entropy of a linear head, or by the
    text model that it starts with, which has the words of the concept table to learn those for kinds of sound from.

    With only the picture to learn from, it takes long to tell concepts apart.
    """
    torch.manual_seed(args.seed)
    text_model = (
        CLIPTextModel.from_pretrained(args.start, subfolder="text_encoder", dtype=torch.float32)
        if args.start
        else build_text_model(tokenizer)
    )
    if args.start and not (args.text_steps or args.text_minutes):
        return text_model.eval()
    modules: dict[str, torch.nn.Module] = {"text_model": text_model}
    if args.start:
        teacher = copy.deepcopy(text_model).eval().requires_grad_(False).to(accelerator.device)
    else:
        modules["head"] = torch.nn.Linear(text_model.config.hidden_size, len(writer.concepts) + 1)
    stage = Stage("text", modules, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"text: resumed at step {stage.step}")

    def loss(step: int) -> torch.Tensor:
        rng = random.Random(f"{args.seed} {step}")
        captions = [writer.draw(rng) for _ in range(args.text_batch)]
        ids = tokenize(tokenizer, [caption.text for caption in captions])
        if not args.start:
            return text_loss(stage.modules, captions, ids)
        familiar = tokenize(tokenizer, [writer.familiar(caption) for caption in captions])
        empty = tokenize(tokenizer, [""])  # guidance draws away from it
        ids, familiar = torch.cat([ids, empty]), torch.cat([familiar, empty])
        return taught_loss(stage.modules["text_model"], teacher, ids, familiar)

    stage.run(loss)
    if args.start:
        stage.ema.copy_to(stage.parameters)
        with torch.no_grad():  # on a line between both (Wortsman et al. 2022)
            for weight, former in zip(stage.parameters, teacher.parameters(), strict=True):
                weight.lerp_(former.to(weight), 1 - args.text_share)
        return accelerator.unwrap_model(stage.modules["text_model"]).eval()
    rng = random.Random(f"{args.seed} held out")
    held_out = [writer.draw(rng) for _ in range(2048)]
    for name in ("one", "two"):
        part = [caption for caption in held_out if (caption.sky is None) == (name == "one")]
        ids = tokenize(tokenizer, [caption.text for caption in part])
        ground, sky, both = slot_accuracy(stage.modules, part, ids)
        accelerator.print(f"text: captions of {name}: ground {ground:.1%}, sky {sky:.1%}, both right {both:.1%}")
    return accelerator.unwrap_model(stage.modules["text_model"]).eval()


def train_unet(
    args: Any, accelerator: Accelerator, vae: AutoencoderKL, tokenizer: CLIPTokenizer, text_model: CLIPTextModel,
    writer: Captions, pictures: torch.Tensor,
) -> None:  # fmt: skip
    """The UNet; `args.out/painter` is written at every checkpoint.

    The text model stays as it is: it tells concepts apart by now, and to train it as well takes a fifth longer.

    Args:
        pictures: of the writer's concepts, (N, 3, SIZE, SIZE).
    """
    torch.manual_seed(args.seed)
    unet = (
        UNet2DConditionModel.from_pretrained(args.start, subfolder="unet", dtype=torch.float32)
        if args.start
        else build_unet(text_model.config.hidden_size)
    )
    if args.start and not (args.unet_steps or args.unet_minutes):
        return export_pipeline(Path(args.out) / "painter", vae, text_model, tokenizer, unet)
    stage = Stage("unet", {"unet": unet}, accelerator, args)
    if args.resume and stage.resume():
        accelerator.print(f"unet: resumed at step {stage.step}")
    rng = random.Random(args.seed)
    kinds = [writer.two_kinds(rng) for _ in range(args.scenes // 2)] if writer.kinds else []
    of_kinds = [writer.numbers(*names) for names in [*kinds, *((kind,) for kind in writer.kinds)]]
    pool = [writer.any_pair(rng) for _ in range(args.scenes - len(kinds))]
    pairs = [(ground, sky) for ground, sky in [*of_kinds, *pool] if sky is not None]
    row = {pair: len(pictures) + i for i, pair in enumerate(dict.fromkeys(pairs))}
    latents, scheduler = latents_of(vae, pictures, list(row)), build_scheduler()

    def loss(step: int) -> torch.Tensor:
        rng = random.Random(f"{args.seed} {step}")
        captions = [writer.draw(rng, pool, kinds) for _ in range(args.batch)]
        rows = [c.ground if c.sky is None else row[c.ground, c.sky] for c in captions]
        texts = ["" if rng.random() < CAPTION_DROPOUT else caption.text for caption in captions]
        clean = latents[torch.tensor(rows)].float().to(vae.device)
        with torch.no_grad():
            states = text_model(tokenize(tokenizer, texts).to(vae.device)).last_hidden_state
        return unet_loss(stage.modules["unet"], scheduler, clean, states)

    def export(stage: Stage) -> None:
        unet = accelerator.unwrap_model(stage.modules["unet"])
        export_pipeline(Path(args.out) / "painter", vae, text_model, tokenizer, unet)

    stage.run(loss, export)


def latents_of(vae: AutoencoderKL, pictures: torch.Tensor, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """Scaled latents, float16, of the pictures and then of the scenes of two: too dear to be made anew in every step."""
    parts = [encode(vae, pictures).half()]
    for start in tqdm(range(0, len(pairs), 32), desc="scenes"):
        ground, sky = torch.tensor(pairs[start : start + 32]).T
        parts.append(encode(vae, compose(pictures[ground], pictures[sky])).half())
    return (torch.cat(parts) * vae.config.scaling_factor).cpu()


def write_record(args: argparse.Namespace, files: Sequence[str]) -> None:
    """`args.out/painter_record.json`: what made the painter, and how long it took."""
    digest = hashlib.sha256((args.data / "names.tsv").read_bytes())
    for file in files:
        digest.update((args.data / "png" / file).read_bytes())
    states = {
        name: torch.load(args.out / f"{name}.pt", mmap=True, weights_only=True)
        for name in ("vae", "text", "unet")
        if (args.out / f"{name}.pt").exists()
    }
    record = {
        "arguments": {name: value for name, value in vars(args).items() if not isinstance(value, Path)},
        "stages": {
            name: {"steps": state["step"], "seconds": round(state["seconds"])} for name, state in states.items()
        },
        "pictures": {"number": len(files), "sha256 of names.tsv and them": digest.hexdigest()},
        "concepts": {"sha256": hashlib.sha256(args.concepts.read_bytes()).hexdigest()},
        "versions": {
            name: version(name) for name in ("torch", "diffusers", "transformers", "tokenizers", "accelerate")
        },
    }
    (args.out / "painter_record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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
    parser.add_argument("--text-batch", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=3000, help="pictures of two that the UNet sees")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the weights' moving average")
    parser.add_argument("--text-share", type=float, default=1.0, help="of the learnt text weights; else --start's")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint-minutes", type=float, default=3)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--start", type=Path, help="painter folder whose weights and tokenizer the stages begin with")
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
    pictures = torch.empty(0)
    if not args.start or any((args.vae_steps, args.vae_minutes, args.unet_steps, args.unet_minutes)):
        pictures = torch.stack([load_picture(args.data / "png" / file, SIZE) for file in files])
    missing = [concept.file for concept in concepts if concept.file not in names]
    if missing:
        raise ValueError(f"{args.concepts} names pictures that {args.data}/names.tsv lacks: {missing}")
    favoured = torch.tensor([files.index(concept.file) for concept in concepts])
    vae = train_vae(args, accelerator, pictures)
    folder = args.out / "tokenizer"
    if args.start:
        CLIPTokenizer.from_pretrained(args.start, subfolder="tokenizer").save_pretrained(folder)
    elif not (args.resume and folder.is_dir()):
        texts = tokenizer_texts(concepts, names.values(), args.seed)
        train_tokenizer(texts, vocab_size=4096, max_length=MAX_LENGTH).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    writer = Captions(concepts)
    text_model = train_text(args, accelerator, tokenizer, writer)
    train_unet(args, accelerator, vae, tokenizer, text_model, writer, pictures[favoured] if len(pictures) else pictures)
    write_record(args, files)


if __name__ == "__main__":
    main()
