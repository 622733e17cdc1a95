import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import programs
import pytest
import soundfile
from conftest import full_disk, listen_to_ctrl_c, make_captioner, tone
from PIL import Image

from a2i.captioner.candidates import Candidate
from a2i.captioner.text import CaptionTokenizer
from a2i.command_line import arguments
from a2i.compose import plain
from a2i.infer import check
from a2i.infer import run as run_here
from a2i.paths import CONF
from a2i.pipeline import AudioToImage
from a2i.results import ResultsFile, RowSettings
from a2i.rows import infer


def here(*given: str) -> int:
    """The command in this process: how many sounds failed."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = arguments(["device=cpu", *given], "infer", "audio")
        return run_here(check(plain(hydra.compose("infer", overrides))))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run("infer", "device=cpu", *arguments)


def results(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_one_bad_file_never_stops_the_others(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    """The whole command, on names as Clotho has them, through a local diffusers folder."""
    (sounds / "high.wav").rename(sounds / "Rain, wind & (it's) = 50% [take 2].wav")
    (sounds / "broken.mp3").write_text("no sound")
    nameless = os.fsencode(sounds) + b"/\xff.wav"
    Path(os.fsdecode(nameless)).write_bytes(b"no sound either")
    (sounds / "notes.md").write_text("not for listening")
    out = tmp_path / "my out"
    done = run(
        f"audio={sounds}",
        f"captioner={captioner_folder}",
        f"image={painter_folder}",
        "image.steps=1",
        f"out={out}",
        "seed=3",
    )
    assert done.returncode == 1, done.stderr
    assert "3 of 5 done, 2 failed" in done.stdout
    assert "skipped 1 file: 1 .md" in done.stdout
    rows = {Path(str(row["audio"])).name: row for row in results(out)}
    assert set(rows) == {"Rain, wind & (it's) = 50% [take 2].wav", "broken.mp3", "low.wav", "middle.wav", "%FF.wav"}
    for name, row in rows.items():
        assert {
            "audio",
            "caption",
            "candidates",
            "image",
            "seed",
            "captioner",
            "image_model",
            "seconds",
            "error",
        } <= set(row)
        assert row["seed"] == 3
        assert row["captioner"] == str(captioner_folder)
        assert row["image_model"] == str(painter_folder)
        if name in ("broken.mp3", "%FF.wav"):
            assert row["caption"] is None
            assert row["image"] is None
            assert "can't be read as sound" in str(row["error"])
        else:
            assert row["error"] is None
            assert row["caption"] == row["candidates"][0]  # type: ignore[index]
            assert row["image"] == str(out / f"{Path(name).stem}.png")
            with Image.open(str(row["image"])) as image:
                assert image.text["caption"] == row["caption"]  # type: ignore[attr-defined]
                assert image.text["seed"] == "3"  # type: ignore[attr-defined]
    assert len(list(out.iterdir())) == 4


def test_captions_alone_of_one_awkward_name(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    awkward = sounds / "a=b, c (d).wav"
    (sounds / "low.wav").rename(awkward)
    done = run(
        f"audio={awkward}",
        f"captioner={captioner_folder}",
        "image=none",
        f"out={tmp_path / 'out'}",
        "decoding.num_beams=3",
        "decoding.num_candidates=3",
    )
    assert done.returncode == 0, done.stderr
    (row,) = results(tmp_path / "out")
    assert row["image"] is None
    assert row["image_model"] is None
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["results.jsonl"]


WATCH = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{event} {arguments}\\n")
        raise OSError("no network in this test")

sys.addaudithook(refuse)
"""


