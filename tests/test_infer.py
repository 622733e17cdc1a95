import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import listen_to_ctrl_c
from PIL import Image

from a2i import AudioToImage
from a2i.infer import find_sounds, infer, output_names, write_results


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "a2i.infer", "device=cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


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
    assert "3 of 5 done" in done.stdout
    rows = {Path(str(row["audio"])).name: row for row in results(out)}
    assert set(rows) == {"Rain, wind & (it's) = 50% [take 2].wav", "broken.mp3", "low.wav", "middle.wav", "\udcff.wav"}
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
        if name in ("broken.mp3", "\udcff.wav"):
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


def test_no_file_is_left_half_written_by_an_interruption(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "many.txt"
    listing.write_text("\n".join([str(sounds / "low.wav")] * 3000))
    command = [
        sys.executable,
        "-m",
        "a2i.infer",
        "device=cpu",
        f"audio={listing}",
        f"captioner={captioner_folder}",
        "image=none",
        f"out={tmp_path / 'out'}",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
    )
    deadline = time.monotonic() + 120
    file = tmp_path / "out" / "results.jsonl"
    while time.monotonic() < deadline and not (file.exists() and file.stat().st_size):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    rows = results(tmp_path / "out")
    assert 0 < len(rows) < 3000
    assert all(row["error"] is None for row in rows)


def test_what_audio_means(sounds: Path, tmp_path: Path) -> None:
    below = sounds / "below"
    below.mkdir()
    (below / "DEEP.WAV").write_bytes((sounds / "low.wav").read_bytes())
    names = ["DEEP.WAV", "high.wav", "low.wav", "middle.wav"]
    assert sorted(path.name for path in find_sounds(str(sounds))) == sorted(names)
    assert [path.name for path in find_sounds(f"{sounds}/*i*.wav")] == ["high.wav", "middle.wav"]
    assert [path.name for path in find_sounds(f"{sounds}/**/*.WAV")] == ["DEEP.WAV"]
    listing = tmp_path / "list.txt"
    listing.write_text(f"{sounds / 'low.wav'}\n\n{sounds / 'high.wav'}\n")
    assert [path.name for path in find_sounds(str(listing))] == ["low.wav", "high.wav"]
    assert [path.name for path in find_sounds([str(sounds / "low.wav"), str(below)])] == ["low.wav", "DEEP.WAV"]
    assert [path.name for path in find_sounds(f"{sounds / 'low.wav'},{sounds / 'high.wav'}")] == ["low.wav", "high.wav"]
    assert find_sounds("missing.wav") == [Path("missing.wav")]
    comma = sounds / "rain, wind.wav"
    comma.touch()
    assert find_sounds(str(comma)) == [comma]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no sound files in this folder"):
        find_sounds(str(empty))


def test_lists_as_people_have_them(sounds: Path, tmp_path: Path) -> None:
    low, gone = str(sounds / "low.wav"), str(sounds / "gone [live].wav")
    listing = tmp_path / "list.txt"
    listing.write_text(f"{low}\r\n{gone}\r\n{listing}\r\n", encoding="utf-8-sig")
    assert find_sounds(str(listing)) == [Path(low), Path(gone), listing]
    many = [str(sounds / f"{index}.wav") for index in range(200)]
    assert find_sounds(",".join(many)) == [Path(name) for name in many]
    listing.write_text("Ünï.wav", encoding="utf-16")
    with pytest.raises(ValueError, match=r"list\.txt: is no list in UTF-8"):
        find_sounds(str(listing))


def test_equal_stems_do_not_overwrite_each_other() -> None:
    names = output_names([Path("a/x.wav"), Path("b/x.mp3"), Path("c/X.wav"), Path("x_2.wav")])
    assert names == ["x", "x_2", "X_3", "x_2_2"]
    assert len({name.lower() for name in names}) == 4


def test_a_sound_that_was_cut_is_captioned_and_told(
    sounds: Path, captioner_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sounds / "cut.wav").write_bytes((sounds / "low.wav").read_bytes()[:-4000])
    a2i = AudioToImage.load(captioner_folder, None, device="cpu")
    results = tmp_path / "results.jsonl"
    write_results(infer(a2i, [sounds / "cut.wav", sounds / "low.wav"], tmp_path, 0, {}), results, 2)
    cut, whole = (json.loads(line) for line in results.read_text().splitlines())
    assert cut["warning"] == "cut short after 0.4 s (its header says 16,044 bytes, 12,044 are there)"
    assert cut["caption"]
    assert cut["error"] is None
    assert whole["warning"] is None
    assert f"sure); warning: {cut['warning']}" in capsys.readouterr().out
