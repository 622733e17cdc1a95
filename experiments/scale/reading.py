"""How fast clips are read from a folder, from shards here and from shards at an address, and what memory that takes.

    python experiments/scale/reading.py rate FOLDER [--out OUT] [--clips N]      of the recordings in a folder
    python experiments/scale/reading.py memory [--out OUT] [--clips 20000]       of made clips of 50 ms

`rate` prints clips a second for each way and number of workers, `memory` the megabytes of the process: before and after the
clips are listed, and while they are read. Each measurement has a process of its own. OUT keeps the sets.
"""

import argparse
import csv
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch.utils.data import DataLoader

from a2i.data import Clip
from a2i.data.folder import Folder
from a2i.data.shards import Shards
from a2i.data.shards.writing import write_clips
from a2i.training.batches import ClipDataset, LengthBatchSampler

RATE = 16_000
WAYS = ("folder", "shards", "http, whole shards", "http, clip by clip")


def noises(folder: Path, count: int) -> Path:
    """A folder of short noises with its table."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "split"])
        for number in range(count):
            samples = np.random.default_rng(number).normal(0, 0.1, RATE // 20).astype(np.float32)
            soundfile.write(folder / f"{number:06d}.wav", samples, RATE)
            table.writerow([f"{number:06d}.wav", f"A hiss, number {number}.", "train"])
    return folder


def linked(source: Path, folder: Path, count: int) -> Path:
    """A folder of the sounds of another, with a table."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in source.rglob("*") if path.suffix in (".ogg", ".wav", ".flac", ".mp3"))[:count]
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "split"])
        for path in files:
            if not (folder / path.name).exists():
                (folder / path.name).write_bytes(path.read_bytes())
            table.writerow([path.name, f"A sound called {path.stem}.", "train"])
    return folder


class Ranges(SimpleHTTPRequestHandler):
    """Answers requests for ranges of bytes, as stores of objects do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range", "")
        if not wanted or not path.is_file():
            return super().do_GET()
        first, last = (int(each) for each in wanted.removeprefix("bytes=").split("-"))
        with path.open("rb") as file:
            file.seek(first)
            some = file.read(last + 1 - first)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(some) - 1}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(some)))
        self.end_headers()
        self.wfile.write(some)
        return None

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def serve(folder: str, ports: Any) -> None:
    """Serve a folder until the process is ended."""

    def handler(*arguments: Any) -> Ranges:
        return Ranges(*arguments, directory=folder)

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    ports.put(server.server_port)
    server.serve_forever()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder's address on this machine, from a process of its own."""
    ports = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve, args=(str(folder), ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}"
    finally:
        process.terminate()


def megabytes() -> float:
    """Of this process, in memory of its own."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1000


def clips_of(way: str, out: Path, address: str) -> list[Clip]:
    """The clips, read in one of the ways."""
    if way == "folder":
        return Folder(out / "folder").clips("train")
    root = out / "shards" if way == "shards" else address
    fetch = "clips" if way.endswith("clip by clip") else "shards"
    return Shards(root, out / "keep" / str(time.time()), fetch=fetch).clips("train")


def read(way: str, out: Path, address: str, workers: int, results: Any) -> None:
    """Read an epoch, and put what was measured: clips a second, megabytes at the beginning, listed, and on the way."""
    before = megabytes()
    clips = clips_of(way, out, address)
    listed = megabytes()
    sampler = LengthBatchSampler([clip.seconds() for clip in clips], 16, shuffle=True)
    loader = DataLoader(
        ClipDataset(clips, "first", 0, RATE), batch_sampler=sampler, collate_fn=list, num_workers=workers
    )
    memory, done, began, count = [], 0, 0.0, len(clips)
    for items in itertools.chain(loader):
        if not began:
            began, done = time.perf_counter(), -len(items)  # the first batch waits for the processes
        done += len(items)
        assert all(isinstance(item, tuple) for item in items), items
        if len(memory) < (done + len(items)) * 10 // count:
            memory.append(megabytes())
    results.put((done / (time.perf_counter() - began), before, listed, memory, count))


def measured(way: str, out: Path, address: str, workers: int) -> Any:
    results = multiprocessing.Queue()
    process = multiprocessing.Process(target=read, args=(way, out, address, workers, results))
    process.start()
    found = results.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "memory"))
    parser.add_argument("source", type=Path, nargs="?", help="for rate: a folder of recordings")
    parser.add_argument("--out", type=Path, default=Path("data/reading"))
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--ways", nargs="*", default=WAYS)
    chosen = parser.parse_args()
    out = chosen.out / chosen.what
    if chosen.what == "rate":
        linked(chosen.source, out / "folder", chosen.clips)
    elif not (out / "folder" / "captions.csv").exists():
        noises(out / "folder", chosen.clips)
    write_clips(out / "shards", "train", Folder(out / "folder").clips("train"), 10)
    multiprocessing.set_start_method("spawn")
    with served(out / "shards") as address:
        for way in chosen.ways:
            for workers in (0, 2) if chosen.what == "rate" else (0,):
                rate, before, listed, memory, count = measured(way, out, address, workers)
                line = f"{way}, {workers} workers: {rate:.0f} clips/s"
                if chosen.what == "memory":
                    line += f"; {count} clips listed: {before:.0f} -> {listed:.0f} MB; while read: "
                    line += " ".join(f"{each:.0f}" for each in memory)
                print(line, flush=True)


if __name__ == "__main__":
    main()
