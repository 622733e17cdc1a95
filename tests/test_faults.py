"""Where the machine is at fault, not the user: folders that take no files, and programs that are killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from conftest import tone
from programs import run

ROOT = Path(__file__).parents[1]
SMALL_RUN = [
    *("experiment=mini", "model.encoder.channels=[4,8]", "model.tokenizer.vocab_size=300", "trainer=cpu", "logger=csv"),
    *("model.decoder.config={n_embd:32,n_layer:1,n_head:2,n_positions:60}", "bertscore=null", "loader.num_workers=0"),
]


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system that takes no files: permissions alone don't keep a superuser from writing."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    "command",
    [
        ["train", *SMALL_RUN, "hydra.run.dir=SEALED/run"],
        ["prepare", "cache=SEALED/cache", "workers=0"],
        ["evaluate", "captioner=mini", "split=val", "metrics=[rouge_l]", "out=SEALED/out"],
    ],
    ids=["train", "prepare", "evaluate"],
)
def test_a_folder_that_takes_no_files_is_told_in_one_line(sealed: Path, tmp_path: Path, command: list[str]) -> None:
    sounds = tmp_path / "sounds"
    for split in ("train", "val"):
        (sounds / split).mkdir(parents=True)
    rows = ["file_name,caption,split"]
    for index in range(4):
        soundfile.write(sounds / f"{index}.wav", tone(300 + 100 * index, 0.5), 16_000)
        rows.append(f"{index}.wav,A tone.,{'val' if index > 2 else 'train'}")
    (sounds / "captions.csv").write_text("\n".join(rows))
    name, *given = [word.replace("SEALED", str(sealed)) for word in command]
    done = run(name, "data=folder", f"data.root={sounds}", *given)
    assert done.returncode == 2, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert str(sealed) in told
    assert "read-only" in told.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and waits for processes as Linux does")
@pytest.mark.timeout(1_800)
def test_what_is_killed_at_random_moments_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "reliability" / "kills.py"), "--count", "2"]
    done = subprocess.run([*command, "--work", str(tmp_path / "work")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("all as in the unbroken run") >= 5
