"""The metrics as one `torchmetrics.Metric`, for any training loop: it holds the clips, and scores them with `a2i.metrics`."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from a2i.metrics.bertscore import BERTScore
from a2i.metrics.parts import Parts
from a2i.metrics.registry import registered
from a2i.metrics.scoring import score


class CaptionScores(Metric):
    """Scores of the captions of a data set, BERTScore among them, over any number of processes.

    Each clip counts once, by its name, though a sampler may give it to two processes. The first process computes, and all
    give the same. The models are no part of any module that holds this: they are neither trained, nor moved, nor saved with it.

    Examples:
        >>> scores = CaptionScores(["rouge_l"])
        >>> scores.update(["a dog barks"], [["a dog barks", "a dog is barking"]], ["dog.wav"])
        >>> scores.compute()["rouge_l"]
        tensor(1.)
    """

    full_state_update = False
    higher_is_better = None  # differs from value to value: see `registry.monitors`
    lines: list[Tensor]

    def __init__(
        self,
        metrics: Sequence[str] = (),
        bertscore: BERTScore | None = None,
        parts: Parts | None = None,
        **settings: Any,
    ) -> None:
        """Set up.

        Args:
            metrics: that captions and references are enough for, by their names in the registry.
            bertscore: scores the captions as well; None leaves BERTScore out.
            parts: what the metrics need; None for the defaults.
            settings: of `torchmetrics.Metric`.

        Raises:
            ValueError: a metric is unknown, or needs more than captions and references.
        """
        super().__init__(**settings)
        known = [metric.name for metric in registered() if metric.at_validation]
        if unknown := [name for name in metrics if name not in known]:
            raise ValueError(f"got the metrics {unknown}; expected some of {', '.join(known)}")
        self.metrics, self.bertscore, self.parts = tuple(metrics), bertscore, parts
        self.clips: list[dict[str, Any]] = []
        # A state can only be of tensors: a line of JSON for each clip, as bytes.
        self.add_state("lines", default=[], dist_reduce_fx="cat")
        self.reset()

    def update(
        self, predicted: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str], **more: Sequence[Any]
    ) -> None:
        """Add clips.

        Args:
            predicted: B captions, '' where there is none.
            references: B lists of references; their number may differ.
            names: B, each of one clip alone.
            more: B plain values each, which `compute` gives back in `clips`.
        """
        for name, caption, group, *others in zip(names, predicted, references, *more.values(), strict=True):
            row = {"file_name": name, "caption_predicted": caption, "references": list(group)}
            line = json.dumps(row | dict(zip(more, others, strict=True))) + "\n"
            self.lines.append(torch.tensor(list(line.encode()), dtype=torch.uint8, device=self.device))

    def reset(self) -> None:
        super().reset()
        # Processes that have no clip take part in the gathering too.
        self.lines = [torch.zeros(0, dtype=torch.uint8, device=self.device)]

    def rows(self) -> list[dict[str, Any]]:
        """The clips of this process; within `compute` those of all, each once."""
        lines = self.lines if isinstance(self.lines, list) else [self.lines]
        text = bytes(torch.cat([line.cpu() for line in lines]).tolist()).decode()
        return list({row["file_name"]: row for row in map(json.loads, text.splitlines())}.values())

    def compute(self) -> dict[str, Tensor]:
        """The values that can be computed, by name; empty without a clip.

        `clips` holds then a row for each clip: `file_name`, `caption_predicted`, `references`, what `update` was given
        besides, and the values of BERTScore.
        """
        self.clips = self.rows()
        several = self._is_synced and distributed.is_initialized()
        found: list[Any] = [self._scores() if self.clips and (not several or distributed.get_rank() == 0) else None]
        if several:  # what is computed twice may differ in its last bit, and so what each process makes of it
            distributed.broadcast_object_list(found, 0)
        values, of_clips = found[0] or ({}, {})
        for name, column in of_clips.items():
            for row, value in zip(self.clips, column, strict=True):
                row[name] = value
        return {name: torch.tensor(value) for name, value in values.items()}

    def _scores(self) -> tuple[dict[str, float], dict[str, tuple[float, ...]]]:
        captions = [row["caption_predicted"] for row in self.clips]
        references = [row["references"] for row in self.clips]
        metrics = [*(["bertscore"] if self.bertscore is not None else []), *self.metrics]
        scores = score(captions, references, metrics, self.bertscore, self.parts, samples=0).scores
        values = {name: float(one.value) for name, one in scores.items() if one.value is not None}
        of_clips = {name: one.clips for name, one in scores.items() if name.startswith("bertscore_") and one.clips}
        return values, of_clips