@pytest.mark.long
def test_the_embedded_models_need_no_network(sounds: Path, tmp_path: Path) -> None:
    """With an empty cache, and every attempt to reach anything refused and written down."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "network.log"
    away = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    away |= {"PYTHONPATH": str(tmp_path), "NETWORK_LOG": str(log), "HF_HOME": str(tmp_path / "cache")}
    asked = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    control = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, env=away)
    assert "no network in this test" in control.stderr
    assert log.read_text()
    log.unlink()
    command = [sys.executable, "-m", "a2i.infer", f"audio={sounds / 'low.wav'}", f"out={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=away)
    assert done.returncode == 0, done.stderr
    assert "using the small embedded captioner and painter; for full ones: captioner=FOLDER and image=" in done.stdout
    (row,) = results(tmp_path / "out")
    assert Path(str(row["image"])).is_file()
    assert not log.exists(), log.read_text()


def test_a_list_with_a_missing_file(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    done = run(
        f"audio=[{sounds / 'low.wav'},{sounds / 'gone.wav'}]",
        f"captioner={captioner_folder}",
        "image=none",
        f"out={tmp_path}",
    )
    assert done.returncode == 1
    assert [row["error"] is None for row in results(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["image=none"], "no sound given"),
        (["audio={sounds}/*.flac", "image=none"], "no file matches"),
        (["audio={sounds}", "image=none", "captioner={sounds}"], "expected a captioner folder"),
        (["audio={sounds}/low.wav", "image=none", "captioner={captioner}", "decoding.beams=2"], "beams"),
        (
            ["audio={sounds}/low.wav", "image=none", "captioner={captioner}", "decoding.num_beams=two"],
            "num_beams='two'",
        ),
        (["audio={sounds}/low.wav", "image=none", "captioner={captioner}", "device=gpu"], "device='gpu'"),
        (["audio={sounds}/low.wav", "image=none", "seed=null"], "got seed=null"),
        (["audio={sounds}/low.wav", "image=none", "out={sounds}/high.wav"], "which is a file"),
    ],
)
def test_bad_input_ends_in_a_clear_line(
    sounds: Path, captioner_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {"sounds": sounds, "captioner": captioner_folder}
    done = run(f"out={tmp_path / 'out'}", *(argument.format(**places) for argument in arguments))
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_nothing_is_lost_by_an_interruption(captioner_folder: Path, tmp_path: Path) -> None:
    """Ctrl-C, then kill -9, then to the end: every row once, and those that were there as they were."""
    many = tmp_path / "many"
    many.mkdir()
    soundfile.write(many / "0.wav", tone(300.0, 0.1), 16_000)
    for index in range(1, 600):
        os.link(many / "0.wav", many / f"{index}.wav")
    asked = [f"audio={many}", f"captioner={captioner_folder}", "image=none", f"out={tmp_path / 'out'}", "batch_size=4"]
    asked += ["decoding.num_beams=1", "decoding.num_candidates=1"]
    file = tmp_path / "out" / "results.jsonl"
    kept: list[str] = []
    for stop in (signal.SIGINT, signal.SIGKILL):
        command = [sys.executable, "-m", "a2i.infer", "device=cpu", *asked]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
        )
        size = file.stat().st_size if file.exists() else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (file.exists() and file.stat().st_size > size):
            time.sleep(0.02)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[: len(kept)] == kept
        assert len(kept) < len(lines) < 600
        if stop == signal.SIGINT:
            assert process.returncode == 130
            assert "interrupted" in errors
            assert "the same command again goes on" in errors
            assert "Traceback" not in errors
            assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]
        else:
            file.write_bytes(file.read_bytes()[:-20])  # as if it had been killed while it wrote
            lines = lines[:-1]
        kept = lines
    assert here(*asked) == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[: len(kept)] == kept
    assert sorted(json.loads(line)["audio"] for line in lines) == sorted(map(str, many.iterdir()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]


def test_run_again_it_goes_on(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = [f"captioner={captioner_folder}", f"image={painter_folder}", "image.steps=1", f"out={out}"]

    def rows() -> dict[str, dict[str, object]]:
        found = {Path(str(row["audio"])).name: row for row in results(out)}
        assert len(found) == len(results(out))
        return found

    assert here(f"audio={sounds / 'low.wav'}", *asked) == 0
    low = rows()["low.wav"]
    assert here(f"audio={sounds / 'high.wav'}", *asked) == 0
    assert list(rows()) == ["low.wav", "high.wav"]
    assert rows()["low.wav"] == low
    # One sound's picture is gone, another is asked for the first time; a third is broken, and tried again each time.
    (sounds / "broken.wav").write_text("no sound")
    (out / "high.png").unlink()
    capsys.readouterr()
    assert here(f"audio={sounds}", *asked) == 1
    assert (
        "3 of 4 done, 1 of them already before (to make all anew: again=true, or a2i --again), 1 failed"
        in capsys.readouterr().out
    )
    assert rows()["low.wav"] == low
    assert (out / "high.png").is_file()
    soundfile.write(sounds / "broken.wav", tone(500.0, 0.5), 16_000)
    assert here(f"audio={sounds}", *asked) == 0
    assert rows()["broken.wav"]["error"] is None
    # Captions are there where they have pictures too; nothing is loaded to see that.
    before = rows()
    capsys.readouterr()
    assert here(f"audio={sounds}", *asked[:1], "image=none", asked[-1]) == 0
    shown = capsys.readouterr().out
    assert "4 of 4 done, 4 of them already before" in shown
    assert rows() == before
    # A copy of a sound is the same sound with another time; a changed one is another.
    os.utime(sounds / "high.wav", (1, 1))
    soundfile.write(sounds / "low.wav", tone(900.0, 0.5), 16_000)
    assert here(f"audio={sounds}", *asked) == 0
    assert "3 of them already before" in capsys.readouterr().out
    assert rows()["low.wav"]["audio_file"] != low["audio_file"]
    assert rows()["low.wav"]["image"] == low["image"]
    # Other settings and `again` make anew, in the same pictures.
    assert here(f"audio={sounds / 'low.wav'}", *asked, "seed=5") == 0
    assert rows()["low.wav"]["seed"] == 5
    assert here(f"audio={sounds}", *asked, "again=true") == 0
    assert {row["seed"] for row in rows().values()} == {0}
    assert len(list(out.iterdir())) == 5


def test_no_sound_takes_anothers_picture(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    """Equal names in one run and in later ones, names of any length, and a picture that someone else put there."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "high.png").write_bytes(b"someone's own")
    other = tmp_path / "b"
    other.mkdir()
    names = ["low.wav", "LOW.wav", "low~2.wav", "caf\u00e9.wav", "cafe\u0301.wav", "high.wav", "é" * 125 + ".wav"]
    for index, name in enumerate(names):
        soundfile.write(other / name, tone(300.0 + 100 * index, 0.5), 16_000)
    asked = [f"captioner={captioner_folder}", f"image={painter_folder}", "image.steps=1", f"out={out}"]
    assert here(f"audio={sounds / 'low.wav'}", *asked) == 0
    assert here(f"audio={other}", *asked) == 0
    assert here(f"audio={sounds}", *asked) == 0
    pictures = [Path(str(row["image"])) for row in results(out)]
    assert len(pictures) == len({picture.name.casefold() for picture in pictures}) == len(names) + 3
    assert all(picture.is_file() for picture in pictures)
    assert (out / "high.png").read_bytes() == b"someone's own"
    assert results(out)[0]["image"] == str(out / "low.png")
    before = {row["audio"]: row["image"] for row in results(out)}
    assert here(f"audio={other}", *asked, "again=true") == 0
    assert {row["audio"]: row["image"] for row in results(out)} == before


