"""Log-mel spectrograms of real clips, in batches of 32: ours against ASTFeatureExtractor, which takes a clip at a time."""

from collections import deque
from collections.abc import Iterator

import torch
from measure import alternate, arguments, clips, report
from transformers import ASTFeatureExtractor

from a2i import audio
from a2i.features import LogMel, side_by_side

BATCH = 32
FRAMES = 1024  # that the extractor gives


def main() -> None:
    given = arguments(__doc__, repeats=9, clips=64)
    waveforms = [audio.load(clip.path, 16_000) for clip in clips(given.clips, given.work)]
    # The extractor keeps 10.24 s: neither side gets more to do than the other.
    waveforms = [waveform[: 400 + (FRAMES - 1) * 160] for waveform in waveforms]
    extractor, log_mel = ASTFeatureExtractor(), LogMel()

    def reference() -> Iterator[torch.Tensor]:
        for first in range(0, len(waveforms), BATCH):
            some = waveforms[first : first + BATCH]
            yield torch.cat([extractor(one, sampling_rate=16_000, return_tensors="pt").input_values for one in some])

    def ours() -> Iterator[torch.Tensor]:
        for first in range(0, len(waveforms), BATCH):
            some = [torch.from_numpy(one) for one in waveforms[first : first + BATCH]]
            yield log_mel(side_by_side(some), torch.tensor([len(one) for one in some]))[0]

    differences = [(wanted - found).abs().max().item() for wanted, found in zip(reference(), ours(), strict=True)]
    # A batch is dropped before the next is made, as in use.
    theirs, mine, _, _ = alternate(lambda: deque(reference(), 0), lambda: deque(ours(), 0), given.repeats)
    equal = {"difference": max(differences), "tolerance": 1e-4, "of": "every value, normalised"}
    report("log_mel", f"log-mel of {given.clips} clips of 10.24 s, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
