"""Evaluation by two processes, as torchrun starts them."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SENTENCES
from programs import run

from a2i.evaluate.distributed import Ranks, joined


@pytest.mark.long
def test_two_ranks_find_what_one_finds(
    captioner_folder: Path, painter_folder: Path, clip_folder: Path, sounds: Path, tmp_path: Path
) -> None:
    """Three clips for two ranks, captions and pictures; scored and written once. A fourth fails, and no rank waits for it.

    One process may use other threads than ranks do, which add up in another order: numbers agree to float32's precision.
    """
    (sounds / "bad.wav").write_bytes(b"no sound at all")
    with (sounds / "captions.csv").open("w", newline="") as file:
        names = ["low.wav", "middle.wav", "high.wav", "bad.wav"]
        rows = [[name, "test", *SENTENCES[i : i + 2]] for i, name in enumerate(names)]
        csv.writer(file).writerows([["file_name", "split", "caption_1", "caption_2"], *rows])
    arguments = [
        f"captioner={captioner_folder}",
        "data=folder",
        f"data.root={sounds}",
        "batch_size=1",
    ]
    arguments += [f"image={painter_folder}", "image.steps=1", f"clip.model={clip_folder}", "bootstrap_samples=0"]
    arguments += ["metrics=[rouge_l,clip_score]", "caption_metrics.java=no-such-java", "report.clips=0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = [*torchrun, "-m", "a2i.evaluate", *arguments, f"out={tmp_path / 'two'}"]
    one = run("evaluate", *arguments, f"out={tmp_path / 'one'}")
    told = {}
    for name, done in (("one", one), ("two", subprocess.run(two, capture_output=True, text=True, check=False))):
        assert done.returncode == 1, done.stderr
        assert "1 clip failed and is not in these scores" in done.stderr
        told[name] = done.stdout
    assert told["two"].count("to look at:") == 1
    tables = []
    for name in told:
        with (tmp_path / name / "captions.csv").open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert len(tables[0]) == len(tables[1]) == 4
    for one, two in zip(*tables, strict=True):
        words = ("file_name", "caption_predicted", "caption_1", "caption_2", "error")
        assert [one.pop(column) for column in words] == [two.pop(column) for column in words]
        assert [column for column in one if one[column]] == [column for column in two if two[column]]
        assert numbers(one) == pytest.approx(numbers(two), abs=1e-5)
    assert [bool(row["rouge_l"]) for row in tables[1]] == [False, True, True, True]  # bad.wav is the first by name
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in told]
    assert scores[0]["rouge_l"] == scores[1]["rouge_l"]  # of the same captions by one process each
    assert scores[0]["clip_score"]["value"] == pytest.approx(scores[1]["clip_score"]["value"], abs=1e-5)
    assert scores[1]["captions"]["count"] == 3
    assert scores[1]["clips"] == {"scored": 3, "failed": 1}
    assert len(list((tmp_path / "two" / "pictures").iterdir())) == 3
    kept = [json.loads(line) for line in (tmp_path / "two" / "captions.jsonl").read_text().splitlines()]
    assert sorted(row["file_name"] for row in kept if "candidates" in row) == ["high.wav", "low.wav", "middle.wav"]


@pytest.mark.long
def test_ranks_with_other_clips_each_end_at_once(captioner_folder: Path, sounds: Path, tmp_path: Path) -> None:
    """As two machines would whose copies of the data differ: each rank reads a folder of its own."""
    for rank in range(2):
        shutil.copytree(sounds, tmp_path / f"copy{rank}")
    with (tmp_path / "copy0" / "captions.csv").open("w", newline="") as file:
        rows = [[name, "test", SENTENCES[0]] for name in ("low.wav", "middle.wav", "high.wav")]
        csv.writer(file).writerows([["file_name", "split", "caption_1"], *rows])
    with (tmp_path / "copy1" / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "split", "caption_1"], *rows[:2]])
    arguments = [f"captioner={captioner_folder}", "data=folder", f"data.root={tmp_path}/copy${{oc.env:RANK}}"]
    arguments += ["metrics=[rouge_l]", "caption_metrics.java=no-such-java", f"out={tmp_path / 'out'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, "-m", "a2i.evaluate", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the processes have different clips to caption (3 clips of hash" in done.stderr, done.stderr[-2000:]
    assert not (tmp_path / "out" / "scores.json").exists()


def numbers(row: dict[str, str]) -> list[float]:
    return [float(cell) for cell in row.values() if cell]


def test_shares_are_spread_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(10))
    shares = [list(Ranks(rank, 3).share(items)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == Ranks()
        assert ranks.first
        assert ranks.gathered(items) == ranks.share(items) == items
        assert ranks.device("cpu") == "cpu"
        assert ranks.device(None) is None
