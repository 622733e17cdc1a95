"""MACS: its YAML, and a division by place."""

from pathlib import Path

import pytest

from a2i.data.macs import Macs, place_of

FILE = """  - filename: {name}
    annotations:
      - annotator_id: 1
        sentence: {first}
        tags: [birds_singing, adults_talking]
      - annotator_id: 2
        sentence: "People talk:  far\n          away."
        tags: []
"""


def write(root: Path, names: list[str]) -> Path:
    (root / "audio").mkdir(parents=True, exist_ok=True)
    files = "".join(FILE.format(name=name, first=f"Birds sing in {number}.") for number, name in enumerate(names))
    (root / "MACS.yaml").write_text("files:\n" + files)
    for name in names:
        (root / "audio" / name).touch()
    return root


NAMES = [f"{scene}-{city}-{place}-{part}-a.wav" for scene in ("park", "airport") for city in ("lisbon", "vienna")
         for place in range(6) for part in range(2)]  # fmt: skip


def test_each_place_is_on_one_side(tmp_path: Path) -> None:
    source = Macs(write(tmp_path, NAMES), val_share=0.25, test_share=0.25)
    sides = {split: source.clips(split) for split in ("train", "val", "test")}
    assert sum(map(len, sides.values())) == len(NAMES)
    places = [{clip.recording for clip in clips} for clips in sides.values()]
    assert sum(map(len, places)) == len(set().union(*places)) == 24
    assert sides["train"][0].captions[1] == "People talk: far away."
    assert place_of("park-lisbon-3-41-a.wav") == "park-lisbon-3"


def test_another_file_than_the_official_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Macs(write(tmp_path, NAMES)).prepare()
    assert "MACS.yaml is not the file that Zenodo has" in caplog.text
    (tmp_path / "audio" / Macs(tmp_path).clips("train")[0].name).unlink()
    with pytest.raises(FileNotFoundError, match=r"MACS train: 1 of .* clips have no file .* at most 0% may be missing"):
        Macs(tmp_path).clips("train")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "files: 3",
        "files: [1]",
        "files: [{filename: a.wav}]",
        "a: [",
        "!!python/object/apply:os.system ['exit 1']",
        "\x07",
    ],
)
def test_what_is_no_such_yaml(content: str, tmp_path: Path) -> None:
    (tmp_path / "MACS.yaml").write_text(content)
    with pytest.raises(
        ValueError, match=r"MACS.yaml: can't be read .*; expected files, each with filename and annotations"
    ):
        Macs(tmp_path).clips("train")


def test_a_file_without_a_sentence_and_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "MACS.yaml").write_text("files: [{filename: a.wav, annotations: []}]")
    with pytest.raises(ValueError, match=r"'a.wav' has no sentence"):
        Macs(tmp_path).clips("train")
    with pytest.raises(
        FileNotFoundError, match=r"no captions at .*; put there MACS.yaml of https://zenodo.org/records/5114771"
    ):
        Macs(tmp_path / "none").clips("train")
    with pytest.raises(ValueError, match=r"got val_share=0\.5, test_share=0\.5"):
        Macs(tmp_path, val_share=0.5, test_share=0.5)
