"""Sounds elsewhere: what addresses mean, what is fetched, and what is told when it can't be."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2i.audio.addresses import Address, AddressError, Fetched, fetch, is_address, key_of, refused, without_secrets
from a2i.audio.inputs import find_sounds


@pytest.fixture
def bucket(sounds: Path) -> Iterator[str]:
    """A folder of sounds in memory."""
    system = fsspec.filesystem("memory")
    for name in ("low.wav", "deep/high.wav"):
        system.pipe(f"/bucket/{name}", (sounds / Path(name).name).read_bytes())
    system.pipe("/bucket/notes.md", b"not for listening")
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


@pytest.fixture
def served(sounds: Path) -> Iterator[str]:
    """The folder of sounds, by http on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(sounds))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def names(found: object) -> list[str]:
    return [each.name for each in found]  # type: ignore[attr-defined]


def test_what_an_address_means(bucket: str) -> None:
    assert names(find_sounds(f"{bucket}/")) == names(find_sounds(bucket)) == ["high.wav", "low.wav"]
    assert names(find_sounds(f"{bucket}/*.wav")) == ["low.wav"]
    assert names(find_sounds(f"{bucket}/**/*.wav")) == ["high.wav", "low.wav"]
    assert names(find_sounds(f"{bucket}/*")) == ["low.wav"]
    assert find_sounds(f"{bucket}/gone.wav") == [Address(f"{bucket}/gone.wav")]  # fetching it will say that
    assert names(find_sounds(f"{bucket}/low.wav, {bucket}/deep/")) == ["low.wav", "high.wav"]
    assert names(find_sounds([f"{bucket}/low.wav", f"{bucket}/low.wav", "here.wav"])) == ["low.wav", "here.wav"]
    for text, message in (
        (f"{bucket}/*.flac", "no file matches this pattern"),
        ("memory://gone/", "no such bucket, folder or file"),
        ("nowhere://bucket/a.wav", "expected s3://BUCKET"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            find_sounds(text)
    # Among others it stops none of them.
    assert len(find_sounds([f"{bucket}/low.wav", "nowhere://bucket/a.wav"])) == 2


def test_what_is_an_address() -> None:
    assert is_address("s3://bucket/a.wav")
    assert not any(map(is_address, ("C://a.wav", "file:///a.wav", "a://b", "s3:/bucket", "a b://c", "sounds/a.wav")))
    assert Address("https://host/a%20b.wav?x=1").name == "a b.wav"
    assert Address("s3://bucket/what?.wav").stem == "what?"
    assert Address("https://host/").name == "sound"


@given(st.text("abcXYZ0123456789/+", min_size=8))
def test_no_secret_is_told(secret: str) -> None:
    secret = f"q{secret}q"
    signed = f"https://me:{secret.replace('/', '+')}@host/a.wav?version=3&X-Amz-Signature={secret}&X-Amz-Date=2020"
    for text in (str(Address(signed)), key_of(Address(signed)), str(refused(OSError(f"not {signed}"), signed))):
        assert secret not in text
        assert secret.replace("/", "+") not in text
        assert "version=3" in text


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket/a.wav?token=HIDDEN",
        "HTTPS://host/a.wav?x=1&access_token=HIDDEN",
        "https://host/a.wav?api_key=HIDDEN&x=1",
        "https://host/a.wav?Password=HIDDEN&X-Goog-Signature=HIDDEN",
        "https://host/a.wav?key=AIzaHIDDEN",
    ],
)
def test_no_signature_is_in_a_name(address: str) -> None:
    sound = Address(address)
    assert sound.name == "a.wav"
    for text in (str(sound), key_of(sound), sound.name, without_secrets(f"not '{address}', nor {address} again")):
        assert "HIDDEN" not in text
    assert ("x=1" in str(sound)) == ("x=1" in address)


