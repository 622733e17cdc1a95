import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SENTENCES, make_captioner, scattered

from a2i.captioner.text import CaptionTokenizer
from a2i.training.batches import Batch
from a2i.training.module import CaptionModule

ADAM = functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)


def module(tokenizer: CaptionTokenizer, **settings: object) -> CaptionModule:
    return CaptionModule(make_captioner(tokenizer), ADAM, **settings)  # type: ignore[arg-type]


def batch(tokenizer: CaptionTokenizer) -> Batch:
    waveforms = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 8_000)).astype(np.float32))
    return Batch(
        names=["a", "b"],
        waveforms=waveforms,
        lengths=torch.tensor([8_000, 5_000]),
        tokens=tokenizer.encode(SENTENCES[:3]),
        clip_index=torch.tensor([0, 0, 1]),
        references=[tuple(SENTENCES[:2]), (SENTENCES[2],)],
    )


def test_every_weight_is_in_one_group_with_its_rate(tokenizer: CaptionTokenizer) -> None:
    learner = module(tokenizer, new_layers_rate=5e-3, encoder_rate=2e-4)
    optimizer = learner.make_optimizer(learner.parameter_groups())
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert set(groups) == {f"{part}{end}" for part in ("encoder", "decoder", "new") for end in ("", "_undecayed")}
    rates = {"encoder": 2e-4, "decoder": 1e-3, "new": 5e-3}
    for name, group in groups.items():
        part, _, undecayed = name.partition("_")
        assert group["lr"] == rates[part]
        assert group["weight_decay"] == (0.0 if undecayed else 0.1)
        assert all((weight.ndim == 1) is bool(undecayed) for weight in group["params"])
    placed = [id(weight) for group in groups.values() for weight in group["params"]]
    assert sorted(placed) == sorted(id(weight) for weight in learner.captioner.parameters())
    names = {id(weight): name for name, weight in learner.captioner.named_parameters()}
    new = {names[id(weight)] for name in ("new", "new_undecayed") for weight in groups[name]["params"]}
    assert all("cross" in name or name.startswith("bridge.") for name in new)


def test_labels_are_learnt_beside_the_captions_and_are_no_part_of_the_captioner(tokenizer: CaptionTokenizer) -> None:
    learner = module(tokenizer, labels=3, label_loss=0.5)
    groups = {group["name"]: group for group in learner.parameter_groups()}
    (head,) = groups["labels"]["params"]
    assert tuple(head.shape) == (4, 2 * learner.captioner.encoder.width)
    logged: dict[str, float] = {}
    learner.log = lambda name, value, **_: logged.update({name: value.item()})  # type: ignore[assignment, method-assign]
    learner.optimizers = lambda: SimpleNamespace(param_groups=[])  # type: ignore[assignment, method-assign]
    learner.eval()
    data = batch(tokenizer)
    data.labels = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0, 1.0]])
    with torch.no_grad():
        alone, _ = learner.captioner.loss(
            *learner.captioner.log_mel(data.waveforms, data.lengths), data.tokens, data.clip_index
        )
    loss = learner.training_step(data, 0)
    assert loss.item() == pytest.approx(alone.item() + 0.5 * logged["train/label_loss"], rel=1e-5)
    loss.backward()
    assert head.grad is not None
    assert not any("labels" in name for name in learner.captioner.state_dict())
    with pytest.raises(ValueError, match="data without labels"):
        module(tokenizer, label_loss=0.5)
    for wrong in ({"labels_first": 1.5}, {"freeze_encoder": True}, {"label_loss": 0.0}):
        with pytest.raises(ValueError, match="labels_first="):
            module(tokenizer, **{"labels": 3, "label_loss": 1.0, "labels_first": 0.5, **wrong})


