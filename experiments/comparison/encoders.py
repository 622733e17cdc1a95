"""What encoders cost at the sizes of their papers: weights, operations and time of a clip of 10 s, and of its log-mel.

    python experiments/comparison/encoders.py [--seconds 10] [--encoders mobilenet_mn04 panns_cnn14 …]

Weights are random, and nothing is downloaded: no cost changes with what an encoder has learnt. Operations are as in `cost.py`,
two for a multiplication with its addition. Seconds are of the processor, on one thread, in float32: the least of several
passes, because what else runs on a machine only adds to them.
"""

import argparse
import time
from collections.abc import Callable

import torch
from cost import counted
from torch import Tensor

from a2i.captioner import encoders
from a2i.captioner.protocols import Encoder
from a2i.features import FeatureKind, FeatureSettings, LogMel

# Each with its settings, and the features that it learnt from.
KNOWN: dict[str, tuple[str, dict[str, object], FeatureKind, int]] = {
    "mobilenet_mn04": ("mobilenet", {"width_multiplier": 0.4}, "mobilenet", 128),
    "mobilenet_mn10": ("mobilenet", {"width_multiplier": 1.0}, "mobilenet", 128),
    "mobilenet_mn40": ("mobilenet", {"width_multiplier": 4.0}, "mobilenet", 128),
    "panns_cnn10": ("panns", {"blocks": 4, "features": "panns_32k"}, "panns_32k", 64),
    "panns_cnn14": ("panns", {"blocks": 6, "features": "panns_32k"}, "panns_32k", 64),
    "sound_effects": ("sound_effects", {}, "sound_effects", 96),
    "ast": ("ast", {"config": {}}, "ast", 128),
}
PASSES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clip")
    parser.add_argument("--encoders", nargs="+", choices=KNOWN, default=list(KNOWN))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| encoder | weights, M | GFLOPs | states | seconds | seconds of the log-mel |\n|---|---|---|---|---|---|")
    for name in arguments.encoders:
        print(row(name, arguments.seconds), flush=True)


@torch.no_grad()
def row(name: str, seconds: float) -> str:
    """Of the table: an encoder with random weights hears a clip of noise."""
    kind, settings, features, bins = KNOWN[name]
    encoder: Encoder = encoders.build(kind, settings)
    encoder.eval()
    log_mel = LogMel(FeatureSettings(bins, kind=features))
    samples = round(seconds * log_mel.settings.sampling_rate)
    waveforms, lengths = 0.1 * torch.randn(1, samples), torch.tensor([samples])
    heard = log_mel(waveforms, lengths)
    millions = sum(weight.numel() for weight in encoder.parameters()) / 1e6
    operations = counted(lambda: encoder(*heard)) / 1e9
    states = int(encoder(*heard)[1].sum())
    taken, before = least(lambda: encoder(*heard)), least(lambda: log_mel(waveforms, lengths))
    return f"| {name} | {millions:.2f} | {operations:.2f} | {states} | {taken:.3f} | {before:.3f} |"


def least(work: Callable[[], tuple[Tensor, Tensor]]) -> float:
    """Seconds of the processor that one of several passes takes."""
    seconds = []
    for _ in range(PASSES):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