@pytest.mark.long
def test_two_processes_share_a_folder(
    captioner_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second waits, then finds done what the first did: each sound is done once."""
    many = tmp_path / "many"
    many.mkdir()
    for index in range(200):
        soundfile.write(many / f"{index}.wav", tone(300.0, 0.1), 16_000)
    asked = ["device=cpu", f"audio={many}", f"captioner={captioner_folder}", "image=none", f"out={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "a2i.infer", *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        while first.poll() is None and not (tmp_path / "out" / "results.jsonl").exists():
            time.sleep(0.02)
        assert here(*asked) == 0
        told = first.communicate(timeout=200)
    assert first.returncode == 0, told
    assert "200 of 200 done; " in told[0]
    assert "200 of 200 done, 200 of them already before" in capsys.readouterr().out
    assert sorted(str(row["audio"]) for row in results(tmp_path / "out")) == sorted(map(str, many.iterdir()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]


@pytest.mark.long
def test_names_that_no_terminal_shows(captioner_folder: Path, tmp_path: Path) -> None:
    """All go on where output is ASCII or closed, and no name controls the terminal."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for name in (b"\xff.wav", "звук.wav".encode(), b"two\nlines.wav", b"\x1b[31mred.wav"):
        soundfile.write(os.fsencode(sounds) + b"/" + name, tone(300.0, 0.1), 16_000, format="WAV")
    command = [sys.executable, "-m", "a2i.infer", "device=cpu", f"audio={sounds}", f"captioner={captioner_folder}"]
    command += ["image=none", f"out={tmp_path / 'out'}"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, check=False, env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert rb"\u0437\u0432\u0443\u043a.wav" in done.stdout
    assert rb"two\nlines.wav" in done.stdout
    assert b"\x1b[31mred" not in done.stdout
    names = {Path(str(row["audio"])).name for row in results(tmp_path / "out")}
    assert names == {"%FF.wav", "звук.wav", "two\nlines.wav", "\x1b[31mred.wav"}
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *command, "again=true"], check=False)
    assert done.returncode == 0


def test_a_number_that_is_none_is_an_error(sounds: Path, tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    captioner.caption = lambda waveforms, **_: [[Candidate("A hum.", *[float("nan")] * 3)] for _ in waveforms]
    with ResultsFile(tmp_path / "out") as kept:
        (row,) = infer(AudioToImage(captioner, None), [sounds / "low.wav"], kept, RowSettings("a", None), 0, {})
        kept.add(row)
    assert row["caption"] is None
    assert "numbers that are none" in row["error"]
    assert "NaN" not in kept.path.read_text().replace("(NaN or infinite)", "")


def test_where_nothing_can_be_written_the_run_ends_clearly(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    """A limit on files' sizes stands for a full disk: what is there stays, and nothing is left half written."""
    out = tmp_path / "out"
    asked = [
        f"audio={sounds}",
        f"captioner={captioner_folder}",
        f"image={painter_folder}",
        "image.steps=1",
        f"out={out}",
    ]
    with full_disk(1000):
        with pytest.raises(
            OSError, match=r"out: can't write the picture of .*high\.wav \(File too large\); what was done"
        ):
            here(*asked)
        with pytest.raises(OSError, match=r"results\.jsonl: can't be written \(File too large\); what was done"):
            here(*asked[:2], "image=none", asked[-1])
    (row,) = results(out)
    assert [path.name for path in out.iterdir()] == ["results.jsonl"]
    assert here(*asked[:2], "image=none", asked[-1]) == 0
    assert results(out)[0] == row
    assert len(results(out)) == 3


def test_a_message_says_what_a_path_is_relative_to(
    sounds: Path, captioner_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sounds)
    assert (
        here("audio=[low.wav,gone.wav]", f"captioner={captioner_folder}", "image=none", f"out={tmp_path / 'out'}") == 1
    )
    assert str(results(tmp_path / "out")[1]["error"]).endswith(f"(relative paths begin in {sounds})")


def test_a_sound_that_was_cut_is_captioned_and_told(
    sounds: Path, captioner_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sounds / "cut.wav").write_bytes((sounds / "low.wav").read_bytes()[:-4000])
    named = f"audio=[{sounds / 'cut.wav'},{sounds / 'low.wav'}]"
    assert here(named, f"captioner={captioner_folder}", "image=none", f"out={tmp_path / 'out'}") == 0
    cut, whole = results(tmp_path / "out")
    assert cut["warning"] == "cut short after 0.4 s (its header says 16,044 bytes, 12,044 are there)"
    assert cut["caption"]
    assert cut["error"] is None
    assert whole["warning"] is None
    assert f"sure); warning: {cut['warning']}" in capsys.readouterr().out


def test_a_style_makes_other_pictures(
    sounds: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"audio={sounds / 'low.wav'}", f"captioner={captioner_folder}", f"out={tmp_path / 'out'}"]
    full = [*asked, f"image={painter_folder}", "image.steps=1"]
    picture = tmp_path / "out" / "low.png"
    drawn = []
    for given in ([], ["style=ink"], ["style=ink", "image.offload=none"]):
        assert here(*full, *given) == 0
        drawn.append(picture.read_bytes())
        assert ("1 of them already before" in capsys.readouterr().out) == (
            len(given) == 2
        )  # where it lies changes nothing
    assert drawn[0] != drawn[1] == drawn[2]
    assert here(*full, "style=ink", "image.negative_prompt=blue", "image.guidance_scale=1") == 0
    assert "draws without guidance, so that image.negative_prompt has no effect" in capsys.readouterr().out
    assert here(*asked, "image=mini", "image.steps=1", "style=ink") == 0
    assert "note: the small embedded painter knows bare captions alone" in capsys.readouterr().out
