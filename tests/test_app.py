"""The web app: its parts, its server, and the page in a browser."""

import base64
import gc
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import tone
from filelock import FileLock
from PIL import Image

from a2i.pipeline import AudioToImage

pytest.importorskip("gradio", reason="needs the extra app")

import httpx

from a2i.app import fragments
from a2i.app.drawing import Picture, draw
from a2i.app.hearing import Look, hear, look_of, make_examples
from a2i.app.scenes import Board
from a2i.app.server import PAGES, own_folder, serving, sweep
from a2i.app.sessions import Sessions
from a2i.app.settings import check, free_port
from a2i.app.telling import Progress, Stopped, Teller
from a2i.captioner.batching import CaptionResult
from a2i.captioner.candidates import Candidate
from a2i.command_line import composed

EVIL = '<img src=x onerror="window.stolen=1">${window.stolen=2}{{stolen}}'
MAX_SECONDS = 12


@pytest.fixture(scope="module")
def a2i() -> AudioToImage:
    return AudioToImage.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the server keeps what it is sent."""
    folder = tmp_path_factory.mktemp("temporary")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def address(a2i: AudioToImage, temporary: Path) -> Iterator[str]:
    """Of the page, served by this process."""
    settings = check(composed("app", {"port": None, "max_seconds": MAX_SECONDS, "max_megabytes": 2, "queue": 2}))
    # Gradio leaves event loops to the garbage collection, whose warnings would fail whatever test is running by then.
    with warnings.catch_warnings(), ExitStack() as running:
        warnings.simplefilter("ignore")
        found = running.enter_context(serving(a2i, settings, free_port(settings.host, None)))
        gc.collect()
        yield found
        warnings.simplefilter("ignore")
        running.close()
        gc.collect()
    assert not list(temporary.iterdir())  # all is gone with the server


def sounds_left(temporary: Path) -> list[Path]:
    """Files with something in them: Gradio leaves an empty one for each file that is sent."""
    files = [path for path in temporary.rglob("*") if path.is_file() and path.parent.name != "examples"]
    return [path for path in files if path.stat().st_size]


def all_told(work: Any) -> list[Any]:
    return list(Teller().told(work))


def told_until(work: Any, enough: Callable[[Any], bool]) -> list[Any]:
    """What work tells that is stopped when it has told enough."""
    teller, told = Teller(), []

    def listen() -> None:
        for each in teller.told(work):
            told.append(each)
            if enough(each):
                teller.stop()

    with pytest.raises(Stopped):
        listen()
    return told


# --- The work


def test_work_tells_and_ends(tmp_path: Path) -> None:
    def work(teller: Teller) -> None:
        teller.tell(1)
        teller.tell(2)

    def broken(teller: Teller) -> None:
        teller.tell(1)
        raise ValueError("no more")

    assert all_told(work) == [1, 2]
    told = Teller().told(broken)
    assert next(told) == 1
    with pytest.raises(ValueError, match="no more"):
        next(told)


def test_work_that_is_stopped_or_left_ends() -> None:
    ended = threading.Event()

    def endless(teller: Teller) -> None:
        try:
            while True:
                teller.tell(0)
                time.sleep(0.001)
        finally:
            ended.set()

    teller = Teller()
    told = teller.told(endless)
    next(told)
    teller.stop()
    with pytest.raises(Stopped):
        list(told)
    assert ended.is_set()
    ended.clear()
    left = Teller().told(endless)
    next(left)
    left.close()
    assert ended.is_set()


def test_a_sound_is_looked_at_and_heard(a2i: AudioToImage, tmp_path: Path) -> None:
    sound = make_examples(tmp_path)["bell"]
    told = all_told(lambda teller: hear(teller, a2i, sound, 3, MAX_SECONDS, {}))
    (look,) = [each for each in told if isinstance(each, Look)]
    assert look.seconds == pytest.approx(len(soundfile.read(sound)[0]) / 16_000, abs=1e-3)
    assert look.shown == look.seconds
    assert (look.lows <= look.highs).all()
    assert look.highs.max() == pytest.approx(np.abs(soundfile.read(sound)[0]).max(), abs=0.2)
    found = told[-1]
    assert found.candidates[0].caption == a2i(str(sound), num_candidates=3).caption
    assert len(found.candidates) == 3


@pytest.mark.long
def test_a_long_recording_becomes_a_storyboard_and_can_be_stopped(a2i: AudioToImage, tmp_path: Path) -> None:
    made = make_examples(tmp_path)
    pieces = [soundfile.read(made[name])[0] for name in ("rain", "bell")]
    soundfile.write(tmp_path / "long.wav", np.concatenate([np.tile(each, 7) for each in pieces]), 16_000)

    def work(teller: Teller) -> None:
        hear(teller, a2i, tmp_path / "long.wav", 1, 600, {})

    told = all_told(work)
    board = told[-1]
    assert isinstance(board, Board)
    scenes = board.storyboard.scenes
    assert scenes[0].start == 0
    assert scenes[-1].end == pytest.approx(told[1].seconds, abs=0.1)
    assert [Image.open(io.BytesIO(each)).text["caption"] for each in board.pictures] == [
        each.caption for each in scenes
    ]
    assert set(board.files) == {"captions.vtt", "captions.srt", "storyboard.html"}
    assert not any(scene.image.exists() for scene in scenes)
    html = fragments.board(board, "cc-by-nc-4.0", None)
    assert html.count("<img ") == len(scenes)
    assert all(f'alt="{scene.caption}"' in html for scene in scenes)
    assert "Not for commercial use." in html
    told = told_until(work, lambda each: isinstance(each, Look))
    assert not [each for each in told if isinstance(each, Board)]


def test_a_sound_that_can_not_be_taken_says_why(a2i: AudioToImage, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", tone(440, 3), 16_000)
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(
        ValueError, match=r"^the sound is longer than 2 seconds; expected a shorter one, or a larger max_s"
    ):
        look_of(tmp_path / "long.wav", 2)
    with pytest.raises(ValueError, match=r"bad\.wav"):
        look_of(tmp_path / "bad.wav", 2)
    with pytest.raises(ValueError, match="got 9 captions to find; expected 1 to 8"):
        hear(Teller(), a2i, tmp_path / "long.wav", 9, 2, {})


def test_pictures_have_seeds_that_follow_each_other(a2i: AudioToImage) -> None:
    told = all_told(lambda teller: draw(teller, a2i, "  A dog\nbarks. ", 3, 2))
    pictures = [each for each in told if isinstance(each, Picture)]
    assert [each.seed for each in pictures] == [3, 4]
    assert pictures[0].png != pictures[1].png
    image = Image.open(io.BytesIO(pictures[1].png))
    assert image.text["caption"] == "A dog barks."  # type: ignore[attr-defined]
    assert image.text["seed"] == "4"  # type: ignore[attr-defined]
    assert a2i.painter is not None
    assert np.array_equal(image, a2i.painter.draw_batch(["A dog barks."], [4])[0].image)
    steps = [each for each in told if isinstance(each, Progress)]
    assert [each.done for each in steps] == sorted(each.done for each in steps)
    assert steps[-1].done == steps[-1].total == 16


def test_drawing_stops_between_steps(a2i: AudioToImage) -> None:
    told = told_until(
        lambda teller: draw(teller, a2i, "A dog barks.", 0, 8),
        lambda each: isinstance(each, Progress) and each.done == 3,
    )
    assert not [each for each in told if isinstance(each, Picture)]


@pytest.mark.parametrize(
    ("caption", "seed", "count", "message"),
    [
        (" ", 0, 1, "the caption has 0 characters; expected 1 to 500"),
        ("a" * 501, 0, 1, "the caption has 501 characters"),
        ("a", -1, 1, "got the seed -1"),
        ("a", 2**40, 1, "got the seed"),
        ("a", 0, 9, "got 9 pictures; expected 1 to 8"),
    ],
)
def test_what_can_not_be_drawn_says_why(a2i: AudioToImage, caption: str, seed: int, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(Teller(), a2i, caption, seed, count)


def test_without_a_picture_model_nothing_is_drawn(a2i: AudioToImage) -> None:
    with pytest.raises(ValueError, match="no picture model is loaded; expected image="):
        draw(Teller(), AudioToImage(a2i.captioner, None), "A dog barks.", 0, 1)


def test_a_session_has_its_sound_to_itself(tmp_path: Path) -> None:
    uploads, own = tmp_path / "uploads", tmp_path / "sounds"
    own.mkdir()
    sessions = Sessions(own)

    def sent() -> Path:
        (uploads / "hash").mkdir(parents=True, exist_ok=True)
        (uploads / "hash" / "dog.wav").write_bytes(b"a")
        return uploads / "hash" / "dog.wav"

    first, second = sessions.take("one", sent()), sessions.take("../../two", sent())
    assert first != second
    assert {first.parent.parent, second.parent.parent} == {own}
    assert not list(uploads.iterdir())
    newer = sessions.take("one", sent(), "never")
    assert newer.exists()
    assert (uploads / "hash" / "dog.wav").exists()
    (uploads / "hash" / "dog.wav").unlink()
    assert not first.exists()  # nobody had begun to hear it
    sessions.begin("one", newer)
    latest = sessions.take("one", newer, "never")
    assert newer.exists()
    sessions.forget(newer)
    assert latest.exists()
    teller = sessions.begin("../../two")
    sessions.end("one")
    sessions.end("../../two")
    assert not list(own.iterdir())
    with pytest.raises(Stopped):
        teller.tell(0)
    recorded = sessions.take("two", sent(), "later")
    assert (uploads / "hash" / "dog.wav").exists()
    sessions.forget(recorded)
    assert not list(uploads.iterdir())
    with pytest.raises(FileNotFoundError):
        sessions.take("three", uploads / "gone.wav")
    assert not list(own.iterdir())


def test_new_work_of_a_session_ends_its_old_one(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    old, other = sessions.begin("one"), sessions.begin("two")
    new = sessions.begin("one")
    with pytest.raises(Stopped):
        old.tell(0)
    assert not sessions.is_over("one", old)
    new.tell(0)
    other.tell(0)
    assert sessions.is_over("one", new)
    sessions.stop("one")
    new.tell(0)  # what has ended is not kept
    sessions.end_all()
    with pytest.raises(Stopped):
        other.tell(0)


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, tone(440, 0.5), 16_000)
    look = look_of(sound, 10)
    look = Look(EVIL, look.seconds, look.shown, look.lows, look.highs, look.spectrogram, look.player)
    found = CaptionResult((Candidate(EVIL, -1.0, 0.5, -1.0),), (), EVIL, 0.1)
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    drawn = Picture(png.getvalue(), EVIL, 0, True, 3)
    for html in (
        fragments.sound(look),
        fragments.heard(found, "cc-by-nc-4.0"),
        fragments.pictures([drawn], EVIL, None),
        fragments.error(EVIL),
        fragments.note(EVIL),
        fragments.status(Progress(EVIL, 1, 2)),
    ):
        assert "<img src=x" not in html
    assert "not for commercial use" in fragments.heard(found, "cc-by-nc-4.0")
    assert "black, since the safety checker refused it" in fragments.pictures([drawn], "none", None)
    assert "did not read the caption's end (3 tokens)" in fragments.pictures([drawn], "none", None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second"), (5.24, "5.2 seconds"), (60, "1 minute"), (185, "3:05 minutes"), (600, "10 minutes")],
)
def test_lengths_are_said_in_words(seconds: float, text: str) -> None:
    assert fragments.length(seconds) == text


# --- The program


def test_settings_out_of_range_are_named() -> None:
    for name, value in (("port", 0), ("max_seconds", 0), ("max_megabytes", -1), ("queue", 0)):
        with pytest.raises(ValueError, match=f"got {name}={value}; expected a whole number from 1 to"):
            check(composed("app", {name: value}))
    assert not check(composed("app", {})).is_for_others
    assert check(composed("app", {"host": "0.0.0.0"})).is_for_others
    with pytest.raises(ValueError, match=r"decoding\.num_beams"):
        check(composed("app", {"decoding.num_beams": "many"}))


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"^port {port} of 127.0.0.1 can't be had .*: port={port + 1}, or port=null"
        ):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", None) > 0
    with pytest.raises(ValueError, match=r"^got host=192\.0\.2\.1 \(.*\); expected an address of this machine"):
        free_port("192.0.2.1", 7860)  # an address for documents, which no machine has


# --- The server


def test_no_file_outside_is_served_and_nothing_is_fetched(address: str, temporary: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret words")
    api = f"{address}gradio_api/"
    with httpx.Client(trust_env=False, timeout=30) as client:
        for place in (
            "/etc/passwd",
            str(secret),
            f"..%2f..%2f..%2f..%2f..{secret}",
            "..%2f..%2fetc%2fpasswd",
            f"file://{secret}",
            "http://127.0.0.1:9/x",
            "https:/127.0.0.1:9/x",
            str(Path(__file__)),
        ):
            answer = client.get(f"{api}file={place}")
            assert answer.status_code in (400, 403, 404), place
            assert "secret words" not in answer.text
            assert "root:" not in answer.text
        assert client.get(f"{api}proxy=https://127.0.0.1:9/x").status_code == 404
        assert client.get(f"{address}static/..%2f..%2f..%2fetc%2fpasswd").status_code in (400, 403, 404)
        assert client.get(f"{address}docs").status_code == 404
        assert client.get(address, headers={"Host": "elsewhere.example"}).status_code == 400
        message = {"fn_index": 0, "session_hash": "a", "data": [{"path": "http://127.0.0.1:9/a.wav", "meta": {}}]}
        assert client.post(f"{api}queue/join", json=message).status_code == 403
        escaped = json.dumps(message).replace("http", "\\u0068ttp")
        answer = client.post(f"{api}run/predict", content=escaped, headers={"Content-Type": "application/json"})
        assert answer.status_code == 403
        assert client.post(f"{api}queue/join", content=b"a" * 2_000_000).status_code == 413
        file = {"files": ("a.wav", b"a" * 3_000_000)}
        assert client.post(f"{api}upload", files=file).status_code == 413
    assert sounds_left(temporary) == []


def test_what_the_page_never_asks_for_is_refused(address: str, temporary: Path, tmp_path: Path) -> None:
    play_list = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    with httpx.Client(trust_env=False, timeout=30) as client:
        video = {"video": ("a.webm", play_list.encode())}
        assert client.post(f"{address}gradio_api/process_recording", files=video).status_code == 404
        for word in ("info", "openapi.json", "monitoring/summary", "vibe-edit", "runs"):
            assert client.get(f"{address}gradio_api/{word}").status_code == 404, word
        sound = {"files": ("a.wav", b"a" * 1_000)}
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert client.post(f"{address}gradio_api/upload", files=sound, headers=elsewhere).status_code == 403
        assert client.get(address, headers=elsewhere).status_code == 200  # a link to the page
        deep = {"content": b"[" * 500_000, "headers": {"Content-Type": "application/json"}}
        assert client.post(f"{address}gradio_api/queue/join", **deep).status_code in (400, 422)
    assert sounds_left(temporary) == []


def test_a_file_of_this_machine_is_no_sound_to_hear(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, tone(440, 0.5), 16_000)
    with httpx.Client(trust_env=False, timeout=30) as client:
        for index in (0, 1):  # the file and the recording
            path = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
            client.post(
                f"{address}gradio_api/run/predict", json={"fn_index": index, "session_hash": "b", "data": [path]}
            )
    assert secret.exists()


def test_of_visitors_who_do_not_say_goodbye_the_last_are_remembered(address: str) -> None:
    from gradio.state_holder import StateHolder

    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(PAGES + 5):
            message = {"fn_index": 0, "session_hash": f"visitor {number}", "data": [None]}
            client.post(f"{address}gradio_api/run/predict", json=message)
    every = [each.session_data for each in gc.get_objects() if isinstance(each, StateHolder)]
    (remembered,) = (each for each in every if f"visitor {PAGES}" in each)
    assert [*remembered] == [f"visitor {number}" for number in range(5, PAGES + 5)]


def test_uploads_that_nobody_takes_are_swept_away(tmp_path: Path) -> None:
    for name, age in (("old", 700), ("new", 500)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(b"a")
        os.utime(tmp_path / name / "a.wav", (time.time() - age,) * 2)
    sweep(tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("*.wav")] == ["new"]


def test_uploads_may_vanish_while_others_are_swept_away(tmp_path: Path) -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(30):
                (tmp_path / str(number)).mkdir()
            for number in range(30):
                (tmp_path / str(number)).rmdir()

    visitors = threading.Thread(target=come_and_go)
    visitors.start()
    try:
        for _ in range(300):
            sweep(tmp_path)
    finally:
        ended.set()
        visitors.join()


def test_what_apps_that_were_killed_left_goes_when_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, others = tmp_path / "temporary", tmp_path / "others"
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for folder in (temporary / "a2i-app-killed", temporary / "a2i-app-runs", temporary / "a2i-else", others):
        folder.mkdir(parents=True)
        (folder / ".lock").write_text("kept", encoding="utf-8")
        (folder / "private.wav").touch()
        os.utime(folder, (time.time() - 100,) * 2)
    (temporary / "a2i-app-begins").mkdir()
    (temporary / "a2i-app-before-locks").mkdir()
    os.utime(temporary / "a2i-app-before-locks", (time.time() - 100_000,) * 2)
    (temporary / "a2i-app-leads-elsewhere").symlink_to(others)
    with FileLock(temporary / "a2i-app-runs" / ".lock"), own_folder() as own:
        assert {path.name for path in temporary.iterdir()} == {
            *("a2i-app-runs", "a2i-else", "a2i-app-begins", "a2i-app-leads-elsewhere"),
            own.name,
        }
        with own_folder():
            assert own.is_dir(), "another app that is running"
    assert not own.exists()
    assert (others / ".lock").read_text(encoding="utf-8") == "kept"
    assert (others / "private.wav").exists()


# --- The page


@pytest.fixture
def open_app(opened: Any, address: str) -> Callable[..., Any]:
    """Opens the page, without what Gradio's own script remarks on whatever an upload or a recording does."""

    def open_page(**settings: Any) -> Any:
        page = opened(address, **settings)
        page.evaluate(
            """() => { const said = console.warn, known = ["Method not implemented.", "https://svelte.dev/e/derived_inert"];
            console.warn = (...words) => known.some((each) => String(words[0]).includes(each)) || said(...words); }"""
        )
        shown(page, "#draw")
        return page

    return open_page


