import csv
from pathlib import Path

from a2i.metrics.table import write_table


def test_clips_of_different_numbers_of_references(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a, b.wav", "caption_predicted": "", "references": ["one"], "x": 0.5},
        {"file_name": "c.wav", "caption_predicted": 'say "c"', "references": ["two", "three"], "x": 1.0},
        {"file_name": "d.wav", "caption_predicted": "d\r\nd", "references": ["four"], "x": float("nan")},
    ]
    write_table(tmp_path / "captions.csv", rows, ["x"])
    with (tmp_path / "captions.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.reader(file))
    assert written == [
        ["file_name", "caption_predicted", "caption_1", "caption_2", "x"],
        ["a, b.wav", "", "one", "", "0.500000"],
        ["c.wav", 'say "c"', "two", "three", "1.000000"],
        ["d.wav", "d\r\nd", "four", "", ""],
    ]
