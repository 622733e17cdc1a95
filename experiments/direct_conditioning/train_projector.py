"""Teaches the projector: what is heard lands where the painter's text model puts the words for it.

    python experiments/direct_conditioning/train_projector.py --heard HEARD --out RUN [--resume]

Learns from the clips that `hear_clips.py` did not hold out, but for a tenth of their recordings: these tell, at the end, how
often the nearest text states are those of the right kind. Ctrl-C writes a checkpoint; `--resume` goes on from it, and a run
that was stopped ends as one that was not.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from hear_clips import Heard, read_heard
from projector import Projector, save_projector, text_states
from rich.progress import Progress
from torch import Tensor

from a2i.data.folder import position
from a2i.data.kinds import KINDS
from a2i.diffusion import Painter
from a2i.whole import write_whole

CHECKPOINT = "checkpoint.pt"
CHOOSING = 0.1  # of the recordings to learn from: for the choice of settings
NAMES = tuple(KINDS)


def kind_states(painter: Painter) -> Tensor:
    """(K, L, W): the mean text states of each kind's sentences."""
    return torch.stack([text_states(painter, KINDS[name].sentences)[0].mean(dim=0) for name in NAMES])


def parts(clips: Sequence[Heard]) -> tuple[Tensor, Tensor]:
    """Whether each clip is to learn from, and whether it is to choose by: (N,) bool both. No recording is in two parts."""
    shares = [0.0 if clip.set else position(f"choose {clip.recording}") for clip in clips]
    chooses = torch.tensor([not clip.set and share < CHOOSING for clip, share in zip(clips, shares, strict=True)])
    return torch.tensor([not clip.set for clip in clips]) & ~chooses, chooses


class Training:
    """Gradient descent whose every step depends on seed and number alone, so that it can stop and go on."""

    def __init__(self, projector: Projector, args: argparse.Namespace) -> None:
        self.projector, self.args, self.step = projector, args, 0
        self.optimizer = torch.optim.AdamW(projector.parameters(), lr=args.learning_rate, weight_decay=args.decay)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, args.steps)

    def run(self, read: Tensor, kinds: Tensor, until: int | None = None) -> None:
        """Go on to the end, or until a step: from what was read (N, 2 D) and the numbers of the kinds (N,)."""
        self.projector.train()
        with Progress() as progress:
            bar = progress.add_task("training", total=self.args.steps, completed=self.step)
            while self.step < (until or self.args.steps):
                torch.manual_seed(self.args.seed * 1_000_003 + self.step)
                some = torch.randint(len(read), (self.args.batch,))
                loss = self.projector.loss(read[some], kinds[some], self.args.contrast)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.schedule.step()
                self.step += 1
                progress.update(bar, advance=1, description=f"training, loss {loss.item():.3f}")
        self.projector.eval()

    def save(self, folder: Path) -> None:
        state = {
            "projector": self.projector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(folder / CHECKPOINT, content.getvalue())

    def resume(self, folder: Path) -> None:
        """Raises FileNotFoundError where there is no checkpoint, and ValueError where it is of other settings."""
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        try:
            self.projector.load_state_dict(state["projector"])
        except RuntimeError as error:
            raise ValueError(f"{folder / CHECKPOINT} is of other settings; expected the same as then") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heard", type=Path, required=True, help="folder that hear_clips.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the projector")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=0, help="units of a hidden layer; 0 for none")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument(
        "--contrast", type=float, default=0.0, help="weight of the right kind's likelihood beside the others"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=1.0, help="weight decay")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    clips, read = read_heard(args.heard)
    kinds = torch.tensor([NAMES.index(clip.kind) for clip in clips])
    learns, chooses = parts(clips)
    targets = kind_states(Painter("embedded", device="cpu"))
    torch.manual_seed(args.seed)
    settings = {"hidden": args.hidden, "dropout": args.dropout}
    projector = Projector(read.shape[1], *targets.shape, **settings)
    projector.fit_to(read[learns], targets)
    training = Training(projector, args)
    if args.resume:
        training.resume(args.out)
    try:
        training.run(read[learns], kinds[learns])
    finally:
        training.save(args.out)
    save_projector(args.out, projector, vars(args))
    for name, part in (("learnt from", learns), ("to choose by", chooses)):
        right = (projector.nearest(read[part]) == kinds[part]).float().mean()
        with torch.no_grad():
            distance = projector.loss(read[part], kinds[part], 0.0)
        print(f"{int(part.sum())} clips {name}: the nearest kind is right for {right:.1%}; distance {distance:.3f}")


if __name__ == "__main__":
    main()
