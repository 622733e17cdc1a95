"""Clips of short noises, and a server that knows ranges of bytes."""

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import soundfile

from a2i.data import Clip

RATE = 16_000


def noises(folder: Path, count: int, ending: str = ".wav", seconds: float = 0.05) -> list[Clip]:
    """Clips of different noises and lengths; the files are made."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(count):
        path = folder / f"{number:03d}{ending}"
        samples = np.random.default_rng(number).normal(0, 0.1, round(seconds * RATE) + 16 * number)
        soundfile.write(path, samples.astype(np.float32), RATE)
        texts = (f"Noise «{number}», of one kind.", f"Hiss number {number}.")
        clips.append(Clip(path.name, path, texts, labels=frozenset({"noise"}), recording=f"r{number // 2}"))
    return clips


class Ranges(SimpleHTTPRequestHandler):
    """Sends the range that was asked for, and keeps a list of what was asked."""

    ranged = True
    asked: list[tuple[str, str]] = []  # noqa: RUF012  # one for each server's own class

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range", "")))
        path = Path(self.translate_path(self.path))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (self.ranged and found and path.is_file()):
            return super().do_GET()
        first, last = int(found[1]), int(found[2])
        content = path.read_bytes()
        some = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(some) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(some)))
        self.end_headers()
        self.wfile.write(some)
        return None

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def served(folder: Path, ranged: bool = True) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A folder's address, and what was asked of it: paths and ranges."""
    handler = type("Handler", (Ranges,), {"asked": [], "ranged": ranged})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
