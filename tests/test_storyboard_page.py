import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import tone
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from a2i.storyboard import Scene, Storyboard, clock, page
from a2i.storyboard.page import ticks, write_page
from a2i.storyboard.sound import RATE, mp3

EVIL = '<script>window.stolen = 1</script> & "quoted" <img src=x onerror="window.stolen = 2">'
CAPTIONS = ["A low tone sounds.", EVIL, "A high tone sounds.", "Nothing is heard."]
COLOURS = ["red", "lime", "blue"]


@pytest.fixture
def storyboard(tmp_path: Path) -> Storyboard:
    """Four scenes of 2 s; the last has no picture. Names and captions are hostile."""
    source = tmp_path / "a <b onclick=window.stolen=3> & 'tone'.wav"
    soundfile.write(source, tone(440, 8.0), 16_000)
    scenes = []
    for index, caption in enumerate(CAPTIONS):
        image = None
        if index < len(COLOURS):
            image = tmp_path / f"{index}.png"
            Image.new("RGB", (64, 64), COLOURS[index]).save(image)
        scenes.append(Scene(2.0 * index, 2.0 * index + 2, caption, 0.25 * index, (caption, EVIL), image))
    return Storyboard(source, tuple(scenes), 7, "tiny", EVIL, f"it is cut short {EVIL}")


def at(opened_page: Any, seconds: float) -> int:
    """Seek, and wait until the page shows it; the index of the scene that it shows."""
    opened_page.evaluate(
        "at => new Promise((done) => { sound.addEventListener('seeked', done, { once: true }); sound.currentTime = at; })",
        seconds,
    )
    return opened_page.evaluate("cards.findIndex((card) => card.ariaCurrent === 'true')")


def until(opened_page: Any, condition: str) -> None:
    """Wait. Playwright's own way is evaluating text in the page, which the page's security policy forbids."""
    deadline = time.monotonic() + 20
    while not opened_page.evaluate(condition):
        assert time.monotonic() < deadline, f"never: {condition}"
        opened_page.wait_for_timeout(20)


def test_a_short_sound_lies_in_the_page(storyboard: Storyboard, tmp_path: Path) -> None:
    path = write_page(storyboard, tmp_path / "out")
    assert path == tmp_path / "out" / "storyboard.html"
    assert [each.name for each in path.parent.iterdir()] == ["storyboard.html"]
    text = path.read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert "<b onclick" not in text
    assert 'src="data:audio/mpeg;base64,' in text
    assert text.count('src="data:image/webp;base64,') == 3


def test_the_sound_is_as_long_as_the_recording(storyboard: Storyboard, tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_bytes(mp3(storyboard.source, 8.0))
    heard, rate = soundfile.read(tmp_path / "x.mp3")
    assert rate == RATE
    assert len(heard) / rate == pytest.approx(8.0, abs=0.1)
    assert heard[RATE : 2 * RATE].std() == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_a_recording_that_is_gone_and_a_picture_that_is_broken_are_told(storyboard: Storyboard, tmp_path: Path) -> None:
    storyboard.source.unlink()
    (tmp_path / "1.png").write_bytes(b"none")
    text = write_page(storyboard, tmp_path / "out").read_text(encoding="utf-8")
    assert "<audio" not in text
    assert "No sound:" in text
    assert "No such file or directory" in text
    assert "No picture:" in text
    assert "can&#39;t be read as a picture" in text


@given(st.floats(0.1, 1e6))
def test_ticks_are_few_and_lie_on_the_axis(seconds: float) -> None:
    found = ticks(seconds)
    assert 1 <= len(found) <= 13
    assert found[0] == (0.0, "0:00")
    assert all(0 <= place <= 90 for place, _ in found)


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 750, 3723, 360000)] == [
        "0:00",
        "0:07",
        "12:30",
        "1:02:03",
        "100:00:00",
    ]