def shown(page: Any, selector: str, timeout: float = 60) -> Any:
    page.wait_for_selector(selector, timeout=timeout * 1000)
    return page.locator(selector)


def told(page: Any, text: str, timeout: float = 60) -> None:
    page.wait_for_function(
        "text => document.getElementById('status').innerText.includes(text)", arg=text, timeout=timeout * 1000
    )


@pytest.mark.browser
def test_a_sound_becomes_captions_and_pictures(open_app: Any, temporary: Path, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    def serious() -> list[str]:
        found = Axe().run(page).response["violations"]
        return [f"{each['id']}: {each['nodes']}" for each in found if each["impact"] in ("serious", "critical")]

    page = open_app()
    assert serious() == []
    page.get_by_role("button", name="Rain").click()
    caption = shown(page, "#heard .caption").inner_text()
    told(page, "Done.")
    assert re.search(r"\d+% sure; this caption is not for commercial use", page.inner_text("#heard"))
    assert page.locator("#look audio").get_attribute("aria-label") == "rain.wav"
    assert page.locator("#look svg").get_attribute("aria-label") == "Waveform of rain.wav"
    assert page.evaluate("document.querySelector('#look audio').duration") > 4
    assert sounds_left(temporary) == []
    choices = page.locator("#choice label")
    assert choices.count() == 3
    box = page.locator("#caption textarea")
    assert box.input_value() == caption
    choices.nth(1).click()
    page.wait_for_function("old => document.querySelector('#caption textarea').value != old", arg=caption)
    assert choices.nth(1).inner_text().startswith(box.input_value())
    box.fill(f"A dog barks. {EVIL}")
    page.locator("#number input[type=number]").fill("2")
    page.locator("#seed input").fill("5")
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    shown(page, "#pictures li:nth-child(2) img")
    told(page, "Done.")
    images = page.locator("#pictures img")
    assert [images.nth(index).get_attribute("alt") for index in (0, 1)] == [f"A dog barks. {EVIL}"] * 2
    assert "Seed 5, style none" in page.inner_text("#pictures")
    png = base64.b64decode(images.nth(1).get_attribute("src").partition(",")[2])
    assert Image.open(io.BytesIO(png)).text["seed"] == "6"  # type: ignore[attr-defined]
    assert serious() == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_files_that_are_dropped(open_app: Any, temporary: Path, tmp_path: Path) -> None:
    page = open_app()
    chooser = page.locator("#file input[type=file]")
    sound = tmp_path / "<img src=x onerror=window.stolen=1> ${1}.flac"
    soundfile.write(sound, np.stack([tone(440, 2.0, 44_100)] * 2, 1), 44_100)
    chooser.set_input_files(sound)
    shown(page, "#heard .caption")
    told(page, "Done.")
    assert "2 seconds" in page.inner_text("#look figcaption")
    assert sounds_left(temporary) == []
    (tmp_path / "bad.wav").write_text("no sound")
    page.locator("#file input[type=file]").set_input_files(tmp_path / "bad.wav")
    alert = shown(page, "#status [role=alert]").inner_text()
    assert alert.startswith("bad.wav: ")
    assert str(temporary) not in alert
    assert page.locator("#heard .caption").count() == 0  # nothing is shown of the sound before
    assert sounds_left(temporary) == []
    soundfile.write(tmp_path / "long.flac", tone(440, MAX_SECONDS + 1), 16_000)
    page.locator("#file input[type=file]").set_input_files(tmp_path / "long.flac")
    told(page, f"the sound is longer than {MAX_SECONDS} seconds")
    assert sounds_left(temporary) == []
    (tmp_path / "large.wav").write_bytes(bytes(2_100_000))
    page.locator("#file input[type=file]").set_input_files(tmp_path / "large.wav")
    alert = shown(page, "#too-large").inner_text()
    assert alert == "large.wav has 2.1 MB; expected a sound of at most 2 MB"
    assert sounds_left(temporary) == []


@pytest.mark.browser
def test_a_recording_from_the_microphone(open_app: Any, temporary: Path) -> None:
    page = open_app(permissions=["microphone"])
    page.locator("#microphone").get_by_role("button", name="Record").click()
    page.wait_for_timeout(1_500)
    page.locator("#microphone").get_by_role("button", name="Stop").click()
    shown(page, "#heard .caption")
    told(page, "Done.")
    assert sounds_left(temporary) == []


@pytest.mark.browser
def test_drawing_is_stopped(open_app: Any) -> None:
    page = open_app()
    shown(page, "#caption textarea").fill("A dog barks.")
    page.locator("#number input[type=number]").fill("8")
    page.get_by_role("button", name="Draw").click()
    told(page, "Drawing picture 1 of 8")
    page.get_by_role("button", name="Stop").click()
    told(page, "Stopped.")
    assert page.locator("#pictures img").count() < 8
    assert page.locator("#stop").is_disabled()


# Last, since what waits in the queue is drawn until the server ends.
def fill_queue(address: str) -> list[httpx.Response]:
    with httpx.Client(trust_env=False, timeout=30) as client:
        events = client.get(f"{address}config").json()["dependencies"]
        (drawing,) = [each["id"] for each in events if len(each["inputs"]) == 3]
        return [
            client.post(
                f"{address}gradio_api/queue/join",
                json={"fn_index": drawing, "session_hash": f"queue {index}", "data": ["A dog barks.", 0, 8]},
            )
            for index in range(6)
        ]


def test_a_full_queue_takes_no_more(address: str) -> None:
    answers = fill_queue(address)
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 503
    assert "Queue is full" in answers[-1].text


@pytest.mark.browser
def test_the_page_says_that_it_is_busy(browser: Any, address: str) -> None:
    page = browser.new_page()  # `opened` would fail on what the console says of the refusal
    page.goto(address)
    shown(page, "#draw")
    fill_queue(address)
    page.get_by_role("button", name="Rain").click()
    told(page, "If the page is busy, try again in a minute.")
    assert "This application is currently busy" in page.inner_text("body")
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_end_it_in_one_line(number: int, tmp_path: Path) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("needs a shell that does not ignore the signal")
    from conftest import listen_to_ctrl_c

    with subprocess.Popen(
        [sys.executable, "-m", "a2i.app", "port=null", "image=none"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as program:  # fmt: skip
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(line)
            if line.startswith("the page is at http://127.0.0.1:"):
                break
        program.send_signal(number)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert errors.strip() == "stopped; no sound is left"  # and no traceback
    assert not list(tmp_path.iterdir())
