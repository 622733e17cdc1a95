"""Log-mel spectrograms of real clips, in batches of 32: ours against ASTFeatureExtractor, which takes a clip at a time."""

import torch
from measure import alternate, arguments, clips, report
from transformers import ASTFeatureExtractor

from a2i import audio
from a2i.features import LogMel

BATCH = 32
FRAMES = 1024  # that the extractor gives


def main() -> None:
    given = arguments(__doc__, clips=64)
    waveforms = [audio.load(clip.path) for clip in clips(given.clips, given.work)]
    # The extractor keeps 10.24 s: neither side gets more to do than the other.
    waveforms = [waveform[: 400 + (FRAMES - 1) * 160] for waveform in waveforms]
    extractor, log_mel = ASTFeatureExtractor(), LogMel()

    def reference() -> torch.Tensor:
        values = [extractor(one, sampling_rate=16_000, return_tensors="pt").input_values for one in waveforms]
        return torch.cat(values)

    def ours() -> torch.Tensor:
        batches = []
        for first in range(0, len(waveforms), BATCH):
            some = [torch.from_numpy(one) for one in waveforms[first : first + BATCH]]
            padded = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
            batches.append(log_mel(padded, torch.tensor([len(one) for one in some]))[0])
        return torch.cat(batches)

    reference(), ours()
    theirs, mine, wanted, found = alternate(reference, ours, given.repeats)
    equal = {"difference": (wanted - found).abs().max().item(), "tolerance": 1e-4, "of": "every value, normalised"}
    report("log_mel", f"log-mel of {given.clips} clips of 10.24 s, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
