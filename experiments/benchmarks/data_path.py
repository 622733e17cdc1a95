"""The data path of the second and later epochs: prepared log-mels through our loader, against decode + resample + extract."""

from collections import deque
from collections.abc import Iterator

import torch
from measure import alternate, arguments, clips, report
from reference import extract
from transformers import ASTFeatureExtractor

from a2i.captioner.text import CaptionTokenizer
from a2i.data.cache import log_mels
from a2i.data.filling import fill
from a2i.features import FeatureSettings
from a2i.training.batches import ClipDataset, LengthBatchSampler, ResumableLoader, collate

FRAMES = 1024  # that the extractor gives; ours keeps the rest too


def main() -> None:
    given = arguments(__doc__, repeats=9, clips=64, batch=8)
    data = clips(given.clips, given.work)
    features = FeatureSettings()
    cache, padding = log_mels(given.work / "cache", features), features.padding
    fill([cache], data, None, print)
    tokenizer = CaptionTokenizer.train([text for clip in data for text in clip.captions], 300, 30)
    sampler = LengthBatchSampler([clip.seconds() for clip in data], given.batch, shuffle=True)
    loader = ResumableLoader(
        ClipDataset(data, "first", 0, features.sampling_rate, load=cache),
        sampler,
        collate_fn=collate(tokenizer, (), "log_mels", padding),
    )
    extractor = ASTFeatureExtractor()

    def reference() -> Iterator[torch.Tensor]:
        for first in range(0, len(data), given.batch):
            yield extract(extractor, [clip.path for clip in data[first : first + given.batch]])

    wanted = dict(zip([clip.name for clip in data], torch.cat(list(reference())), strict=True))
    differences = []
    for batch in loader:
        assert batch.log_mels is not None
        found = zip(batch.names, batch.log_mels[:, :FRAMES], strict=True)
        differences += [(wanted.pop(name) - values).abs().max().item() for name, values in found]
    assert not wanted, f"not loaded: {sorted(wanted)}"
    # A batch is dropped before the next is made, as in training.
    theirs, mine, _, _ = alternate(lambda: deque(reference(), 0), lambda: deque(loader, 0), given.repeats)
    equal = {"difference": max(differences), "tolerance": 1e-4, "of": "every value of the first 10.24 s"}
    report("data_path", f"{given.clips} clips of 15 s, batch {given.batch}, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
