"""The captioner in training: loss, optimiser, schedule, and BERTScore at validation."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import SchedulerType, get_scheduler

from a2i.bounds import number, switch
from a2i.captioner import Captioner
from a2i.captioner.label_head import LabelHead, pooled
from a2i.captioner.text import IGNORE
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.registry import values as registered_values
from a2i.metrics.stateful import CaptionScores
from a2i.training import ranks
from a2i.training.augment import SpecAugment
from a2i.training.batches import Batch
from a2i.training.inputs import encoded
from a2i.training.labels import label_loss, tag_loss
from a2i.training.sharding import ShardedStrategy, shard


@contextmanager
def whole_float32() -> Iterator[None]:
    """Products of float32 without TF32, which `matmul_precision` allows in training, and which evaluation does not use."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class CaptionModule(LightningModule):
    """Trains a `Captioner`."""

    def __init__(
        self,
        captioner: Captioner,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        schedule: str = "constant",
        warmup: float = 0.0,
        new_layers_rate: float | None = None,
        encoder_rate: float | None = None,
        freeze_encoder: bool = False,
        label_smoothing: float = 0.0,
        labels: int = 0,
        label_loss: float = 0.0,
        labels_first: float = 0.0,
        label_offset: Tensor | None = None,
        tags: int = 0,
        tag_loss: float = 0.0,
        augment: SpecAugment | None = None,
        bertscore: BERTScore | None = None,
        metrics: Sequence[str] | None = None,
        decoding: dict[str, Any] | None = None,
    ) -> None:
        """Set up.

        Args:
            captioner: that learns.
            optimizer: makes the optimiser of parameter groups, and brings the learning rate.
            schedule: of the rates, by `transformers.get_scheduler`'s name: `constant`, `linear`, `cosine`, …
            warmup: share of all steps in which the rates rise from 0.
            new_layers_rate: learning rate of what no pretraining has seen (cross-attention and bridge); None for the same.
            encoder_rate: learning rate of the encoder; None for the same.
            freeze_encoder: leave the encoder as it is.
            label_smoothing: share of the target's probability spread over the vocabulary.
            labels: how many the data has.
            label_loss: weight of the loss of telling a clip's labels from the encoder's states; 0 for none. What it learns
                with is no part of the captioner, unless that has keywords.
            labels_first: share of all steps in which the encoder learns, from labels alone; after them it stays as it is,
                and the rest learns to write. The rates follow the schedule within each part. 0 for all at once; 1 where the
                rest learns from sentences alone, afterwards.
            label_offset: see `a2i.training.labels.label_loss`.
            tags: how many classes the data's tags have.
            tag_loss: weight of the loss of telling a clip's tags from the encoder's states; 0 for none. What it learns with is
                no part of the captioner.
            augment: of training spectrograms; None for none.
            bertscore: scores validation captions; None leaves BERTScore out.
            metrics: of `a2i.metrics.registry`, scored at validation too; what can't be computed is not logged.
            decoding: changes of the captioner's decoding settings at validation.
        """
        super().__init__()
        if schedule not in (known := [kind.value for kind in SchedulerType]):
            raise ValueError(f"got schedule={schedule!r}; expected one of {', '.join(known)}")
        if schedule == "constant" and warmup > 0:
            raise ValueError("got a warm-up with schedule=constant, which has none; set schedule=constant_with_warmup")
        for name, rate in (("new_layers_rate", new_layers_rate), ("encoder_rate", encoder_rate)):
            if rate is not None:
                number(name, rate, 0)
        number("warmup", warmup, 0, most=1)
        number("label_smoothing", label_smoothing, 0, below=1)
        number("label_loss", label_loss, 0)
        number("labels_first", labels_first, 0, most=1)
        number("tag_loss", tag_loss, 0)
        switch("freeze_encoder", freeze_encoder)
        self.freeze_encoder = freeze_encoder
        self.captioner = captioner
        self.make_optimizer = optimizer
        self.schedule, self.warmup = schedule, warmup
        self.rates = {"new": new_layers_rate, "encoder": encoder_rate}
        self.label_smoothing = label_smoothing
        if label_loss and not labels:
            raise ValueError(f"got label_loss={label_loss} for data without labels; set training.label_loss=0")
        if labels_first and (freeze_encoder or not label_loss):
            raise ValueError(
                f"got labels_first={labels_first}; expected label_loss above 0 and freeze_encoder=false with it, or 0"
            )
        own = captioner.bridge.label_head
        if own is not None and (freeze_encoder or not (label_loss and labels == own.labels)):
            raise ValueError(
                f"got {own.labels} keywords, {labels} labels, label_loss={label_loss} and freeze_encoder={freeze_encoder};"
                " keywords are learnt from as many labels, with label_loss above 0 and an encoder that learns: set"
                " training.label_loss=1, or model.keywords=false"
            )
        # Where the bridge has no use for labels, what learns them is no part of the captioner.
        self.labels = LabelHead(captioner.encoder.width, labels) if label_loss and own is None else None
        self.label_loss, self.labels_first = label_loss, labels_first
        self.label_offset: Tensor | None
        self.register_buffer("label_offset", label_offset, persistent=False)
        head = self.labels or own  # the head of the tags reads what that of the labels reads, if there is one
        inputs = 2 * captioner.encoder.width if head is None else head.linear.in_features
        self.tags = nn.Linear(inputs, tags) if tag_loss and tags and not freeze_encoder else None
        self.tag_loss = tag_loss
        self._first_steps = 0  # in which the encoder learns from labels alone
        self._whole: tuple[Captioner] | None = None  # a copy, where its parts are divided; no part of this module
        self._norms: list[ranks.SharedBatchNorm] = []
        self._first: bool | None = None  # whether it does so now; None before the first step
        self._tagged = False  # whether any clip since the last step has tags
        self.augment = augment
        self.validation = CaptionScores(metrics or (), bertscore)
        self.decoding = captioner.decoding_with(**(decoding or {}))
        if freeze_encoder:
            captioner.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "CaptionModule":
        """A frozen encoder stays as it is at inference, dropout and statistics too."""
        super().train(mode)
        if self.freeze_encoder:
            self.captioner.encoder.eval()
        return self

    def on_train_start(self) -> None:
        """Lightning takes modules as it finds them: without dropout what `from_pretrained` gave, learning what is frozen."""
        self.train()

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1 and not self._norms:
            self._norms = ranks.share_norms(self.captioner)

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ShardedStrategy) and self._whole is None:
            assert self.device_mesh is not None
            heads: list[nn.Module] = [head for head in (self.labels, self.tags) if head is not None]
            self._whole = (shard(self.captioner, heads, self.device_mesh["data_parallel"]),)

    @property
    def divided(self) -> bool:
        """Whether the weights are divided among the ranks."""
        return self._whole is not None

    def whole(self, weights: dict[str, Any] | None) -> Captioner:
        """The captioner on the CPU, to be written: with these weights of a checkpoint, or as it is."""
        if self._whole is None:
            if weights is not None:
                self.load_state_dict(weights)
            return self.captioner.float().cpu()
        [captioner] = self._whole
        assert weights is not None, "its weights are divided among the ranks"
        own = {
            name.removeprefix("captioner."): value for name, value in weights.items() if name.startswith("captioner.")
        }
        captioner.load_state_dict(own)
        return captioner.float().cpu()

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if self._first_steps and self._first is not self._only_labels():
            self._first = self._only_labels()
            self._let_learn(self._first)

    def _let_learn(self, first: bool) -> None:
        """Have what learns from labels learn, or all else."""
        if not first:
            self.freeze_encoder = True
            self.captioner.encoder.requires_grad_(False)
            self.captioner.encoder.eval()
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            for parameter in group["params"]:
                parameter.requires_grad_(_from_labels(group) is first)
        if isinstance(strategy := self.trainer.strategy, DDPStrategy):
            # It waits for the gradients of the weights that learnt when it was made, and of no others.
            strategy.model = self
            gc.collect()
            strategy.configure_ddp()

    def _only_labels(self) -> bool:
        return self._first_steps > 0 and self.trainer.global_step < self._first_steps

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss; with several ranks so weighted that their mean is the loss of the whole batch, which is logged.

        Dropout and SpecAugment draw on each rank for its own clips.
        """
        weights, tagged = self._shared(batch)
        states, states_mask = encoded(
            self.captioner, batch, self.augment, together=any(n.training for n in self._norms)
        )
        loss = states.new_zeros(())
        head = self.labels or self.captioner.bridge.label_head
        if self.label_loss and not self.freeze_encoder:
            assert head is not None
            assert batch.labels is not None
            value = label_loss(head(states, states_mask), batch.labels, self.label_smoothing, self.label_offset)
            loss = loss + self.label_loss * self._logged("train/label_loss", value, weights[1], batch)
        if self.tags is not None and (batch.tags is not None or ranks.ranks() > 1) and not self.freeze_encoder:
            logits = self.tags((pooled if head is None else head.read)(states, states_mask))
            # The others wait for this rank's gradient of the head, though it be 0.
            value = logits.sum() * 0.0 if batch.tags is None else tag_loss(logits, batch.tags)
            loss = loss + self.tag_loss * (
                self._logged("train/tag_loss", value, weights[2], batch) if tagged else value
            )
            self._tagged |= tagged
        if not self._only_labels():
            bridged = self.captioner.bridge(states, states_mask, batch.labels)
            caption_loss, _ = self.captioner.loss_from_states(
                bridged.states, bridged.mask, batch.tokens, batch.clip_index, self.label_smoothing
            )
            loss = loss + self._logged("train/loss", caption_loss, weights[0], batch)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            if not group["name"].endswith("_undecayed"):
                self.log(f"train/rate_{group['name']}", group["lr"])
        return loss

    def _shared(self, batch: Batch) -> tuple[list[Tensor | float], bool]:
        """Weights of this rank's losses of captions, labels and tags; and whether any rank has tags."""
        for norm in self._norms:
            norm.counts = batch.counts
        if ranks.ranks() == 1:
            return [1.0, 1.0, 1.0], batch.tags is not None
        none = torch.zeros((), device=batch.lengths.device)
        tokens = (batch.tokens.targets != IGNORE).sum()
        labelled = none if batch.labels is None else batch.labels.sum()
        tagged = none if batch.tags is None else (~batch.tags.isnan().any(dim=1)).sum()
        weights, totals = ranks.weights(batch.counts * torch.stack((tokens.float(), labelled, tagged.float())))
        return list(weights), batch.tags is not None or bool(totals[2] > 0)

    def _logged(self, name: str, value: Tensor, weight: Tensor | float, batch: Batch) -> Tensor:
        value = value * weight
        self.log(name, value, prog_bar=True, batch_size=len(batch.names), sync_dist=ranks.ranks() > 1)
        return value

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # One process has no gradient for the head of tags in a step without any, and its optimiser leaves it as it is.
        if self.tags is not None and not self._tagged:
            for parameter in self.tags.parameters():
                parameter.grad = None
        self._tagged = False

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        if not batch.counts and not self.divided:
            return
        # As precisely as captions are found in evaluation, not as training computes: by these the checkpoint is chosen.
        with whole_float32(), self.captioner._precision(self.decoding):
            states, states_mask = encoded(self.captioner, batch)
            bridged = self.captioner.bridge(states, states_mask)
            loss, tokens = self.captioner.loss_from_states(bridged.states, bridged.mask, batch.tokens, batch.clip_index)
            captions = self.captioner.caption_states(states, states_mask, self.decoding)
        if not batch.counts:
            return  # only here: where weights are divided, the others waited for this rank's part of them
        best = [candidates[0] for candidates in captions]
        self.validation.update(
            [one.caption for one in best],
            batch.references,
            batch.names,
            candidates=[[candidate.caption for candidate in candidates] for candidates in captions],
            confidence=[one.confidence for one in best],
            loss=[float(loss)] * len(best),
            tokens=[int(tokens) / len(best)] * len(best),
        )

    @property
    def validation_rows(self) -> list[dict[str, Any]]:
        """A row for each clip of the last validation, of all ranks."""
        return self.validation.clips

    def on_validation_epoch_end(self) -> None:
        with whole_float32():
            found = self.validation.compute()
        self.validation.reset()
        rows = self.validation_rows
        if not rows:
            return
        tokens = sum(row["tokens"] for row in rows)
        left_out = {value.name for value in registered_values().values() if not value.at_validation}
        values: dict[str, float | Tensor] = {"val/loss": sum(row["loss"] * row["tokens"] for row in rows) / tokens}
        values |= {f"val/{name}": value for name, value in found.items() if name not in left_out}
        values["val/distinct_captions"] = len({row["caption_predicted"] for row in rows}) / len(rows)
        shown = {name: value for name, value in values.items() if name in ("val/loss", "val/bertscore_f1")}
        self.log_dict(shown, prog_bar=True, rank_zero_only=False, sync_dist=False)
        self.log_dict({name: value for name, value in values.items() if name not in shown}, sync_dist=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameter_groups())
        steps = self._optimizer_steps()
        first = self._first_steps = round(self.labels_first * steps)

        def over(steps: int) -> Callable[[int], float]:
            warmup = round(self.warmup * steps)
            made = get_scheduler(self.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
            return made.lr_lambdas[0]

        factor: Any = over(steps)
        if first:
            early, late = over(first), over(steps - first)
            learns_first = map(_from_labels, optimizer.param_groups)
            factor = [
                (lambda step: early(step) if step < first else 0.0)
                if each
                else (lambda step: late(step - first) if step >= first else 0.0)
                for each in learns_first
            ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def _optimizer_steps(self) -> int:
        """Of the whole run.

        Lightning's `estimated_stepping_batches` sets the loader up before a checkpoint is read, whose place in the epoch is
        then never restored.
        """
        trainer = self.trainer
        batches = trainer.datamodule.train_batches()  # type: ignore[attr-defined]
        steps = -(-batches // trainer.accumulate_grad_batches) * (trainer.max_epochs or -1)
        bounds = [bound for bound in (steps, trainer.max_steps) if bound > 0]
        if not bounds and self.schedule not in ("constant", "constant_with_warmup"):
            raise ValueError(f"got schedule={self.schedule} without an end; expected max_epochs or max_steps")
        return min(bounds, default=1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The weights that learn as `encoder`, `decoder`, `new` and `labels`, each with the rate that is set for it.

        Biases and norms are spared weight decay.
        """
        new = {f"decoder.{name}" for name in self.captioner.decoder.new_parameters()}
        groups: dict[str, list[nn.Parameter]] = {}
        heads = [(name, head) for name, head in (("labels", self.labels), ("tags", self.tags)) if head is not None]
        own = [item for name, head in heads for item in head.named_parameters(prefix=name)]
        for name, parameter in [*self.captioner.named_parameters(), *own]:
            if parameter.requires_grad:
                part = name.split(".", 1)[0]
                if name.startswith(("bridge.label_head.", "tags.")):
                    part = "labels"
                elif name in new or part == "bridge":
                    part = "new"
                groups.setdefault(part if parameter.ndim > 1 else f"{part}_undecayed", []).append(parameter)
        result = []
        for name, parameters in groups.items():
            group: dict[str, Any] = {"name": name, "params": parameters}
            rate = self.rates.get(name.removesuffix("_undecayed"))
            if rate is not None:
                group["lr"] = rate
            if name.endswith("_undecayed"):
                group["weight_decay"] = 0.0
            result.append(group)
        return result


def _from_labels(group: dict[str, Any]) -> bool:
    """Whether a group of parameters learns from labels."""
    return group["name"].removesuffix("_undecayed") in ("encoder", "labels")