def test_what_only_looks_like_a_signature_stays() -> None:
    """Two sounds are never known by one name."""
    for address in (
        "s3://b/what? now.wav",
        "s3://b/what now.wav",
        "https://h/get?key=1.wav",
        "https://h/get?key=2.wav",
    ):
        assert str(Address(address)) == address


def test_what_the_environment_hides_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "between-us-alone")
    assert without_secrets("signed with between-us-alone") == "signed with …"


def test_fetched_files_are_few_and_go(bucket: str, sounds: Path) -> None:
    asked = [
        Address(f"{bucket}/low.wav"),
        sounds / "high.wav",
        Address(f"{bucket}/gone.wav"),
        Address(f"{bucket}/low.wav"),
    ]
    files = Fetched(asked, ahead=1)
    first = files.of(0)
    assert first.read_bytes() == (sounds / "low.wav").read_bytes()
    assert files.failure(0) is None
    assert files.of(1) == sounds / "high.wav"
    assert not files.of(2).exists()
    assert "no such bucket, folder or file" in str(files.failure(2))
    assert files.told(0, f"{first}: is short") == f"{bucket}/low.wav: is short"
    files.done(0)
    assert not first.exists()
    folder = first.parent
    files.of(3)
    assert list(folder.iterdir())
    del files
    assert not folder.exists()


def test_the_web(served: str, tmp_path: Path) -> None:
    fetch(Address(f"{served}/low.wav"), tmp_path / "low.wav")
    assert (tmp_path / "low.wav").stat().st_size > 1000
    with pytest.raises(AddressError, match=rf"^{served}/gone.wav: there is no such bucket, folder or file$"):
        fetch(Address(f"{served}/gone.wav"), tmp_path / "gone.wav")
    with pytest.raises(AddressError, match="can't be had"):
        fetch(Address("http://127.0.0.1:9/a.wav"), tmp_path / "a.wav")
    assert [path.name for path in tmp_path.glob("*.wav")] == ["low.wav"]


def test_infer_hears_them(served: str, sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """As it hears files; what is gone is an error of its own, and what is done is not fetched again."""
    (sounds / "list.csv").write_text(f"file,kind\nlow.wav,a\n{served}/high.wav?sig=hidden,b\n{served}/gone.wav,c\n,d\n")
    asked = [
        f"audio={sounds / 'list.csv'}",
        "audio_column=file",
        f"captioner={captioner_folder}",
        "image=none",
        "device=cpu",
    ]
    done = programs.run("infer", *asked, f"out={tmp_path / 'out'}")
    assert done.returncode == 1, done.stderr
    assert "2 of 3 done, 1 failed" in done.stdout
    assert "skipped 1 file: 1 rows of the manifest that name no sound" in done.stdout
    assert "hidden" not in done.stdout + (tmp_path / "out" / "results.jsonl").read_text()
    rows = {row["audio"]: row for row in map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())}
    assert list(rows) == [str(sounds / "low.wav"), f"{served}/high.wav", f"{served}/gone.wav"]
    assert rows[f"{served}/gone.wav"]["error"] == f"{served}/gone.wav: there is no such bucket, folder or file"
    programs.run("infer", f"audio={sounds / 'high.wav'}", *asked[2:], f"out={tmp_path / 'here'}")
    (here,) = map(json.loads, (tmp_path / "here" / "results.jsonl").read_text().splitlines())
    assert rows[f"{served}/high.wav"]["caption"] == here["caption"]
    assert rows[f"{served}/high.wav"]["audio_file"]["sha256"] == here["audio_file"]["sha256"]
    again = programs.run("infer", *asked, f"out={tmp_path / 'out'}")
    assert "2 of 3 done, 2 of them already before" in again.stdout
    wrong = programs.run("infer", *asked[:1], *asked[2:], f"out={tmp_path / 'out'}")
    assert wrong.returncode == 2
    assert "has no column 'audio'; expected audio_column= one of file, kind" in wrong.stderr
