"""Labelled recordings: splits by recording, sentences that name the kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from a2i.compose import build
from a2i.data.esc10 import Esc10
from a2i.data.kinds import KINDS, named_in
from a2i.data.labelled import Labelled

CONF = Path(__file__).parents[1] / "conf/data"


def write(root: Path, recordings: int = 40, kinds: tuple[str, ...] = ("dog", "siren"), column: str = "kind") -> Path:
    """Two files of each recording, and a table."""
    rows = [f"file,{column},recording,fold"]
    root.mkdir(parents=True, exist_ok=True)
    for number in range(recordings):
        for take in "ab":
            name = f"{number}-{take}.wav"
            soundfile.write(root / name, np.zeros(80, dtype=np.float32), 8000)
            rows.append(f"{name},{kinds[number % len(kinds)]},{1000 + number},{number % 4 + 1}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root


def recordings(source: Labelled, split: str) -> set[str]:
    return {clip.name.split("-")[0] for clip in source.clips(split)}


def test_clips_have_labels_and_sentences(tmp_path: Path) -> None:
    source = Labelled(write(tmp_path), "table.csv", "urban")
    source.prepare()
    clips = source.clips("train")
    assert len(clips) == 80
    assert source.kinds("train")["1-a.wav"] == "siren"
    for clip in clips:
        (label,) = clip.labels or ()
        assert label == source.kinds("train")[clip.name]
        assert clip.path.is_file()
        assert len(set(clip.captions)) == 5 or set(clip.captions) == set(KINDS[label].sentences)
        assert all(label in named_in(caption) for caption in clip.captions)
    assert clips == Labelled(tmp_path, "table.csv", "urban").clips("train")
    assert clips != Labelled(tmp_path, "table.csv", "urban", seed=1).clips("train")
    assert source.clips("val") == []
    with pytest.raises(ValueError, match=r"no row for 'test'; set data\.hold_out"):
        source.clips("test")


def test_a_recording_is_on_one_side_in_every_data_set(tmp_path: Path) -> None:
    urban = Labelled(write(tmp_path / "urban"), "table.csv", "urban", val_share=0.3)
    esc50 = Labelled(write(tmp_path / "esc50", kinds=("cat",)), "table.csv", "esc50", val_share=0.3, seed=7)
    train, val = recordings(urban, "train"), recordings(urban, "val")
    assert 4 <= len(val) <= 20
    assert not train & val
    assert len(train | val) == 40
    assert (train, val) == (recordings(esc50, "train"), recordings(esc50, "val"))


def test_what_is_held_out(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(table.read_text().replace("0-b.wav,dog,1000,1", "0-b.wav,dog,1000,4"))
    held = {"column": "fold", "values": [4]}
    source = Labelled(tmp_path, "table.csv", "urban", hold_out=held)
    assert recordings(source, "test") == {"0", *(str(number) for number in range(3, 40, 4))}
    assert recordings(source, "val") == recordings(source, "test")
    assert not recordings(source, "train") & recordings(source, "test")  # nor the other take of recording 0
    both = Labelled(tmp_path, "table.csv", "urban", hold_out=held, val_share=0.3, left_out=[1001])
    splits = [recordings(both, split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 39
    assert "1" not in set.union(*splits)


def test_half_the_captions_come_from_corpora(tmp_path: Path) -> None:
    write(tmp_path)
    said = [f"A dog barks at house number {word}" for word in ("one", "two", "three", "four")]
    (tmp_path / "said.csv").write_text("caption\n" + "\n".join([*said, "A dog barks while a siren wails"]) + "\n")
    source = Labelled(tmp_path, "table.csv", "urban", corpora=[tmp_path / "said.csv"])
    for clip in source.clips("train"):
        found = [caption for caption in clip.captions if "house" in caption]
        assert len(found) == (2 if clip.labels == {"dog"} else 0)
        assert not any("while" in caption for caption in clip.captions)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_share": 1.0}, "val_share=1.0; expected at least 0 and below 1"),
        ({"captions_per_clip": 0}, "captions_per_clip=0; expected 1 or more"),
        ({"hold_out": {"fold": 4}}, "expected such as {column: fold"),
        ({"hold_out": {"column": "fold", "values": "4"}}, "expected a list"),
        ({"hold_out": {"column": "fold", "values": [9]}}, "has no fold 9 to hold out; it has 1, 2, 3, 4"),
        ({"hold_out": {"column": "fold", "values": [1, 2, 3, 4]}}, "no row for 'train'; hold fewer rows out"),
        ({"hold_out": {"column": "year", "values": [1]}}, "expected .*'year'"),
        ({"called": "elsewhere"}, "names no kind .* as 'elsewhere:…'"),
        ({"kind_column": "label"}, "expected .*'label'"),
    ],
)
def test_mistakes_in_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write(tmp_path, recordings=8)
    with pytest.raises(ValueError, match=message):
        Labelled(**{"root": tmp_path, "table": "table.csv", "called": "urban", **settings}).clips("train")


def test_mistakes_in_the_folder(tmp_path: Path) -> None:
    def change(alter: Callable[[str], str]) -> Labelled:
        table = write(tmp_path, recordings=4) / "table.csv"
        table.write_text(alter(table.read_text()))
        return Labelled(tmp_path, "table.csv", "urban")

    with pytest.raises(ValueError, match=r"row 10: '0-a.wav' stands there twice"):
        change(lambda text: text + "0-a.wav,dog,1000,1\n").prepare()
    with pytest.raises(FileNotFoundError, match=r"1 recording is missing .*'absent.wav'; add them, or remove"):
        change(lambda text: text + "absent.wav,dog,1000,1\n").prepare()
    assert len(change(lambda text: text.replace("siren", "laser")).clips("train")) == 4  # left out
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        change(str).clips("dev")
    with pytest.raises(FileNotFoundError, match="no caption table"):
        Labelled(tmp_path / "nowhere", "table.csv", "urban").prepare()


@pytest.mark.parametrize("name", ["sounds", "urban", "esc50", "effects"])
def test_the_real_recordings(name: str, real_data: Path) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    config.root = str(real_data / name)
    source = build(config)
    source.prepare()
    train, val = source.clips("train"), source.clips("val")
    assert len(train) > 500
    assert len(val) > 50
    assert not {clip.path for clip in train} & {clip.path for clip in val}
    sides = [{row[source.recording_column] for row in source._split(split)} for split in ("train", "val")]
    assert not sides[0] & sides[1]


def test_the_world_shares_no_freesound_recording_between_training_and_validation(real_data: Path) -> None:
    left_out = OmegaConf.load(CONF / "world.yaml").sources.urban.left_out
    sides: dict[str, set[str]] = {"train": set(), "val": set()}
    for name in ("urban", "esc50"):
        config = OmegaConf.load(CONF / f"{name}.yaml")
        config.root = str(real_data / name)
        source = build(config, left_out=list(left_out)) if name == "urban" else build(config)
        for split in sides:
            sides[split] |= {row["recording"] for row in source._split(split)}
    for split in sides:
        sides[split] |= {clip.name.split("-")[1] for clip in Esc10(real_data / "esc10").clips(split)}
    assert not sides["train"] & sides["val"]
