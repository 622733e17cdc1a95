"""ESC-10: folds as splits, sentences that name the kind and nothing else, and the real recordings where they are."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from a2i.compose import build
from a2i.data.esc10 import Esc10
from a2i.data.esc10_captions import LABELS, SENTENCES, SOURCE_WORDS, captions_for, kinds_named


def write_esc10(root: Path, folds: tuple[int, ...]) -> Path:
    """Two short Ogg files a fold and kind, in the official layout."""
    for number, kind in enumerate(SENTENCES, start=1):
        folder = root / f"{number:03} - {kind}"
        folder.mkdir(parents=True)
        for fold in folds:
            for take in "AB":
                soundfile.write(folder / f"{fold}-{number}0{fold}-{take}.ogg", np.zeros(800, dtype=np.float32), 8000)
    return root


def test_five_folds_are_three_splits(tmp_path: Path) -> None:
    source = Esc10(str(write_esc10(tmp_path, (1, 2, 3, 4, 5))))
    (tmp_path / "attribution.tsv").write_text("a file beside the folders\n")
    source.prepare()
    folds = {split: Counter(int(clip.name[0]) for clip in source.clips(split)) for split in ("train", "val", "test")}
    assert folds == {"train": {1: 20, 2: 20, 3: 20}, "val": {4: 20}, "test": {5: 20}}
    assert {label for clip in source.clips("val") for label in clip.labels or ()} == set(LABELS.values())
    everything = Esc10(source.root, val_fold=None)
    everything.prepare()
    assert len(everything.clips("train")) == 80
    assert everything.clips("val") == []
    for split in folds:
        kinds = source.kinds(split)
        clips = source.clips(split)
        assert list(kinds) == [clip.name for clip in clips]
        assert Counter(kinds.values()) == dict.fromkeys(SENTENCES, len(clips) // 10)
        for clip in clips:
            assert clip.path.is_file()
            assert clip.path.parent.name.endswith(f"- {kinds[clip.name]}")
            assert len(set(clip.captions)) == 5


def test_an_absent_test_fold_matters_only_for_the_test(tmp_path: Path) -> None:
    source = Esc10(write_esc10(tmp_path, (1, 2, 3, 4)))
    source.prepare()
    assert {clip.name[0] for clip in source.clips("train")} == {"1", "2", "3"}
    assert {clip.name[0] for clip in source.clips("val")} == {"4"}
    with pytest.raises(ValueError, match=r"no fold 5 for 'test' .*folds \[1, 2, 3, 4\]; set data.test_fold"):
        source.clips("test")
    assert {clip.name[0] for clip in Esc10(tmp_path, test_fold=1).clips("train")} == {"2", "3"}


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Dog bark, Rain"):
        Esc10(tmp_path / "nowhere").clips("train")
    root = write_esc10(tmp_path / "esc10", (4,))
    with pytest.raises(ValueError, match="none is left for 'train'"):
        Esc10(root).prepare()
    with pytest.raises(ValueError, match="no fold 3 for 'val'"):
        Esc10(root, val_fold=3).clips("val")
    with pytest.raises(ValueError, match="both 4"):
        Esc10(root, test_fold=4)
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        Esc10(root).clips("dev")
    with pytest.raises(ValueError, match="15 captions a clip; expected 1 to 14"):
        Esc10(root, captions_per_clip=15).clips("val")
    (root / "002 - Rain" / "rain.ogg").touch()
    with pytest.raises(ValueError, match=r"rain.ogg is not called fold-freesoundID-take.ogg"):
        Esc10(root).clips("val")
    (root / "002 - Rain" / "rain.ogg").rename(root / "002 - Rain" / "4-104-A.ogg")
    with pytest.raises(ValueError, match="have one name"):
        Esc10(root).clips("val")


@pytest.mark.parametrize("kind", SENTENCES)
def test_every_sentence_names_its_kind_and_no_other(kind: str) -> None:
    sentences = SENTENCES[kind]
    assert len(set(sentences)) == len(sentences) >= 12
    for sentence in sentences:
        assert kinds_named(sentence) == {kind}, sentence
        assert re.fullmatch(r"[A-Z][A-Za-z', ]+\.", sentence), sentence
        assert not re.search(
            r"\b(loud\w*|soft\w*|quiet\w*|twice|several|many|distan\w+|far|near\w*|man|woman)\b", sentence
        ), sentence


def test_words_are_whole_and_in_any_case() -> None:
    assert set(SOURCE_WORDS) == set(SENTENCES)
    assert kinds_named("A crowd seats itself in the train with fireworks, tickets and a search for a rocket.") == set()
    assert kinds_named("DOGS bark in the rain.") == {"Dog bark", "Rain"}
    assert kinds_named("") == set()


def test_captions_depend_on_kind_name_and_seed_alone() -> None:
    first = captions_for("Rain", "1-2-A.ogg", 5)
    assert first == captions_for("Rain", "1-2-A.ogg", 5)
    # Another interpreter gives the same: no hash randomisation. Recorded from the function.
    assert first == (
        "The patter of rain is heard.",
        "There is rain falling.",
        "Rain falls.",
        "Raindrops are falling.",
        "Rain pours down from the sky.",
    )
    assert len({captions_for("Rain", f"1-{number}-A.ogg", 5) for number in range(50)}) > 40
    assert captions_for("Rain", "1-2-A.ogg", 5, seed=1) != first
    with pytest.raises(ValueError, match="unknown kind 'Cat'"):
        captions_for("Cat", "1-2-A.ogg", 5)


def test_the_configuration_names_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.load(Path(__file__).parents[1] / "conf/data/esc10.yaml")
    monkeypatch.setenv("A2I_REAL_DATA", "/real")
    assert config.root == "/real/esc10"
    monkeypatch.delenv("A2I_REAL_DATA")
    monkeypatch.setenv("A2I_DATA", str(tmp_path))
    write_esc10(tmp_path / "esc10", (1, 4))
    build(config).prepare()


def test_the_real_recordings(real_data: Path) -> None:
    source = Esc10(real_data / "esc10")
    source.prepare()
    train, val = source.clips("train"), source.clips("val")
    assert len(train) == 240
    assert len(val) == 80
    kinds = source.kinds("train") | source.kinds("val")
    assert len(kinds) == 320
    assert Counter(kinds.values()) == dict.fromkeys(SENTENCES, 32)
    assert {clip.name[0] for clip in train} == {"1", "2", "3"}
    assert {clip.name[0] for clip in val} == {"4"}
    # No recording is on both sides: the Freesound number is the file name's middle.
    assert not {clip.name.split("-")[1] for clip in train} & {clip.name.split("-")[1] for clip in val}
    assert all(kinds_named(caption) == {kinds[clip.name]} for clip in train + val for caption in clip.captions)
