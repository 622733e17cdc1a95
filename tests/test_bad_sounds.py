"""Sounds that nobody should make: each is heard or refused in one clear line, for as long as FFmpeg's own program hears it."""

import json
import os
import shutil
import subprocess
import time
import tracemalloc
from pathlib import Path

import bad_sounds
import numpy as np
import pytest
import soundfile
from bad_sounds import Case, corpus
from hypothesis import example, given, settings
from hypothesis import strategies as st
from programs import run

from a2i.audio import AudioError, Recording

RATE = 16_000
SLOWEST = 20.0  # seconds for a file of a few, on a machine that does other things too
TOLERANCE = 0.1  # seconds
# Where what is right differs from what FFmpeg's program gives.
JUDGED = {
    "channels/32_channels.wav": "it can't mix 32 channels",
    "channels/64_channels.wav": "it can't mix 64 channels",
    "no number/nan.wav": "NaN is no sound",
    "no number/inf.wav": "an infinite number is no sound",
    "no number/-inf.wav": "an infinite number is no sound",
    "rate that can't be/rate_1.wav": "a rate of 1 Hz is no sound's",
    "rate that can't be/rate_500.wav": "a rate of 500 Hz is no sound's",
    "lie/data_little.wav": "it stops where the header says, before the sound does",
    "lie/both_little.wav": "it stops where the header says, before the sound does",
    "joined/twice.flac": "it loses the last block of the first of two streams",
    "joined/with_junk.flac": "it loses the last block of the first of two streams",
    "container/aac.wav": "it hears nothing either: AAC in WAV lacks its settings",
}


def heard(path: Path) -> tuple[float, str | None]:
    """Seconds that are heard, and what was said of the file, however it ended.

    Raises:
        AssertionError: it took too long, or ended in another error than a sound file's.
    """
    began, recording, samples, said = time.monotonic(), Recording(path, RATE), 0, None
    try:
        for block in recording.blocks():
            assert block.dtype == np.float32
            assert np.abs(block).max(initial=0.0) <= 1.0
            samples += len(block)
        said = recording.warning
        assert samples
    except (AudioError, FileNotFoundError) as error:
        samples, said = 0, str(error)
    assert time.monotonic() - began < SLOWEST
    return samples / RATE, said


def check(case: Case) -> float:
    """Hear a file and hold it against its fate."""
    seconds, said = heard(case.path)
    if case.fate != "either":
        assert (seconds > 0) == (case.fate == "heard"), f"{case}: {said}"
    assert said is None or "\n" not in said.replace(str(case.path), ""), case
    return seconds


@pytest.mark.parametrize(
    "rule",
    [
        bad_sounds.headers_that_lie,
        bad_sounds.what_is_no_sound,
        bad_sounds.joined,
        bad_sounds.names,
        bad_sounds.what_is_no_file,
    ],
    ids=lambda rule: rule.__name__,
)
def test_what_becomes_of_each(rule, tmp_path: Path) -> None:
    for case in rule(tmp_path):
        if f"{case.kind}/{case.path.name}" not in JUDGED:
            check(case)


