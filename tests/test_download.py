"""Downloads over a real connection to this machine: whole, broken off, continued, of the wrong content."""

import hashlib
import os
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import pytest

from a2i.data import download

CHUNK = download.CHUNK
DATA = random.Random(0).randbytes(10 * CHUNK + 123)
MD5 = hashlib.md5(DATA).hexdigest()


class Server:
    """Serves the files of `folder` at `url` while its ``with`` block lasts.

    Args:
        cut: breaks off an answer's body after that many bytes, for each number in the list once; then serves whole.
        ranges: whether it understands Range requests.
        status: if not 200, its answer to everything.
    """

    def __init__(self, folder: Path, cut: list[int] | None = None, ranges: bool = True, status: int = 200) -> None:
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        cuts, requests = list(cut or []), self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                path, wanted = self.path.split("?")[0], self.headers.get("Range")
                requests.append((self.command, path, wanted))
                if status != 200:
                    self.send_error(status)
                    return
                data = (folder / path.lstrip("/")).read_bytes()
                first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
                if wanted and first >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if wanted and ranges else 200)
                if wanted and ranges:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - first))
                self.end_headers()
                body = data[first:]
                if with_body:
                    self.wfile.write(body[: cuts.pop(0)] if cuts else body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "data.7z").write_bytes(DATA)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "here" / "data.7z"


def names_in(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole_once(served: Path, target: Path) -> None:
    target.parent.mkdir()
    with Server(served) as server:
        assert download.remote_size(f"{server.url}/data.7z") == len(DATA)
        assert download.fetch(f"{server.url}/data.7z", target, MD5) == target
        download.fetch(f"{server.url}/data.7z", target, MD5)
        assert server.requests == [("HEAD", "/data.7z", None), ("GET", "/data.7z", None)]
    assert target.read_bytes() == DATA
    assert names_in(target) == ["data.7z"]


def test_a_broken_connection_is_taken_up_where_it_broke(served: Path, target: Path) -> None:
    with Server(served, cut=[4 * CHUNK + 5, 2 * CHUNK]) as server:
        download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert [wanted for _, _, wanted in server.requests] == [None, f"bytes={4 * CHUNK}-", f"bytes={6 * CHUNK}-"]
    assert target.read_bytes() == DATA
    assert names_in(target) == ["data.7z"]


def test_after_giving_up_another_call_fetches_only_the_rest(served: Path, target: Path) -> None:
    part = download.part_of(target, MD5)
    with Server(served, cut=[4 * CHUNK] + download.ATTEMPTS * [0]) as server:
        with pytest.raises(ConnectionError, match=rf"{4 * CHUNK} bytes are kept in {part}.*again to continue"):
            download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert names_in(target) == [part.name]
        assert part.read_bytes() == DATA[: 4 * CHUNK]
        before = len(server.requests)
        assert before == download.ATTEMPTS
    with Server(served) as server:
        download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert server.requests == [("GET", "/data.7z", f"bytes={4 * CHUNK}-")]
    assert target.read_bytes() == DATA
    assert names_in(target) == ["data.7z"]


def test_an_interruption_keeps_what_came(served: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Progress

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    target.parent.mkdir()
    with Server(served) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "advance", interrupt)  # Ctrl-C, as the first piece has been written
            with pytest.raises(KeyboardInterrupt):
                download.fetch(f"{server.url}/data.7z", target, MD5)
        part = download.part_of(target, MD5)
        assert names_in(target) == [part.name]
        assert part.stat().st_size == CHUNK
        download.fetch(f"{server.url}/data.7z", target, MD5)
        assert server.requests[-1][2] == f"bytes={CHUNK}-"
    assert target.read_bytes() == DATA
    assert names_in(target) == ["data.7z"]


def test_a_server_without_ranges_begins_anew(served: Path, target: Path) -> None:
    with Server(served, cut=[4 * CHUNK], ranges=False) as server:
        download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
    assert target.read_bytes() == DATA


def test_breaking_off_at_one_place_for_ever_is_given_up(served: Path, target: Path) -> None:
    with Server(served, cut=20 * [4 * CHUNK], ranges=False) as server:
        with pytest.raises(ConnectionError, match="again to continue"):
            download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert len(server.requests) == download.ATTEMPTS


@pytest.mark.parametrize("kept", [DATA, DATA + b"more"], ids=["the whole", "too much"])
def test_stopped_before_the_renaming(served: Path, target: Path, kept: bytes) -> None:
    target.parent.mkdir()
    download.part_of(target, MD5).write_bytes(kept)
    with Server(served) as server:
        download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert len(server.requests) == (1 if kept == DATA else 2)
    assert target.read_bytes() == DATA
    assert names_in(target) == ["data.7z"]


def test_a_wrong_checksum_leaves_nothing_under_the_name(served: Path, target: Path) -> None:
    (served / "data.7z").write_bytes(DATA[:-1] + b"?")
    with Server(served) as server, pytest.raises(ValueError, match=rf"data.7z.*{MD5}.*what came was removed"):
        download.fetch(f"{server.url}/data.7z", target, MD5)
    assert names_in(target) == []


def test_a_file_of_another_content_is_kept(served: Path, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with Server(served) as server, pytest.raises(ValueError, match=f"expected {MD5}.*move it away"):
        download.fetch(f"{server.url}/data.7z", target, MD5)
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (503, download.ATTEMPTS)])
def test_a_refusal_is_told_and_a_busy_server_asked_again(
    served: Path, target: Path, status: int, attempts: int
) -> None:
    with Server(served, status=status) as server:
        with pytest.raises(ConnectionError, match=str(status)):
            download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)
        assert len(server.requests) == attempts
        with pytest.raises(ConnectionError, match=str(status)):
            download.remote_size(f"{server.url}/data.7z")
    assert names_in(target) == []


def test_no_server_is_told(served: Path, target: Path) -> None:
    with Server(served) as server:
        pass
    with pytest.raises(ConnectionError, match="0 bytes are kept"):
        download.fetch(f"{server.url}/data.7z", target, MD5, wait=0)


def test_too_little_space_is_told_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(OSError, match=r"Clotho needs about 1000000.0 GB in .* make room"):
        download.require_space(tmp_path, 10**15, "Clotho")
    download.require_space(tmp_path, 10**3, "Clotho")
    assert "Clotho needs about 1.0 kB" in caplog.text


def test_unpacking_keeps_only_sounds_and_drops_inner_folders(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr", reason="the extra 'download' is not installed")
    made = tmp_path / "made" / "development"
    made.mkdir(parents=True)
    for name in ("a, b .wav", "ü.wav", "notes.txt"):
        (made / name).write_bytes(name.encode())
    archive, folder = tmp_path / "a.7z", tmp_path / "out" / "development"
    with py7zr.SevenZipFile(archive, "w") as file:
        file.writeall(made.parent, "inner")
    folder.mkdir(parents=True)
    (folder / "mine.wav").write_bytes(b"mine")
    (folder.parent / "development.unpacking").mkdir()  # left by an interrupted call
    assert download.unpack(archive, folder) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a, b .wav": b"a, b .wav",
        "ü.wav": "ü.wav".encode(),
        "mine.wav": b"mine",
    }
    assert os.listdir(folder.parent) == ["development"]
