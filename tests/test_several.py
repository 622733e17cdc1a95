from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from conftest import make_captioner, tone

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.training.augment import WaveformAugment
from a2i.training.datamodule import CaptionDataModule
from a2i.training.probing import fit_heads
from a2i.training.several import learn_several


class Tones:
    """Low tones, high ones, and both at once."""

    def __init__(self, folder: Path, pairs: bool = True) -> None:
        self.kinds = [("low",), ("high",), ("low", "high")][: 3 if pairs else 2]
        self.folder = folder

    def prepare(self) -> None:
        for name, _ in self._named():
            hertz = {"low": 200 + 20 * int(name[-1]), "high": 3000 + 100 * int(name[-1])}
            sound = sum(0.4 * tone(hertz[kind], 0.5) for kind in name[:-1].split("_"))
            soundfile.write(self.folder / f"{name}.wav", sound, 16_000)

    def clips(self, split: str) -> list[Clip]:
        return [
            Clip(name, self.folder / f"{name}.wav", ("A tone.",), labels=frozenset(kind))
            for name, kind in self._named()
        ]

    def _named(self) -> list[tuple[str, tuple[str, ...]]]:
        return [("_".join(kind) + str(number), kind) for kind in self.kinds for number in range(6)]


@pytest.mark.parametrize("pairs", [True, False])
def test_two_are_told_where_two_are_heard(tokenizer: CaptionTokenizer, tmp_path: Path, pairs: bool) -> None:
    source = Tones(tmp_path, pairs)
    source.prepare()
    datamodule = CaptionDataModule(source, tokenizer, 16_000, batch_size=6)
    datamodule.setup("fit")
    captioner = make_captioner(tokenizer, keywords=["high", "low"])
    before = {name: weight.clone() for name, weight in captioner.state_dict().items()}
    random = torch.get_rng_state()
    assert learn_several(captioner, datamodule, None, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, weight in captioner.state_dict().items() if not torch.equal(weight, before[name])}
    assert all(name.startswith("bridge.") and ".label_head." not in name for name in changed)
    assert bool(changed) is pairs
    told = []
    for batch in datamodule.val_dataloader():
        with torch.no_grad():
            log_mel, mask = captioner.log_mel(batch.waveforms, batch.lengths)
            shares, _ = captioner.bridge.estimate(*captioner.encoder(log_mel, mask))
        told += zip(((shares > 0).sum(dim=1) > 1).tolist(), ((batch.labels > 0).sum(dim=1) > 1).tolist(), strict=True)
    assert sum(one == two for one, two in told) >= 0.9 * len(told)


class Guesses(Tones):
    """Recordings whose kind nothing tells but the recording itself: two takes of each."""

    def clips(self, split: str) -> list[Clip]:
        return [
            Clip(
                name,
                self.folder / f"{name}.wav",
                ("A tone.",),
                labels=frozenset({"low" if "low" in name else "high"}),
                recording=f"take {int(name[-1]) // 2}",
            )
            for name, _ in self._named()
        ]


@pytest.mark.long
def test_labels_are_told_by_heads_that_did_not_hear_the_recording(
    tokenizer: CaptionTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Guesses(tmp_path, pairs=False)
    source.prepare()
    datamodule = CaptionDataModule(source, tokenizer, 16_000, batch_size=6, augment=WaveformAugment())
    datamodule.setup("fit")
    captioner = make_captioner(tokenizer, keywords=["high", "low"])
    recordings = {clip.name: clip.recording for clip in datamodule.clips["train"]}
    parts: list[set[str | None]] = []
    part = CaptionDataModule.part

    def noted(self: CaptionDataModule, clips: list[Clip], mix: float, changed: bool = True) -> CaptionDataModule:
        assert mix > 0
        if changed:
            parts.append({recordings[clip.name] for clip in clips})
        return part(self, clips, mix, changed)

    taught: list[int] = []

    def counted(head: Any, tags: None, halves: Any, *more: Any) -> None:
        taught.append(sum(len(shares) for _, shares, _ in halves))
        fit_heads(head, tags, halves, *more)

    monkeypatch.setattr(CaptionDataModule, "part", noted)
    monkeypatch.setattr("a2i.training.several.fit_heads", counted)
    before = {name: weight.clone() for name, weight in captioner.state_dict().items()}
    assert learn_several(captioner, datamodule, None, seed=0, epochs=2, unheard=True)
    assert set.union(*parts) == set(recordings.values())
    assert sum(map(len, parts)) == len(set(recordings.values()))  # the takes of a recording stay together
    # A head learns from the single sounds of the other parts, in two epochs of changed ones and two of others: none is mixed
    # here but with another kind.
    sizes = [sum(recording in part for recording in recordings.values()) for part in parts]
    assert len(taught) == len(parts)
    for size, count in zip(sizes, taught, strict=True):
        assert 0 < count <= 4 * (len(recordings) - size)
    changed = {name for name, weight in captioner.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("bridge.") and ".label_head." not in name for name in changed)
    assert datamodule.augment is not None
    assert datamodule.augment.mix == 0  # it trains on as before