def reference(path: Path) -> float | None:
    """Seconds that FFmpeg's own program hears; None where it does not end."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{path}", "-map", "0:a:0", "-f", "f32le"]
    try:
        done = subprocess.run([*command, "-ac", "1", "-ar", str(RATE), "-"], capture_output=True, timeout=SLOWEST)
    except subprocess.TimeoutExpired:
        return None
    return len(done.stdout) / 4 / RATE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_are_heard_as_long_as_ffmpeg_hears_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where FFmpeg knows better what is to be refused; what differs is in a list, with the reason."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs FFmpeg's program: apt install ffmpeg")
    differ, counts = [], {"heard": 0, "refused": 0}
    cases = corpus(tmp_path / "corpus")
    for case in cases:
        if f"{case.kind}/{case.path.name}" in JUDGED:
            heard(case.path)
            continue
        seconds = check(case)
        counts["heard" if seconds else "refused"] += 1
        expected = reference(case.path) if case.kind != "no file" else 0.0
        if seconds and expected is not None and abs(seconds - expected) > TOLERANCE:
            differ.append((case.kind, case.path.name, seconds, expected))
    with capsys.disabled():
        print(
            f"\n{len(cases)} files tried: {counts}, {len(JUDGED)} judged apart; of another length than FFmpeg's: {differ}"
        )
    assert len(cases) >= 300
    assert not [each for each in differ if each[0] not in ("flipped", "truncated")]
    assert len(differ) <= 3  # where damage is, decoders part ways


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_infer_answers_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row and one line for each file that is a sound's by its name; nothing ends the others."""
    cases = corpus(tmp_path / "corpus")
    done = run("infer", f"audio={tmp_path / 'corpus'}", "image=none", f"out={tmp_path / 'out'}", "device=cpu")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    answered = [row for row in rows if row["error"] is None]
    assert all(row["caption"] for row in answered)
    assert all("\n" not in row["error"].replace(row["audio"], "") for row in rows if row["error"])
    assert len({row["audio"] for row in rows}) == len(rows)
    assert len(rows) >= 300
    with capsys.disabled():
        print(
            f"\n{len(cases)} files made, {len(rows)} tried: {len(answered)} answered, {len(rows) - len(answered)} refused"
        )


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("change", ["vanishes", "is replaced", "grows", "shrinks"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, ending: str, change: str) -> None:
    """What was opened is heard to its end; what is cut away is missed and told, what comes after is taken or left."""
    path, seconds = tmp_path / f"x.{ending}", 90.0
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    soundfile.write(path, noise, RATE)
    recording, whole = Recording(path, RATE), path.read_bytes()
    blocks = recording.blocks()
    samples = len(next(blocks))
    if change == "vanishes":
        path.unlink()
    elif change == "is replaced":
        (tmp_path / "other").write_text("no sound")
        (tmp_path / "other").replace(path)
    elif change == "grows":
        with path.open("ab") as file:
            file.write(whole[-100_000:])
    else:
        os.truncate(path, len(whole) // 2)
    samples += sum(map(len, blocks))
    if change == "shrinks":
        assert 4.0 < samples / RATE < 0.6 * seconds
        assert str(recording.warning).endswith("(it got shorter while it was read)")
    else:
        assert samples / RATE >= seconds - 0.01
        assert samples / RATE < seconds + 10


@pytest.mark.slow
def test_hours_are_heard_in_bounded_time_and_memory(tmp_path: Path) -> None:
    """A hundred hours of silence, as two megabytes may hold: some minutes of one core, and no memory for them."""
    path, hours, rate = tmp_path / "silence.flac", 100, 8_000
    with soundfile.SoundFile(path, "w", rate, 1, format="FLAC") as file:
        for _ in range(hours):
            file.write(np.zeros(3600 * rate, np.int16))
    assert path.stat().st_size < 10_000_000
    began, samples = time.process_time(), 0
    tracemalloc.start()
    for block in Recording(path, rate).blocks():
        samples += len(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == hours * 3600 * rate
    assert peak < 10e6
    assert time.process_time() - began < 600


DAMAGED = {
    "wav": "pcm_s16le", "aiff": "pcm_s16be", "caf": "alac", "flac": "flac", "mp3": "libmp3lame", "ogg": "libvorbis",
    "opus": "libopus", "ipod": "aac", "matroska": "libopus", "mpegts": "mp2", "avi": "libmp3lame", "asf": "wmav2",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short file of many containers."""
    folder = tmp_path_factory.mktemp("whole")
    for container, codec in DAMAGED.items():
        bad_sounds.encode(folder / f"x.{container}", container, codec)
    return folder


PLACES = st.integers(0, 999_999)  # millionths of a file


@settings(max_examples=40)
@given(
    container=st.sampled_from(sorted(DAMAGED)),
    changed=st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=30),
    ends=st.tuples(PLACES, PLACES).map(sorted),
    change=st.sampled_from(["none", "cut", "remove", "repeat"]),
)
@example(container="caf", changed=[(436, 1)], ends=[0, 0], change="none")  # a chunk that ends where no file does
def test_any_damage_is_heard_or_refused(
    whole: Path,
    container: str,
    changed: list[tuple[int, int]],
    ends: list[int],
    change: str,
) -> None:
    if not (whole / f"x.{container}").exists():  # this FFmpeg can't write it
        return
    bytes_ = bytearray((whole / f"x.{container}").read_bytes())
    length = len(bytes_)
    for place, value in changed:
        bytes_[place * length // 1_000_000] = value
    start, end = (place * length // 1_000_000 for place in ends)
    if change == "cut":
        del bytes_[end:]
    elif change == "remove":
        del bytes_[start:end]
    elif change == "repeat":
        bytes_[start:start] = bytes_[start:end]
    path = whole / f"damaged.{container}"
    path.write_bytes(bytes_)
    heard(path)
