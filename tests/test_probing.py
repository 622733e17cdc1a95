from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_captioner
from test_several import Tones

from a2i.captioner.text import CaptionTokenizer
from a2i.data import Clip
from a2i.training.augment import WaveformAugment
from a2i.training.datamodule import CaptionDataModule
from a2i.training.module import CaptionModule
from a2i.training.probing import fit_heads, learn_heads


class TaggedTones(Tones):
    """Low and high tones with tags that say the same, but of the first clip, which has none."""

    def clips(self, split: str) -> list[Clip]:
        from dataclasses import replace

        tags = {"low": [0.9, 0.1, 0.5], "high": [0.1, 0.9, 0.5]}
        clips = super().clips(split)
        return [clips[0], *(replace(clip, tags=np.array(tags[min(clip.labels)], np.float32)) for clip in clips[1:])]


def made(tokenizer: CaptionTokenizer, folder: Path, tags: int) -> tuple[CaptionModule, CaptionDataModule]:
    source = (TaggedTones if tags else Tones)(folder, pairs=False)
    source.prepare()
    captioner = make_captioner(tokenizer, keywords=["high", "low"])
    datamodule = CaptionDataModule(source, tokenizer, captioner.sampling_rate, batch_size=6)
    datamodule.setup("fit")
    module = CaptionModule(captioner, torch.optim.SGD, labels=2, label_loss=1.0, tags=tags, tag_loss=0.1 * bool(tags))
    return module, datamodule


@pytest.mark.parametrize("tags", [0, 3])
def test_the_heads_learn_from_the_encoder_as_it_is(tokenizer: CaptionTokenizer, tmp_path: Path, tags: int) -> None:
    module, datamodule = made(tokenizer, tmp_path, tags)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    random = torch.get_rng_state()
    learn_heads(module, datamodule, epochs=2, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, weight in module.state_dict().items() if not torch.equal(weight, before[name])}
    heads = ["captioner.bridge.label_head.linear", *(["tags"] if tags else [])]
    assert changed == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    module.eval()
    for batch in datamodule.val_dataloader():
        with torch.no_grad():
            log_mel, mask = module.captioner.log_mel(batch.waveforms, batch.lengths)
            states = module.captioner.encoder(log_mel, mask)
            told = module.captioner.bridge.label_head(*states).argmax(dim=1)
        assert torch.equal(told, batch.labels.argmax(dim=1))
    if tags:
        from a2i.captioner.label_head import pooled

        probabilities = module.tags(pooled(*states)).sigmoid()
        known = ~batch.tags.isnan().any(dim=1)
        assert torch.equal(probabilities[known][:, :2].argmax(1), batch.tags[known][:, :2].argmax(1))


def test_without_labels_nothing_is_learnt(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    _, datamodule = made(tokenizer, tmp_path, 0)
    module = CaptionModule(make_captioner(tokenizer), torch.optim.SGD)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    learn_heads(module, datamodule, epochs=1, seed=0)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


class Ruined(WaveformAugment):
    """Leaves nothing of a clip."""

    def alone(self, waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(len(waveform)).astype(np.float32) * np.float32(0.1)


def test_they_learn_from_the_clips_as_they_are_too(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    module, datamodule = made(tokenizer, tmp_path, 0)
    datamodule.augment = Ruined()
    learn_heads(module, datamodule, epochs=3, seed=0)
    module.eval()
    for batch in datamodule.val_dataloader():
        with torch.no_grad():
            states = module.captioner.encoder(*module.captioner.log_mel(batch.waveforms, batch.lengths))
            told = module.captioner.bridge.label_head(*states).argmax(dim=1)
        assert torch.equal(told, batch.labels.argmax(dim=1))


def test_what_is_read_in_parts_is_learnt_apart() -> None:
    """The head tells the mean of what heads of each part tell, which learnt alone, with their own weight decay."""
    torch.manual_seed(0)
    inputs = torch.randn(40, 5)
    labels = (inputs[:, 0] > 0).long()
    half = (inputs, torch.nn.functional.one_hot(labels, 2).float(), torch.zeros(40, 3).uniform_())

    both, first_alone, second_alone = ([torch.nn.Linear(size, out) for out in (2, 3)] for size in (5, 3, 2))
    torch.manual_seed(1)
    fit_heads(*both, [half], steps=400, sizes=[3, 2], decays=[1.0, 0.1])
    torch.manual_seed(1)  # the parts draw one after another
    fit_heads(*first_alone, [(inputs[:, :3], *half[1:])], steps=400, decays=[1.0])
    fit_heads(*second_alone, [(inputs[:, 3:], *half[1:])], steps=400, decays=[0.1])
    for head, first, second in zip(both, first_alone, second_alone, strict=True):
        expected = (first(inputs[:, :3]) + second(inputs[:, 3:])) / 2
        assert torch.allclose(head(inputs), expected, atol=1e-5)
    assert first_alone[0].weight[1].argmax() == 0  # and it did learn
