"""The same as `a2i.audio.files` decodes and measures, in a process apart, which can die without this one.

libsndfile and FFmpeg are C, and the bytes may be hostile. What crashes there, takes all memory or never ends becomes the
`AudioError` of one file; the next one gets a new process. What comes back are numbers and JSON, never a pickle: a decoder that
was taken over can't take over its parent by an answer. It gets no path but an open file, and none of the environment's keys.

A process serves one file at a time, block by block as it is asked, one block ahead; then it waits for the next file. It ends by
itself when its parent does. Windows has neither the limits nor the way to hand an open file over: there, files are decoded in
this process.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from a2i.audio import files
from a2i.audio.files import EXPECTED, AudioError, Block, Notes

SECONDS = 60.0  # without a block, after which a decoder is taken for hung and ends itself
GRACE = 10.0  # seconds more, for its start; then it is ended
MEMORY = 4 << 30  # bytes of address space; a decoder uses 0.4 GB
LARGEST = 1 << 30  # bytes of a block that are believed
PROMPT = 1.0  # seconds in which a decoder stops, or is ended
KEPT = 4  # processes that wait for a file; reading many long ones by turns needs more for a while
PROGRAM = "import sys; sys.path[:] = {path!r}; from a2i.audio.apart import serve; serve({fd}, {memory}, {seconds})"
# Of the environment, what Python and libraries need to be found; others may be secrets.
PASSED = ("DYLD_", "HOME", "LANG", "LC_", "LD_", "PATH", "PYTHON", "TMP", "VIRTUAL_ENV")
GO_ON, STOP = b"g", b"s"


def decode(file: BinaryIO, name: str, notes: Notes, start: float = 0.0) -> Generator[Block]:
    """As `files.decode`, bit for bit.

    Raises:
        AudioError: as there; or the decoder died, hung, or wanted too much memory.
        OSError: the file can't be read, or no process can be started.
    """
    if os.name != "posix":
        yield from files.decode(file, name, notes, start)
        return
    with _asked(file, name, {"what": "decode", "start": start}) as decoder:
        while isinstance(answer := decoder.answer(), Block):
            yield answer
        notes.cut, notes.damaged = answer["cut"], answer["damaged"]


def measure(file: BinaryIO, name: str, exact: bool) -> float:
    """As `files.measure`; raises as `decode` does."""
    if os.name != "posix":
        return files.measure(file, name, exact)
    with _asked(file, name, {"what": "measure", "exact": exact}) as decoder:
        return float(decoder.answer()["seconds"])


def begin() -> None:
    """Start a process now, so that the first file does not wait for it: it takes a quarter of a second of another core."""
    if os.name == "posix" and not _waiting:
        with suppress(OSError):
            _give_back(_Decoder())


class _Decoder:
    """The process, seen from here.

    Attributes:
        name: of its file, for messages.
        state: `waits` for a file, `holds` one between two answers, is `asked`.
        owner: the process that started it.
    """

    def __init__(self) -> None:
        self.name, self.state, self.owner = "", "waits", os.getpid()
        self.socket, theirs = socket.socketpair()
        with theirs:
            program = PROGRAM.format(path=sys.path, fd=theirs.fileno(), memory=MEMORY, seconds=SECONDS)
            environment = {key: value for key, value in os.environ.items() if key.startswith(PASSED)}
            # A session of its own: Ctrl-C is for the parent, at whose end this one ends.
            self.process = subprocess.Popen(
                [sys.executable, "-c", program], pass_fds=[theirs.fileno()], start_new_session=True,
                env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def ask(self, file: BinaryIO, name: str, request: dict[str, Any]) -> None:
        """Hand a file over."""
        self.name, self.state = name, "asked"
        fd = file.fileno()  # what a pipe gave goes to disk here, if it was in memory
        file.flush()
        with suppress(ConnectionError):  # it died: told when its answer is missed
            socket.send_fds(self.socket, [json.dumps(request).encode()], [fd])

    def answer(self) -> Any:
        """The next block, or what is said at the end: `cut` and `damaged` of the notes, or the `seconds` that were measured.

        Raises:
            AudioError: it found that nothing can be decoded, died, hung, or wanted too much memory.
            OSError: the file can't be read.
        """
        if self.state == "holds":
            self._tell(GO_ON)
        self.socket.settimeout(SECONDS + GRACE)
        try:
            header, samples = self._received()
            if samples is not None:
                self.state = "holds"
                base, position = float(header["base"]), int(header["position"])
                return Block(samples, int(header["rate"]), int(header["run"]), base, position)
            failed = None if header["failed"] is None else str(header["failed"])
            if failed is None:
                answer = {"cut": header["cut"] and str(header["cut"]), "damaged": int(header["damaged"])}
                answer["seconds"] = float(header["seconds"])
                self.state = "waits"
                return answer
            message, number = str(header["message"]), int(header["errno"] or 0)
        except TimeoutError:
            raise AudioError(self._hung()) from None
        except (ConnectionError, EOFError):
            raise AudioError(self._died()) from None
        except (KeyError, TypeError, ValueError) as error:
            raise AudioError(f"{self.name}: the decoder's answer makes no sense ({error!r}); {EXPECTED}") from error
        self.state = "waits"
        if failed == "AudioError":
            raise AudioError(f"{self.name}{message}")
        if failed == "MemoryError":
            raise AudioError(f"{self.name}: the decoder wanted more than {MEMORY >> 30} GiB of memory; {EXPECTED}")
        if failed == "OSError":
            raise OSError(number, message, self.name)
        raise AudioError(f"{self.name}: the decoder failed ({failed}: {message}); {EXPECTED}")

    def stop(self) -> bool:
        """Have it let go of its file; False if it does not."""
        if self.state == "holds":
            self.state = "asked"
            self._tell(STOP)
            self.socket.settimeout(PROMPT)
            with suppress(OSError, EOFError, KeyError, TypeError, ValueError):
                self.state = "waits" if self._received()[0]["stopped"] else "asked"
        return self.state == "waits"

    def end(self, kill: bool = True) -> None:
        """End the process."""
        self.socket.close()
        if kill:
            self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PROMPT)

    def leave(self) -> None:
        """Let go of it in a process that was forked: it is its parent's."""
        self.socket.close()
        self.process.returncode = 0  # none of ours to wait for

    def _tell(self, what: bytes) -> None:
        self.state = "asked"
        with suppress(OSError):  # it died: told when its answer is missed
            self.socket.sendall(what)

    def _received(self) -> tuple[dict[str, Any], np.ndarray | None]:
        """A header and the samples behind it, of which the last has none."""
        size = int.from_bytes(self._filled(bytearray(2)), "big")
        header = json.loads(bytes(self._filled(bytearray(size))))
        if "shape" not in header:
            return header, None
        length, channels = (int(size) for size in header["shape"])
        if min(length, channels) < 1 or length * channels * 4 > LARGEST:
            raise ValueError(f"a block of {length} samples of {channels} channels")
        samples = np.empty((length, channels), np.float32)
        self._filled(samples.data.cast("B"))
        return header, samples

    def _filled(self, buffer: bytearray | memoryview) -> bytearray | memoryview:
        view = memoryview(buffer)
        while view:
            count = self.socket.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return buffer

    def _hung(self) -> str:
        return f"{self.name}: the decoder found no sound within {SECONDS:g} s; {EXPECTED}"

    def _died(self) -> str:
        try:
            status = self.process.wait(PROMPT)
        except subprocess.TimeoutExpired:
            status = 0
        if status == -signal.SIGALRM:
            return self._hung()
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{self.name}: the decoder {how}; {EXPECTED}"


