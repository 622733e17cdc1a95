"""What becomes of the web app under load: who is answered, who is refused politely, who fails; and its memory.

    python experiments/reliability/load.py                          200 requests, 20 at a time
    python experiments/reliability/load.py --minutes 60             as many as come in an hour, 20 at a time

Starts `a2i app`, and asks of it what the page asks, by HTTP: a sound is sent, taken and heard, and every fourth visitor has a
caption drawn. Each is a visitor of their own. A plot of the program's memory is written beside this file.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from rich.console import Console
from rich.progress import Progress

PATIENCE = 600  # seconds for an answer
DRAWN = 4  # every so many visitors
CAPTION = "A dog barks."  # as they write it
HERE = Path(__file__).parent


@contextmanager
def app(*arguments: str) -> Iterator[tuple[str, int]]:
    """The address of an app of its own, and its process; stopped at the end."""
    command = [sys.executable, "-m", "a2i.app", "port=null", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            lines = []
            for line in program.stdout:
                lines.append(line)
                if "the page is at " in line:
                    threading.Thread(target=program.stdout.read, daemon=True).start()  # else the pipe fills
                    yield line.split("the page is at ")[1].split(";")[0].strip(), program.pid
                    break
            else:
                raise RuntimeError(f"the app did not begin: {''.join(lines)}")
        finally:
            program.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                program.wait(30)
            program.kill()


def resident(pid: int) -> float:
    """Megabytes of a process's memory, without what is swapped out."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


class Visitor:
    """One who opens the page.

    Args:
        address: of the page.
        number: by which visitors differ.
    """

    def __init__(self, address: str, number: int) -> None:
        self.address, self.number, self.session = address.rstrip("/"), number, uuid.uuid4().hex
        self.client = httpx.Client(trust_env=False, timeout=PATIENCE)

    def sound(self) -> bytes:
        """A WAV of half a second to eight, another for each visitor."""
        random = np.random.default_rng(self.number)
        samples = 0.1 * random.standard_normal(round(random.uniform(0.5, 8) * 16_000))
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format="WAV")
        return file.getvalue()

    def visit(self) -> str:
        """What became of it: `answered`, `refused` or `failed: …`."""
        try:
            with self.client:
                events = self.client.get(f"{self.address}/config").raise_for_status().json()["dependencies"]
                take = events[0]["id"]
                hear = next(each["id"] for each in events if len(each["outputs"]) == 7)
                sent = self.client.post(f"{self.address}/gradio_api/upload", files={"files": ("a.wav", self.sound())})
                place = sent.raise_for_status().json()[0]
                file = {"path": place, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.wav"}
                message = {"fn_index": take, "session_hash": self.session, "data": [file]}
                self.client.post(f"{self.address}/gradio_api/run/predict", json=message).raise_for_status()
                heard = self.ask(hear, [None, 3])
                if isinstance(heard, str):
                    return heard
                if self.number % DRAWN:
                    return "answered"
                draw = next(each["id"] for each in events if len(each["inputs"]) == 3)
                drawn = self.ask(draw, [CAPTION, self.number, 1])
                return drawn if isinstance(drawn, str) else "answered"
        except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
            return f"failed: {type(error).__name__} {error}"

    def ask(self, event: int, data: list[Any]) -> list[Any] | str:
        """What an event gives in the end, or what became of it."""
        message = {"fn_index": event, "session_hash": self.session, "data": data}
        joined = self.client.post(f"{self.address}/gradio_api/queue/join", json=message)
        if joined.status_code == 503 and "Queue is full" in joined.text:
            return "refused"
        joined.raise_for_status()
        with self.client.stream("GET", f"{self.address}/gradio_api/queue/data?session_hash={self.session}") as stream:
            for line in stream.iter_lines():
                told = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if told.get("msg") == "process_completed":
                    found = told["output"].get("data") or []
                    if told["success"] and "Done." in str(found[0]):
                        return found
                    return f"failed: {found[0] if found else told['output']}"
                if told.get("msg") == "unexpected_error":
                    return f"failed: {told.get('message')}"
        return "failed: the answer broke off"


def load(
    address: str, pid: int, requests: int | None, at_once: int, seconds: float
) -> tuple[Counter[str], list[tuple[float, float]]]:
    """Visit the page, and count what becomes of it.

    Args:
        address: of the page.
        pid: of the app.
        requests: how many; None for as many as come in the time.
        at_once: visitors at a time.
        seconds: after which nobody comes any more.

    Returns:
        what became of the visitors; and the memory: seconds since the beginning, megabytes.
    """
    fates: Counter[str] = Counter()
    memory: list[tuple[float, float]] = []
    began, numbers, lock, ended = time.monotonic(), count(), threading.Lock(), threading.Event()

    def remember() -> None:
        while not ended.wait(1.0):
            with suppress(OSError):
                memory.append((time.monotonic() - began, resident(pid)))

    def come() -> None:
        while time.monotonic() - began < seconds:
            with lock:
                number = next(numbers)
            if requests is not None and number >= requests:
                return
            fate = Visitor(address, number).visit()
            with lock:
                fates[fate] += 1
                bar.update(task, completed=fates.total())
            if fate == "refused" and requests is None:
                time.sleep(1.0)  # as a person would, before the next comes

    watch = threading.Thread(target=remember, daemon=True)
    watch.start()
    with Progress(console=Console(stderr=True)) as bar, ThreadPoolExecutor(at_once) as pool:
        task = bar.add_task("visitors", total=requests)
        for each in [pool.submit(come) for _ in range(at_once)]:
            each.result()
    ended.set()
    watch.join()
    return fates, memory


def plot(memory: list[tuple[float, float]], path: Path) -> None:
    """Memory over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times, sizes = np.array(memory).T
    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(times / 60, sizes)
    axes.set(xlabel="minutes", ylabel="memory in MB", ylim=(0, None), title="The web app under load")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the counts, and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=20, help="at a time (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="in place of a number of requests")
    parser.add_argument(
        "--plot", type=Path, default=HERE / "load.png", help="picture of the memory (default: beside this file)"
    )
    parser.add_argument("settings", nargs="*", help="of the app, such as queue=20")
    asked = parser.parse_args()
    requests, seconds = (asked.requests, float("inf")) if asked.minutes is None else (None, 60 * asked.minutes)
    with app(*asked.settings) as (address, pid):
        began = time.monotonic()
        fates, memory = load(address, pid, requests, asked.at_once, seconds)
        taken = time.monotonic() - began
        time.sleep(2)
        last = resident(pid)
    failed = {fate: number for fate, number in fates.items() if fate.startswith("failed")}
    print(
        f"{fates.total()} requests, {asked.at_once} at a time, in {taken / 60:.1f} minutes on {os.cpu_count()} cores: "
        f"{fates['answered']} answered, {fates['refused']} refused politely, {sum(failed.values())} failed"
    )
    for fate, number in failed.items():
        print(f"{number} {fate}")
    sizes = np.array([size for _, size in memory])
    shares = [np.median(part) for part in np.array_split(sizes, min(10, len(sizes)))]
    print(f"memory in MB, median of each tenth: {', '.join(f'{size:.0f}' for size in shares)}; in the end {last:.0f}")
    plot(memory, asked.plot)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
