"""Pictures in an evaluation, and its W&B run: one command with tiny models on disk, read back in several ways."""

import csv
import json
import math
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import programs
import pytest
import soundfile
from conftest import SENTENCES, full_disk, tone
from PIL import Image

from a2i.data.captioned import Captioned
from a2i.evaluate.distributed import Ranks
from a2i.evaluate.pictures import draw, load_models, load_painter, read_pool
from a2i.evaluate.wandb_log import wandb_settings
from a2i.metrics.parts import Score
from a2i.metrics.pictures import CLAP, CLIP, score_pictures
from a2i.metrics.scoring import Scored, compare, score

NAMES = ["low.wav", "middle.wav", "high.wav"]
ALL = ["clip_score", "audio_image_similarity", "blame"]
CLIP_SCORES = ("clip_score", "ref_clip_score", "clip_score_references")
BLAME = ("blame_predicted", "blame_human", "blame_chance", "blame_captioner", "blame_conveyed")


@pytest.fixture(scope="module")
def out(
    tmp_path_factory: pytest.TempPathFactory,
    captioner_folder: Path,
    painter_folder: Path,
    clip_folder: Path,
    clap_folder: Path,
) -> Path:
    """An evaluation of a captioner against any system's captions, both drawn."""
    sounds = tmp_path_factory.mktemp("sounds")
    for name, frequency in zip(NAMES, (200.0, 1000.0, 4000.0), strict=True):
        soundfile.write(sounds / name, tone(frequency, 0.5), 16_000)
    with (sounds / "captions.csv").open("w", newline="") as file:
        rows = [[name, "test", SENTENCES[i], SENTENCES[i + 1]] for i, name in enumerate(NAMES)]
        csv.writer(file).writerows([["file_name", "split", "caption_1", "caption_2"], *rows])
    with (sounds / "theirs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "caption_predicted"], *([row[0], row[2]] for row in rows)])
    folder = tmp_path_factory.mktemp("evaluation")
    given = [f"captioner={captioner_folder}", "data=folder", f"data.root={sounds}"]
    given += [f"against={sounds / 'theirs.csv'}", f"image={painter_folder}", "image.steps=2", f"out={folder}"]
    given += [f"clip.model={clip_folder}", f"clap.model={clap_folder}", "bootstrap_samples=100", "logger=wandb"]
    given += ["metrics=[rouge_l,clip_score,audio_image_similarity,blame]", "caption_metrics.java=no-such-java"]
    done = programs.run("evaluate", *given)
    assert done.returncode == 0, done.stderr
    assert "who failed: " in done.stdout
    assert f"wandb sync {folder}" in done.stdout
    return folder


@pytest.mark.long
def test_scores_and_columns(out: Path) -> None:
    scores = json.loads((out / "scores.json").read_text())
    for name in (*CLIP_SCORES, "audio_image_similarity"):
        assert {"value", "interval", "settings_hash"} <= set(scores[name]), name
    assert {"model", "prefix", "w", "versions"} <= set(scores["clip_score"])
    assert scores["audio_image_similarity"]["pool"]["sentences"] == len(read_pool(None))
    assert scores["audio_image_similarity"]["sound_finds_picture"]["count"] == 3
    blame = scores["blame"]
    assert blame["captioner"] == pytest.approx(blame["human"] - blame["predicted"], abs=1e-6)
    assert blame["conveyed"] == pytest.approx(blame["human"] - blame["chance"], abs=1e-6)
    assert blame["who"] in ("captioner", "painter", "nobody", "human")
    assert scores["about"]["pictures"]["steps"] == 2
    with (out / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in (*CLIP_SCORES, "audio_image_similarity", *BLAME):
        whole = scores["blame"][name.removeprefix("blame_")] if name in BLAME else scores[name]["value"]
        assert sum(float(row[name]) for row in rows) / 3 == pytest.approx(whole, abs=1e-5)
    compared = json.loads((out / "comparison.json").read_text())
    assert compared["clip_score"]["p_value"] > 0
    # Their captions are the first references, of which the human pictures are drawn: nothing is lost.
    assert compared["blame_captioner"]["first"] == pytest.approx(0, abs=1e-6)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def test_scores_are_those_of_the_pictures_on_disk(out: Path, clip_folder: Path) -> None:
    with (out / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = [opened(out / "pictures" / f"{Path(row['file_name']).stem}.png") for row in rows]
    assert [image.info["caption"] for image in images] == [row["caption_predicted"] for row in rows]
    want = score_pictures(CLIP(clip_folder, device="cpu"), images, [row["caption_predicted"] for row in rows])
    assert [float(row["clip_score"]) for row in rows] == pytest.approx(want.clip_score.tolist(), abs=1e-5)
    human = [opened(out / "pictures_human" / f"{Path(row['file_name']).stem}.png") for row in rows]
    assert [image.info["caption"] for image in human] == [row["caption_1"] for row in rows]
    assert len(list((out / "pictures_against").iterdir())) == 3


def test_the_page_shows_both_pictures(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert page.count('class="picture"') == 6
    assert page.count("<figcaption>from “") == 3
    assert "who failed" in page
    assert "RefCLIPScore" in page


def test_the_wandb_run_holds_scores_table_and_plots(out: Path) -> None:
    (run,) = (out / "wandb").glob("offline-run-*")
    program = str(Path(sys.executable).parent / "wandb")
    told = subprocess.run([program, "leet", "inspect", "--json", str(run)], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in told.stdout.splitlines()]
    (history,) = [record["history"]["item"] for record in records if "history" in record]
    logged = {name.split(".")[0]: value for name, value in history.items()}
    scores = json.loads((out / "scores.json").read_text())
    assert logged["test/rouge_l"] == pytest.approx(scores["rouge_l"]["value"])
    assert logged["test/clip_score"] == pytest.approx(scores["clip_score"]["value"])
    assert {name.split("/")[0] for name in logged if not name.startswith("_")} == {"test", "compare"}
    assert {"test/clips", "test/scores", "test/intervals", "test/histograms/blame_human", "compare/differences"} <= set(
        logged
    )
    (table,) = run.rglob("media/table/test/clips*.json")
    clips = json.loads(table.read_text())
    assert clips["columns"][:6] == ["file", "sound", "spectrogram", "references", "caption", "candidates"]
    assert {"picture", "picture of the first reference", "rouge_l", "clip_score", "confidence"} <= set(clips["columns"])
    assert len(clips["data"]) == 3
    entries = [
        entry for record in records for entry in record.get("artifact", {}).get("manifest", {}).get("contents", [])
    ]
    assert {Path(entry["path"]).suffix for entry in entries} >= {".wav", ".png", ".json"}
    assert all(Path(entry["local_path"]).is_relative_to(out) for entry in entries)


# --- Parts


@pytest.fixture(scope="module")
def models(clip_folder: Path, clap_folder: Path) -> tuple[CLIP, CLAP]:
    return CLIP(clip_folder, device="cpu"), CLAP(clap_folder, device="cpu")


@pytest.fixture
def clips(tmp_path: Path) -> list[Captioned]:
    made = []
    for i in range(4):
        Image.new("RGB", (20, 20), (60 * i, 90, 255 - 60 * i)).save(tmp_path / f"{i}.png")
        Image.new("RGB", (20, 20), (90, 60 * i, 20)).save(tmp_path / f"human_{i}.png")
        soundfile.write(tmp_path / f"{i}.wav", tone(200.0 * (i + 1), 0.3), 16_000)
        made.append(
            Captioned(
                f"{i}.wav", SENTENCES[i], (SENTENCES[i + 1], SENTENCES[i - 1]), audio=tmp_path / f"{i}.wav",
                image=tmp_path / f"{i}.png", human_image=tmp_path / f"human_{i}.png",
            )
        )  # fmt: skip
    return made


def scored(clips: list[Captioned], clip: CLIP | str, clap: CLAP | str, samples: int = 0) -> Scored:
    texts = [each.caption for each in clips], [each.references for each in clips]
    models = {"clip": clip, "clap": clap, "pool": read_pool(None)}
    return score(*texts, ALL, samples=samples, models=models, clips=clips)


def picture_scores(clips: list[Captioned], clip: CLIP | str, clap: CLAP | str) -> dict[str, Score]:
    return scored(clips, clip, clap).scores


def test_clips_without_a_picture_have_no_value(models: tuple[CLIP, CLAP], clips: list[Captioned]) -> None:
    some = [replace(clips[0], image=None), replace(clips[1], human_image=None), *clips[2:]]
    first, second = scored(some, *models, samples=50), scored(clips, *models, samples=50)
    found, whole = first.scores["clip_score"], second.scores["clip_score"]
    assert math.isnan(found.clips[0])  # type: ignore[index]
    assert found.settings["clips"] == 3
    # In float32 a cosine is right to some 1e-7, however near to zero it is; other neighbours in a batch, other last bits.
    assert found.clips[1:] == pytest.approx(whole.clips[1:], abs=1e-6)  # type: ignore[index]
    assert found.value == pytest.approx(sum(whole.clips[1:]) / 3, abs=1e-6)  # type: ignore[index]
    assert found.interval is not None
    compared = compare(first, second, samples=50)["clip_score"]
    assert compared.difference == pytest.approx(0, abs=1e-6)
    assert compared.second == pytest.approx(found.value)
    json.dumps({name: one for name, one in first.as_plain().items() if name == "clip_score"}, allow_nan=False)


def test_what_is_missing_says_why(models: tuple[CLIP, CLAP], clips: list[Captioned]) -> None:
    bare = [replace(each, audio=None, human_image=None) for each in clips]
    broken = clips[0].audio
    assert broken is not None
    broken.write_bytes(b"no sound at all")
    similarity = picture_scores(clips, *models)["audio_image_similarity"]
    assert similarity.settings["clips"] == 3
    assert math.isnan(similarity.clips[0])  # type: ignore[index]
    found = picture_scores(bare, *models)
    assert "audio=FOLDER" in str(found["audio_image_similarity"].missing)
    assert "image=NAME draws both" in str(found["blame_captioner"].missing)
    found = picture_scores([replace(each, image=None) for each in bare], *models)
    assert "no clip has a picture: image=NAME draws them" in str(found["clip_score"].missing)
    single = [replace(each, references=each.references[:1]) for each in clips]
    assert "besides the one" in str(picture_scores(single, *models)["blame_human"].missing)
    no_models = scored(clips, "no CLIP here", "no CLAP here")
    asked = ("audio_image_similarity", *CLIP_SCORES, *BLAME)
    assert {no_models.scores[name].missing for name in asked} == {"no CLIP here"}
    plain = no_models.as_plain()
    assert plain["clip_score"] == {"missing": "no CLIP here"} == plain["blame"]


def test_the_default_models_may_be_missing_but_not_those_asked_for() -> None:
    """In a test the Hub is out of reach."""
    default = {"model": None, "revision": None}
    needs = {"picture", "sound", "clip", "clap"}
    found = load_models(needs, "cpu", clip=default, clap=default, pool=None)
    if not isinstance(found["clip"], str) or not isinstance(found["clap"], str):
        pytest.skip("the default models are in this machine's cache")
    assert "no CLIP model to be had" in found["clip"]
    assert "clip.model=FOLDER" in found["clip"]
    assert "clap.model=FOLDER" in found["clap"]
    with pytest.raises(ValueError, match="nobody/none: no CLIP model"):
        load_models(needs, "cpu", clip={**default, "model": "nobody/none"}, clap=default, pool=None)


def test_a_pool_is_checked(tmp_path: Path) -> None:
    assert len(read_pool(None)) > 100
    file = tmp_path / "pool.txt"
    for text, message in (("a\nb\n", "at least three"), ("a\nb\na\nc\n", "all different")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_pool(file)
    file.write_bytes(b"\xff\xfe a")
    with pytest.raises(ValueError, match="UTF-8"):
        read_pool(file)
    with pytest.raises(FileNotFoundError):
        read_pool(tmp_path / "none.txt")


def test_what_is_drawn_is_not_drawn_again(painter_folder: Path, clips: list[Captioned], tmp_path: Path) -> None:
    clips = [clips[0], replace(clips[1], file_name="other/0.wav")]
    image = {"_target_": "a2i.diffusion.Painter", "model": str(painter_folder), "steps": 1}
    painter = load_painter(image, None, "cpu")
    assert painter is not None
    out = tmp_path / "drawn"
    drawn = draw(clips, painter, out, image, 3, Ranks(), human=False)
    assert [clip.image for clip in drawn] == [out / "0.png", out / "0~2.png"]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    changed = [clips[0], replace(clips[1], caption="Something else.")]
    draw(changed, painter, out, image, 3, Ranks(), human=False)
    after = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert [path.name for path in before if before[path] != after[path]] == ["0~2.png"]
    draw(changed, painter, out, image, 4, Ranks(), human=False)
    assert all(after[path] != path.stat().st_mtime_ns for path in after)
    # A painter that was trained anew into the same folder is another.
    other = Path(shutil.copytree(painter_folder, tmp_path / "painter"))
    image = {**image, "model": str(other)}
    draw(changed, painter, out, image, 3, Ranks(), human=False)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    draw(changed, painter, out, image, 3, Ranks(), human=False)
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    index = other / "model_index.json"
    index.write_text(index.read_text() + "\n")
    draw(changed, painter, out, image, 3, Ranks(), human=False)
    assert all(before[path] != path.stat().st_mtime_ns for path in before)
    with pytest.raises(ValueError, match="got pictures= and image="):
        load_painter(image, "x", "cpu")
    assert load_painter({}, None, "cpu") is None


def test_a_full_disk_leaves_no_part_of_a_picture(painter_folder: Path, clips: list[Captioned], tmp_path: Path) -> None:
    painter = load_painter({"_target_": "a2i.diffusion.Painter", "model": str(painter_folder), "steps": 1}, None, "cpu")
    assert painter is not None
    with full_disk(100), pytest.raises(OSError, match=r"can't be written \(File too large\); expected .*\.png"):
        draw(clips, painter, tmp_path / "pictures", {}, 0, Ranks(), human=False)
    assert not list((tmp_path / "pictures").iterdir())


def test_no_two_pictures_have_one_name(painter_folder: Path, clips: list[Captioned], tmp_path: Path) -> None:
    """Neither where a file system takes capitals for small letters and puts accents on of its own."""
    twice = ["é.wav", "e\u0301.flac", "A.wav", "b\\a.wav", "x~2.wav", "x.wav", "y/x.wav", "STRASSE.wav", "straße.wav"]
    long = [f"{letter * 250}.wav" for letter in "né音"] + ["n" * 249 + "m.wav", "n" * 250 + ".flac"]
    names = ["a.wav", "a~2.wav", "b/a.wav", "a.flac", "b.wav#t=0.5,2", "b.wav#t=0.7", *twice, *long]
    some = [replace(clips[0], file_name=name, caption=f"a {i}") for i, name in enumerate(names)]
    image = {"_target_": "a2i.diffusion.Painter", "model": str(painter_folder), "steps": 1}
    painter = load_painter(image, None, "cpu")
    assert painter is not None
    drawn = [clip.image for clip in draw(some, painter, tmp_path / "drawn", image, 3, Ranks(), human=False)]
    folded = {
        unicodedata.normalize("NFC", unicodedata.normalize("NFD", path.name).casefold()) for path in drawn if path
    }
    assert len(folded) == len(names)
    assert [opened(path).info["caption"] for path in drawn if path] == [clip.caption for clip in some]
    assert all(len(unicodedata.normalize("NFD", path.name).encode()) <= 240 for path in drawn if path)
    assert [path.name for path in drawn[:4] if path] == ["a.png", "a~2.png", "a~3.png", "a~4.png"]


def test_wandb_is_chosen_by_the_loggers_of_training() -> None:
    target = "lightning.pytorch.loggers."
    wanted = {"wandb": {"_target_": f"{target}WandbLogger", "project": "a2i", "name": "x", "log_model": False}}
    assert wandb_settings(wanted) == {"project": "a2i", "name": "x"}
    assert wandb_settings({"csv": {"_target_": f"{target}CSVLogger"}}) is None
    assert wandb_settings({}) is None