_waiting: list[_Decoder] = []
_lock = threading.Lock()


@contextmanager
def _asked(file: BinaryIO, name: str, request: dict[str, Any]) -> Iterator[_Decoder]:
    """A process that has been handed a file."""
    decoder = _taken()
    try:
        decoder.ask(file, name, request)
        yield decoder
    finally:
        # Interrupted in the middle of an answer, it can't be asked anything else.
        if decoder.owner != os.getpid():
            decoder.leave()
        elif decoder.stop():
            _give_back(decoder)
        else:
            decoder.end()


def _taken() -> _Decoder:
    while True:
        with _lock:
            if not _waiting:
                break
            decoder = _waiting.pop()
        if decoder.process.poll() is None:
            return decoder
        decoder.end()
    return _Decoder()


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        if len(_waiting) < KEPT:
            _waiting.append(decoder)
            return
    decoder.end(kill=False)


@atexit.register
def _end_all() -> None:
    while _waiting:
        _waiting.pop().end(kill=False)


def _leave_to_the_parent() -> None:
    global _lock
    _lock = threading.Lock()
    while _waiting:
        _waiting.pop().leave()


if os.name == "posix":
    os.register_at_fork(after_in_child=_leave_to_the_parent)


# --- In the process itself -----------------------------------------------------------------------------------------------


