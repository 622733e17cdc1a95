"""Train a small decoder on what a frozen small AST hears, with one setting changed, and count what its captions name.

    python experiments/open_ends/frozen.py AST FOLDER [--late] [--captions first|random] [--bridge KIND] [--long-audio WAY]

AST is what save_ast.py wrote. FOLDER holds foley's short clips (data=foley_small), or with --late the clips of late_events.py. The
encoder does not learn, so that each clip is encoded once and a run takes half a minute of one core. Prints a row of the record.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from a2i import audio
from a2i.captioner import Captioner
from a2i.data import Clip
from a2i.data.clotho import read_split
from a2i.data.folder import Folder
from a2i.data.foley.captions import sources_named
from a2i.decoders import Decoding
from a2i.decoders.gpt2 import GPT2Decoder
from a2i.encoders.ast import ASTEncoder
from a2i.features import FeatureSettings
from a2i.text import CaptionTokenizer

BATCH = 16
DECODER = {"n_embd": 96, "n_layer": 3, "n_head": 4, "n_positions": 80}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ast", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--captions", choices=("first", "random"), default="random")
    parser.add_argument("--bridge", default="identity")
    parser.add_argument("--long-audio", default="window")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    clips = {split: read(arguments.folder, split, arguments.late) for split in ("train", "val")}
    captions = [caption for clip in clips["train"] for caption in clip.captions]
    tokenizer = CaptionTokenizer.train(captions, 1000, 48)
    captioner = Captioner(
        ASTEncoder(pretrained=str(arguments.ast), long_audio=arguments.long_audio),
        GPT2Decoder(len(tokenizer), config=DECODER),
        tokenizer,
        bridge=arguments.bridge,
        features=FeatureSettings(num_mel_bins=64),
        decoding=Decoding(num_beams=1, max_tokens=24),
    )
    states = {split: encode(captioner, some) for split, some in clips.items()}
    learn(captioner, clips["train"], states["train"], arguments.captions == "first", arguments.steps, arguments.seed)
    said = write(captioner, states["val"])
    report(arguments, clips["val"], said)


def read(folder: Path, split: str, late: bool) -> list[Clip]:
    if late:
        return Folder(folder).clips(split)
    official = {"train": "development", "val": "validation"}[split]
    return read_split(folder / f"clotho_captions_{official}.csv", folder / official)


@torch.no_grad()
def encode(captioner: Captioner, clips: Sequence[Clip]) -> list[Tensor]:
    """The encoder's real states (S, D) of each clip."""
    captioner.eval()
    found = []
    for clip in clips:
        waveform = torch.from_numpy(audio.load(clip.path, clip.start, clip.end))
        states, mask = captioner.encoder(*captioner.log_mel(waveform[None], torch.tensor([len(waveform)])))
        found.append(states[0, mask[0]])
    return found


def bridged(captioner: Captioner, some: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(states) for states in some])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return captioner.bridge(pad_sequence(some, batch_first=True), mask)


def learn(
    captioner: Captioner, clips: list[Clip], states: list[Tensor], first: bool, steps: int, seed: int
) -> None:
    captioner.train()
    learning = [*captioner.bridge.parameters(), *captioner.decoder.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.15)
    chance = random.Random(seed)
    for _ in range(steps):
        chosen = chance.sample(range(len(clips)), BATCH)
        texts = [clips[index].captions[0] if first else chance.choice(clips[index].captions) for index in chosen]
        heard, mask = bridged(captioner, [states[index] for index in chosen])
        tokens = captioner.tokenizer.encode(texts)
        loss, _ = captioner.loss_from_states(heard, mask, tokens, torch.arange(BATCH), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def write(captioner: Captioner, states: list[Tensor]) -> list[str]:
    captioner.eval()
    said: list[str] = []
    ends = captioner.tokenizer.bos_id, captioner.tokenizer.eos_id
    for at in range(0, len(states), 20):
        ids = captioner.decoder.generate(*bridged(captioner, states[at : at + 20]), *ends, captioner.decoding)
        said += [captioner.tokenizer.decode(row) for row in ids.tolist()]
    return said


def report(arguments: argparse.Namespace, clips: list[Clip], said: list[str]) -> None:
    heard = [Path(clip.path).stem.split("_", 1)[1].split("_then_") for clip in clips]
    named = [sources_named(caption) for caption in said]
    pairs = list(zip(heard, named, strict=True))
    counts = (
        sum(sources[0] in some for sources, some in pairs),
        sum(sources[-1] in some for sources, some in pairs),
        sum(set(sources) == some for sources, some in pairs),
    )
    settings = f"{arguments.captions}, {arguments.bridge}, {arguments.long_audio}, seed {arguments.seed}"
    print(f"| {settings} | {' | '.join(map(str, counts))} | of {len(clips)} | {len(set(said))} |")
    print("\n".join(f"{'_'.join(sources)}: {caption}" for sources, caption in zip(heard[:6], said[:6], strict=True)))


if __name__ == "__main__":
    main()