@pytest.mark.browser
def test_the_player_the_timeline_and_the_scenes_show_the_same(
    storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path
) -> None:
    shown = opened(write_page(storyboard, tmp_path / "out"))
    cards = shown.locator(".card")
    assert cards.count() == 4
    assert shown.locator("h1").text_content() == storyboard.source.name
    assert [cards.nth(index).locator("img").get_attribute("alt") for index in range(3)] == CAPTIONS[:3]
    assert [cards.nth(index).locator(".caption").text_content() for index in range(4)] == CAPTIONS
    widths = shown.evaluate("stretches.map((each) => Math.round(each.getBoundingClientRect().width))")
    assert max(widths) - min(widths) <= 1
    assert [at(shown, seconds) for seconds in (0.5, 2.0, 7.5, 3.9, 4.0)] == [0, 1, 3, 1, 2]
    assert shown.locator("#picture").get_attribute("alt") == CAPTIONS[2]
    assert at(shown, 6.5) == 3
    assert not shown.locator("#picture").is_visible()
    # The timeline: a click at five eighths is second 5.
    box = shown.locator("#timeline").bounding_box()
    shown.mouse.click(box["x"] + box["width"] * 5 / 8, box["y"] + 5)
    assert 4.9 < shown.evaluate("sound.currentTime") < 6
    assert not shown.evaluate("sound.paused")
    cards.nth(1).click()
    until(shown, "sound.currentTime > 2.2")
    assert shown.evaluate("current") == 1
    shown.evaluate("sound.pause()")


@pytest.mark.browser
def test_keys_do_all_that_a_mouse_does(storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path) -> None:
    shown = opened(write_page(storyboard, tmp_path / "out"))
    focused = "cards.indexOf(document.activeElement)"
    shown.evaluate("cards[0].focus()")
    found = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft", "ArrowDown"):
        shown.keyboard.press(key)
        found.append(shown.evaluate(focused))
    assert found == [1, 2, 1, 3, 3, 0, 0, 0]  # all four stand in one row
    assert shown.evaluate("cards.filter((card) => card.tabIndex === 0).length") == 1
    assert shown.evaluate("sound.paused"), "moving is not yet playing"
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("Enter")
    until(shown, "sound.currentTime > 2.1 && !sound.paused")
    shown.keyboard.press("Space")
    assert shown.evaluate("[sound.paused, current]") == [True, 1]
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("Space")
    until(shown, "sound.currentTime > 4 && !sound.paused")
    assert shown.evaluate("current") == 2
    shown.evaluate("document.activeElement.blur()")
    shown.keyboard.press("Space")
    assert shown.evaluate("sound.paused")


@pytest.mark.browser
def test_a_scene_that_begins_is_announced_once_unless_it_is_not_wanted(
    storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path
) -> None:
    shown = opened(write_page(storyboard, tmp_path / "out"))
    status = shown.get_by_role("status")
    assert status.text_content() == ""
    shown.evaluate("sound.currentTime = 3.7; sound.play()")
    until(shown, "current === 2")
    assert status.text_content() == CAPTIONS[2]
    shown.locator("#announce").uncheck()
    shown.evaluate("sound.currentTime = 5.7")
    until(shown, "current === 3")
    assert status.text_content() == CAPTIONS[2]


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_and_narrow_screens_hold_the_page(
    scheme: str, width: int, storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    settings = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    shown = opened(write_page(storyboard, tmp_path / "out"), **settings)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(shown).response["violations"]
    assert [(each["id"], each["impact"], [node["html"] for node in each["nodes"]]) for each in found] == []


@pytest.mark.browser
def test_a_long_sound_lies_beside_the_page_and_can_be_sought(
    storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 5.0)
    path = write_page(storyboard, tmp_path / "out")
    assert sorted(each.name for each in path.parent.iterdir()) == ["storyboard.html", "storyboard.mp3"]
    shown = opened(path)
    until(shown, "sound.readyState >= 1")
    assert shown.evaluate("sound.duration") == pytest.approx(8.0, abs=0.1)
    assert [at(shown, seconds) for seconds in (7.0, 1.0, 4.0)] == [3, 0, 2]


@pytest.mark.browser
def test_without_sound_the_scenes_can_still_be_looked_at(
    storyboard: Storyboard, opened: Callable[..., Any], tmp_path: Path
) -> None:
    storyboard.source.unlink()
    bare = replace(storyboard, scenes=tuple(replace(scene, image=None) for scene in storyboard.scenes))
    shown = opened(write_page(bare, tmp_path / "out"))
    shown.locator(".card").nth(2).click()
    assert shown.locator("#what").text_content() == CAPTIONS[2]
    shown.evaluate("cards[2].focus()")
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("Enter")
    assert shown.locator("#what").text_content() == CAPTIONS[3]
