"""What each version wrote is read by this one, and gives the same; what can't be read is refused by name and version.

`released/VERSION` holds, a few kilobytes each, what `released/make.py` had the programs of that version write.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from programs import run

import a2i
from a2i.audio import load
from a2i.captioner import Captioner
from a2i.data import Clip, cache
from a2i.data.captioned import read_captions
from a2i.evaluate.kept import KeptCaptions
from a2i.results import ResultsFile, RowSettings
from a2i.training.checkpoints import latest
from a2i.training.run_folder import saved_settings
from a2i.training.settings import check

RELEASED = Path(__file__).parent / "released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir() if path.is_dir() and path.name[0].isdigit())
FUTURE = "99.0.0"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version wrote."""
    return Path(shutil.copytree(RELEASED / request.param, tmp_path / request.param))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_this_version_is_kept() -> None:
    assert a2i.__version__ in VERSIONS


def test_it_is_small(version: Path) -> None:
    assert sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) < 250_000


def test_a_captioner_says_the_same(version: Path) -> None:
    captioner = Captioner.load(version / "captioner")
    for row in rows(version / "results" / "results.jsonl"):
        sound = load(version / "results" / row["audio_file"]["name"], captioner.sampling_rate)
        (found,) = captioner.caption([sound])
        assert [each.caption for each in found] == row["candidates"]
        assert [each.log_probability for each in found] == pytest.approx(row["log_probabilities"], abs=2e-3)


def test_results_still_hold(version: Path) -> None:
    """With the same settings, each sound is done already; the new row of one that changed takes the place of the old one."""
    before = rows(version / "results" / "results.jsonl")
    assert len(before) == 2
    for row in before:
        sound = version / "sounds" / Path(row["audio"]).name
        settings = RowSettings(row["caption_settings"], row["image_settings"])
        with ResultsFile(version / "results") as results:
            assert results.notes == []
            assert results.has(sound, settings)
            results.add(row | {"seconds": 7.0})
    assert [row["seconds"] for row in rows(version / "results" / "results.jsonl")] == [7.0, 7.0]


def test_a_cache_gives_what_it_kept(version: Path) -> None:
    """As long as the libraries are the same; another format or another library makes another entry, and never a wrong one."""
    (about,) = (version / "cache").glob("waveforms-*/settings.json")
    settings = json.loads(about.read_text())
    own = {name: value for name, value in settings.items() if name != "format"}
    made: list[Clip] = []

    def make(clip: Clip) -> np.ndarray:
        made.append(clip)
        return load(clip.path, settings["sample_rate"])

    kept = cache.Cache(version / "cache", own, make, settings["sample_rate"])
    for sound in sorted((version / "sounds").glob("*.wav")):
        clip = Clip(sound.name, sound, ("x",))
        assert np.array_equal(kept(clip), load(sound, settings["sample_rate"]))
    assert (made == []) == (settings["format"] == cache.FORMAT)
    other = cache.Cache(version / "cache", {**own, "soxr": FUTURE}, make, settings["sample_rate"])
    made.clear()
    other(clip)
    assert made == [clip]


def test_an_evaluation_is_read_and_goes_on(version: Path) -> None:
    folder = version / "evaluation"
    clips = read_captions(folder / "captions.csv")
    assert [clip.caption for clip in clips] == [row["candidates"][0] for row in rows(folder / "captions.jsonl")[1:]]
    first, *others = rows(folder / "captions.jsonl")
    sounds = [Clip(row["file_name"], version / "sounds" / row["file_name"], ("x",)) for row in others]
    for row, clip in zip(others, sounds, strict=True):
        os.utime(clip.path, ns=(row["sound"][1], row["sound"][1]))  # as a checkout has not
    found, differing = KeptCaptions(folder / "captions.jsonl", first["made_by"]).read(sounds)
    assert differing == []
    assert {name: [*each.candidates] for name, each in found.items()} == {
        row["file_name"]: row["candidates"] for row in others
    }
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["rouge_l"]["value"] == pytest.approx(sum(map(_rouge, clips)) / len(clips), abs=1e-3)


def _rouge(clip: Any) -> float:
    from a2i.metrics.captions import score_captions

    return float(score_captions([clip.caption], [list(clip.references)], ["rouge_l"])["rouge_l"].value)


def test_a_run_is_read(version: Path) -> None:
    settings = saved_settings(version / "run")
    check(settings)
    found = latest(version / "run")
    assert (found.epochs, found.steps) == (1, 1)


@pytest.mark.slow
def test_a_run_goes_on(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(version)
    done = run("train", "resume=run", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    Captioner.load("run/captioner")


# --- What another version will write


def test_a_captioner_of_the_future_is_refused_by_name_and_version(version: Path) -> None:
    file = version / "captioner" / "captioner.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"format": 2, "versions": settings["versions"] | {"a2i": FUTURE}}))
    with pytest.raises(
        ValueError, match=rf"captioner: .*format 2, of a2i {FUTURE}; a2i {a2i.__version__} reads format 1"
    ):
        Captioner.load(version / "captioner")
    file.write_text(json.dumps(settings | {"format": "new", "versions": []}))
    with pytest.raises(ValueError, match=r"captioner: .*format new"):
        Captioner.load(version / "captioner")
    file.write_text(json.dumps(settings | {"encoder": settings["encoder"] | {"name": "ear"}}))
    with pytest.raises(ValueError, match=r"captioner: .*ear.*expected"):
        Captioner.load(version / "captioner")


def test_a_run_of_the_future_is_refused_by_the_name_of_what_is_new(version: Path) -> None:
    file = version / "run" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {"training": settings["training"] | {"telepathy": 1}}))
    with pytest.raises(ValueError, match=r"got training\.telepathy; expected one of"):
        check(saved_settings(version / "run"))
    encoder = settings["model"]["encoder"] | {"_target_": "a2i.captioner.encoders.ear.Ear"}
    file.write_text(yaml.safe_dump(settings | {"model": settings["model"] | {"encoder": encoder}}))
    with pytest.raises(ValueError, match=r"a2i\.captioner\.encoders\.ear\.Ear"):
        check(saved_settings(version / "run"))


def test_results_of_the_future_stay_as_they_are(version: Path) -> None:
    file = version / "results" / "results.jsonl"
    before = rows(file)
    lines = [json.dumps(row | {"smell": "of rain", "caption_settings": {"new": 1}}) for row in before]
    file.write_text("\n".join(lines) + "\n")
    with ResultsFile(version / "results") as results:
        settings = RowSettings(before[0]["caption_settings"], before[0]["image_settings"])
        assert not results.has(version / "sounds" / Path(before[0]["audio"]).name, settings)
    assert file.read_text().splitlines() == lines
