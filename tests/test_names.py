"""What a name, a folder or a Hub id stands for."""

from pathlib import Path

import pytest

from a2i import plugins
from a2i.names import CAPTIONER, EMBEDDED, MINI, chosen_settings, folder_or_hub_id, is_place, name_of, named_settings


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `image=mine`."""
    (tmp_path / "image").mkdir()
    own = plugins.configurations()
    monkeypatch.setattr(plugins, "configurations", lambda: [*own, tmp_path])
    return tmp_path / "image" / "mine.yaml"


def test_a_choice_is_read_with_what_it_refers_to(choice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice.write_text("colour: ${oc.env:A2I_TEST_COLOUR,blue}\nagain: ${colour}\nrate: 1e-3\n")
    assert named_settings("image", "mine") == {"colour": "blue", "again": "blue", "rate": 0.001}
    monkeypatch.setenv("A2I_TEST_COLOUR", "red")
    assert chosen_settings("image", "mine")["again"] == "red"
    choice.write_text("colour: ${oc.env:A2I_TEST_NOTHING}\n")
    with pytest.raises(ValueError, match=r"got image=mine: .*A2I_TEST_NOTHING.*mine.yaml"):
        named_settings("image", "mine")


@pytest.mark.parametrize(("group", "setting"), [("captioner", "folder"), ("image", "model")])
def test_a_choice_that_needs_a_folder_says_so(group: str, setting: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"got {group}=folder, where {setting} has no value \(\?\?\?\); expected a folder"
    ):
        named_settings(group, "folder")
    assert chosen_settings(group, tmp_path)[setting] == str(tmp_path)
    assert chosen_settings(group, "owner/name")[setting] == "owner/name"


def test_names_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert named_settings("image", "none") == {}
    assert named_settings("image", "nothing") is None
    assert named_settings("captioner", Path(MINI)) is None, "a path is no name"
    assert [is_place(text) for text in ("runs", "owner/name", "runs/typo", "a/b/c", MINI)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert folder_or_hub_id("runs", "captioner") == Path("runs")
    with pytest.raises(FileNotFoundError, match="did you mean mini"):
        folder_or_hub_id("minni", "captioner")
    assert [name_of({"_target_": CAPTIONER, "folder": place}) for place in (EMBEDDED, "x/y")] == [MINI, "x/y"]
    assert name_of({"model": "Qwen/Qwen2-Audio-7B"}) == "Qwen/Qwen2-Audio-7B"