def test_keywords_learn_to_be_told_and_the_decoder_learns_from_true_ones(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "dog", "rain"])
    learner = CaptionModule(captioner, ADAM, labels=3, label_loss=0.5, new_layers_rate=5e-3)
    groups = {group["name"]: group for group in learner.parameter_groups()}
    assert groups["labels"]["params"] == [captioner.bridge.label_head.linear.weight]
    assert any(weight is captioner.bridge.embedding.weight for weight in groups["new"]["params"])
    learner.log = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    learner.optimizers = lambda: SimpleNamespace(param_groups=[])  # type: ignore[assignment, method-assign]
    data = batch(tokenizer)
    data.labels = torch.tensor([[0.0, 0, 1, 0], [0, 0, 1, 0]])
    learner.training_step(data, 0).backward()
    grad = captioner.bridge.embedding.weight.grad
    assert grad is not None
    assert (grad != 0).any(dim=0).tolist() == [False, False, True, False]
    assert captioner.bridge.label_head.linear.weight.grad is not None
    frozen = {"labels": 3, "label_loss": 0.5, "freeze_encoder": True}
    for wrong in ({"labels": 3}, {"labels": 2, "label_loss": 0.5}, frozen):
        with pytest.raises(ValueError, match="keywords are learnt from as many labels"):
            CaptionModule(captioner, ADAM, **wrong)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_labels_first_teaches_the_encoder_and_then_the_rest(tokenizer: CaptionTokenizer) -> None:
    from lightning.pytorch import Callback, LightningDataModule, Trainer

    data = batch(tokenizer)
    data.labels = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])

    class Ten(LightningDataModule):
        def train_batches(self) -> int:
            return 10

        def train_dataloader(self) -> torch.utils.data.DataLoader:
            return torch.utils.data.DataLoader([data] * 10, batch_size=None)

    def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        """Parts that learnt something; what counts and averages, and key biases, which change nothing, aside."""
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        return {name.split(".")[1] if name.startswith("captioner.") else "labels" for name in moved}

    class Watch(Callback):
        def __init__(self) -> None:
            self.parts: list[set[str]] = []
            self.rates: list[dict[str, float]] = []

        def on_train_batch_start(self, trainer: Trainer, learner: CaptionModule, *_: object) -> None:  # type: ignore[override]
            self.before = {name: value.clone() for name, value in learner.state_dict().items()}
            self.rates.append({group["name"]: group["lr"] for group in learner.optimizers().param_groups})  # type: ignore[union-attr]

        def on_train_batch_end(self, trainer: Trainer, learner: CaptionModule, *_: object) -> None:  # type: ignore[override]
            self.parts.append(changed(self.before, learner.state_dict()))

    settings = {"labels": 3, "label_loss": 1.0, "labels_first": 0.5, "schedule": "linear", "encoder_rate": 1e-2}
    learner, watch = module(tokenizer, **settings).train(), Watch()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(**quiet, accelerator="cpu", max_epochs=1, callbacks=[watch]).fit(learner, datamodule=Ten())  # type: ignore[arg-type]
    assert watch.parts == [{"encoder", "labels"}] * 5 + [{"bridge", "decoder"}] * 5
    assert [rates["encoder"] for rates in watch.rates] == pytest.approx([1e-2, 8e-3, 6e-3, 4e-3, 2e-3, 0, 0, 0, 0, 0])
    assert [rates["decoder"] for rates in watch.rates] == pytest.approx([0] * 5 + [1e-3, 8e-4, 6e-4, 4e-4, 2e-4])


def test_a_frozen_encoder_learns_nothing_and_keeps_its_statistics(tokenizer: CaptionTokenizer) -> None:
    learner = module(tokenizer, freeze_encoder=True)
    assert not any(group["name"].startswith("encoder") for group in learner.parameter_groups())
    before = {name: value.clone() for name, value in learner.captioner.encoder.state_dict().items()}
    learner.train()
    assert learner.captioner.decoder.training
    assert not learner.captioner.encoder.training
    data = batch(tokenizer)
    log_mel, mask = learner.captioner.log_mel(data.waveforms, data.lengths)
    learner.captioner.loss(log_mel, mask, data.tokens, data.clip_index)[0].backward()
    for name, value in learner.captioner.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in learner.captioner.encoder.parameters())
    assert learner.captioner.bridge.projection.weight.grad is not None


def test_schedules_that_make_no_sense(tokenizer: CaptionTokenizer) -> None:
    with pytest.raises(ValueError, match="set schedule=constant_with_warmup"):
        module(tokenizer, warmup=0.1)
    with pytest.raises(ValueError, match="expected one of linear, cosine"):
        module(tokenizer, schedule="cosin")


