"""The README's picture: what flows from a sound to a drawing, in the embedded models, on a sound that a2i makes.

python experiments/flow/flow.py [--out experiments/flow/flow.png] [--seed 0]
"""

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import ConnectionPatch

from a2i import AudioToImage
from a2i.data.foley.sources import SOURCES

SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "flow.png")
    parser.add_argument("--source", default="bell", choices=sorted(SOURCES))
    parser.add_argument("--seed", type=int, default=0, help="of the sound")
    arguments = parser.parse_args()

    a2i = AudioToImage.load(device="cpu")
    rate = a2i.captioner.sampling_rate
    waveform = 0.8 * SOURCES[arguments.source](np.random.default_rng(arguments.seed), SECONDS, rate)
    result = a2i(waveform, sampling_rate=rate)
    log_mel, mask = a2i.captioner.log_mel(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    with torch.no_grad():
        states, _ = a2i.captioner.encoder(log_mel, mask)

    figure, axes = plt.subplots(1, 5, figsize=(15, 2.9), gridspec_kw={"wspace": 0.28, "left": 0.01, "right": 0.99})
    seconds = np.arange(len(waveform)) / rate
    axes[0].plot(seconds[::8], waveform[::8], linewidth=0.4, color="#24507a")
    axes[1].imshow(log_mel[0].T, origin="lower", aspect="auto", cmap="magma")
    low, high = np.percentile(states[0], (1, 99))
    axes[2].imshow(states[0].T, aspect="auto", cmap="viridis", vmin=low, vmax=high)
    axes[3].text(0.5, 0.5, "\n".join(_wrapped(result.caption)), ha="center", va="center", fontsize=13, wrap=True)
    axes[4].imshow(np.asarray(result.image))
    titles = (
        f"waveform\n{len(waveform):,} samples, {rate / 1000:g} kHz",
        f"log-mel\n{log_mel.shape[1]} frames × {log_mel.shape[2]} bins",
        f"encoder states\n{states.shape[1]} × {states.shape[2]}",
        f"caption\n{len(a2i.captioner.tokenizer.encode([result.caption]).inputs[0])} tokens",
        "picture\n" + " × ".join(map(str, result.image.size if result.image else ())) + " pixels",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
    for left, right in pairwise(axes):
        arrow = ConnectionPatch((1.03, 0.5), (-0.03, 0.5), "axes fraction", "axes fraction", axesA=left, axesB=right)
        arrow.set(arrowstyle="-|>", mutation_scale=18, color="#555555", linewidth=1.6)
        figure.add_artist(arrow)
    figure.savefig(arguments.out, dpi=80, bbox_inches="tight")
    print(f"{arguments.source}: {result.caption} → {arguments.out}")


def _wrapped(caption: str, width: int = 16) -> list[str]:
    import textwrap

    return textwrap.wrap(caption, width)


if __name__ == "__main__":
    main()
