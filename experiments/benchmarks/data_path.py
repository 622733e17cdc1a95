"""The data path of the second and later epochs: prepared log-mels through our loader, against decode + resample + extract."""

import torch
from measure import alternate, arguments, clips, report
from reference import extract
from transformers import ASTFeatureExtractor

from a2i.data.cache import log_mels
from a2i.data.filling import fill
from a2i.features import FeatureSettings
from a2i.text import CaptionTokenizer
from a2i.training.batches import ClipDataset, LengthBatchSampler, ResumableLoader, collate

FRAMES = 1024  # that the extractor gives; ours keeps the rest too


def main() -> None:
    given = arguments(__doc__, clips=64, batch=8)
    data = clips(given.clips, given.work)
    cache, padding = log_mels(given.work / "cache", FeatureSettings()), FeatureSettings().padding
    fill([cache], data, None, print)
    tokenizer = CaptionTokenizer.train([text for clip in data for text in clip.captions], 300, 30)
    sampler = LengthBatchSampler([clip.seconds() for clip in data], given.batch, shuffle=True)
    loader = ResumableLoader(
        ClipDataset(data, "first", 0, load=cache), sampler, collate_fn=collate(tokenizer, (), "log_mels", padding)
    )
    extractor = ASTFeatureExtractor()

    def reference() -> dict[str, torch.Tensor]:
        found = {}
        for first in range(0, len(data), given.batch):
            some = data[first : first + given.batch]
            values = extract(extractor, [clip.path for clip in some])
            found.update(zip([clip.name for clip in some], values, strict=True))
        return found

    def ours() -> dict[str, torch.Tensor]:
        found = {}
        for batch in loader:
            assert batch.log_mels is not None
            found.update(zip(batch.names, batch.log_mels[:, :FRAMES], strict=True))
        return found

    reference(), ours()
    theirs, mine, wanted, found = alternate(reference, ours, given.repeats)
    difference = max((wanted[name] - found[name]).abs().max().item() for name in wanted)
    equal = {"difference": difference, "tolerance": 1e-4, "of": "every value of the first 10.24 s"}
    report("data_path", f"{given.clips} clips of 15 s, batch {given.batch}, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