def test_validation_scores_each_clip_once(tokenizer: CaptionTokenizer) -> None:
    """Loss weighted by tokens equals that of one big batch; a clip that two ranks had counts once."""
    learner = module(tokenizer, decoding={"num_beams": 1, "num_candidates": 1}).eval()
    logged: dict[str, float] = {}
    learner.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign, assignment]
    whole = batch(tokenizer)
    log_mel, mask = learner.captioner.log_mel(whole.waveforms, whole.lengths)
    expected, _ = learner.captioner.loss(log_mel, mask, whole.tokens, whole.clip_index)
    with torch.no_grad():
        for clips, captions in (([0], [0, 1]), ([1], [2]), ([1], [2])):
            learner.validation_step(
                Batch(
                    names=[whole.names[clip] for clip in clips],
                    waveforms=whole.waveforms[clips],
                    lengths=whole.lengths[clips],
                    tokens=tokenizer.encode([SENTENCES[caption] for caption in captions]),
                    clip_index=torch.zeros(len(captions), dtype=torch.long),
                    references=[whole.references[clip] for clip in clips],
                ),
                0,
            )
        learner.on_validation_epoch_end()
    assert [row["file_name"] for row in learner.validation_rows] == ["a", "b"]
    assert logged["val/loss"] == pytest.approx(float(expected.detach()), abs=1e-4)
    captions = [row["caption_predicted"] for row in learner.validation_rows]
    assert logged["val/distinct_captions"] == len(set(captions)) / 2


def test_broken_first_words_are_counted_at_validation(tokenizer: CaptionTokenizer) -> None:
    learner = module(tokenizer)
    rows = [("a", "irds sing."), ("b", "Birds are singing"), ("c", ""), ("d", "a forest")]
    learner.validation.update([caption for _, caption in rows], [SENTENCES] * 4, [name for name, _ in rows])
    assert learner.validation.compute()["first_word_valid"] == 2 / 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("keywords", [[], ["bell", "dog", "rain"]])
def test_validation_says_under_mixed_precision_what_the_captioner_says(
    tokenizer: CaptionTokenizer, precision: str, keywords: list[str]
) -> None:
    """Score and caption to the last bit: the checkpoint is chosen by the captions that evaluation will find."""
    captioner = make_captioner(tokenizer, keywords=keywords)
    scattered(captioner)
    labels = {"labels": 3, "label_loss": 0.5} if keywords else {}
    learner = CaptionModule(captioner, ADAM, decoding={"precision": precision, "max_tokens": 8}, **labels).eval()  # type: ignore[arg-type]
    data = batch(tokenizer)
    assert data.waveforms is not None
    sounds = [row[:length].numpy() for row, length in zip(data.waveforms, data.lengths.tolist(), strict=True)]
    before = torch.get_float32_matmul_precision()
    expected = captioner.caption(sounds, precision=precision)
    other = captioner.caption(sounds, precision="bfloat16" if precision == "float32" else "float32")
    assert [one[0].confidence for one in other] != [one[0].confidence for one in expected], "the test could not tell"
    log_mel, mask = captioner.log_mel(data.waveforms, data.lengths)
    with torch.no_grad():
        loss, _ = captioner.loss(log_mel, mask, data.tokens, data.clip_index)
        for surrounding in (torch.bfloat16, None):
            learner.validation.reset()
            with torch.autocast("cpu", surrounding, enabled=surrounding is not None):
                learner.validation_step(data, 0)
            rows = learner.validation.rows()
            assert [row["caption_predicted"] for row in rows] == [one[0].caption for one in expected]
            assert [row["confidence"] for row in rows] == [one[0].confidence for one in expected]
            if precision == "float32":
                assert rows[0]["loss"] == pytest.approx(float(loss), rel=1e-6)
    assert torch.get_float32_matmul_precision() == before


def test_captions_of_states_in_half_precision(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer)
    data = batch(tokenizer)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        states, mask = captioner.encoder(*captioner.log_mel(data.waveforms, data.lengths))
        half = captioner.caption_states(states.bfloat16(), mask, captioner.decoding)
    whole = captioner.caption_states(states.bfloat16().float(), mask, captioner.decoding)
    assert half == whole