def serve(fd: int, memory: int, seconds: float) -> None:
    """Decode what is asked for, until the parent ends.

    Args:
        fd: of the socket to it.
        memory: bytes of address space.
        seconds: that a block may take.
    """
    connection = socket.socket(fileno=fd)
    _limit(memory)
    with suppress(Exception):  # what can't be imported is told when a file needs it
        import av  # noqa: F401
        import soundfile  # noqa: F401
    with suppress(ConnectionError):
        while True:
            request, fds, _, _ = socket.recv_fds(connection, 1 << 12, 1)
            if not request:
                break
            with os.fdopen(fds[0], "rb") as file:
                _serve_file(connection, _answers(file, json.loads(request)), seconds)
    os._exit(0)


def _limit(memory: int) -> None:
    import resource

    sys.dont_write_bytecode = True
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0))  # it writes nothing
    for which, most in limits:
        hard = resource.getrlimit(which)[1]
        with suppress(OSError, ValueError):  # macOS does not know all of them
            resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answers(file: BinaryIO, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """A header and the bytes behind it; the last has none."""
    notes, seconds = Notes(), 0.0
    if request["what"] == "measure":
        seconds = files.measure(file, "", request["exact"])
    else:
        for block in files.decode(file, "", notes, request["start"]):
            said = {"rate": block.rate, "run": block.run, "base": block.base, "position": block.position}
            yield said | {"shape": block.samples.shape}, np.ascontiguousarray(block.samples).data.cast("B")
    yield {"failed": None, "seconds": seconds, **asdict(notes)}, b""


def _serve_file(connection: socket.socket, answers: Iterator[tuple[dict[str, Any], Any]], seconds: float) -> None:
    told = GO_ON  # by the request itself
    while True:
        # The signal ends the process also where C code never comes back, and where nobody waits for it any more.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        header, samples = _next(answers)
        signal.setitimer(signal.ITIMER_REAL, 0)
        told = told or connection.recv(1)
        if told != GO_ON:
            header, samples = {"stopped": True}, b""
        text = json.dumps(header).encode()
        connection.sendall(len(text).to_bytes(2, "big") + text)
        connection.sendall(samples)
        if "shape" not in header:
            return
        told = b""


def _next(answers: Iterator[tuple[dict[str, Any], Any]]) -> tuple[dict[str, Any], Any]:
    number = None
    try:
        return next(answers)
    except AudioError as error:
        failed, message = "AudioError", str(error)
    except OSError as error:
        failed, message, number = "OSError", error.strerror or str(error), error.errno
    except Exception as error:
        failed, message = type(error).__name__, " ".join(str(error).split())[:200]
    return {"failed": failed, "message": message, "errno": number}, b""
