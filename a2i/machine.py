"""What a program asks of the machine that it runs on: threads, the terminal, names of files.

Nothing else in a2i asks which platform it is.
"""

import ctypes
import functools
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Turns that a thread waits awake: GNU's own 300,000 are slower beside a busy program, none is slower alone.
SPINS = 1_000
# As GNU's mallopt counts them. Blocks of fewer bytes than the first come from memory that the process keeps, of which it keeps
# as many bytes free as the second says, all in one place: else each thread would keep some for itself.
KEPT = {-3: 64 << 20, -1: 256 << 20, -8: 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX
BEHIND = 10  # niceness of a thread that gives way; 19 would get next to nothing on a busy machine


def begin_program(keeps_memory: bool = True) -> None:
    """What every program of a2i does first, before PyTorch is imported. It is for programs to call, not for libraries.

    Args:
        keeps_memory: whether freed memory is kept for what comes next. Training needs blocks of ever other sizes: between those
            that are kept ever more room would lie idle.
    """
    rest_while_waiting()
    if keeps_memory:
        keep_freed_memory()
    print_without_fail()


def keep_freed_memory() -> None:
    """Have GNU's allocator keep what is freed for what comes next, where the user has not said what it should keep.

    By default it gives the large blocks of every layer's output back to the system, which has to clear them anew for the next
    layer: that takes a sixth of captioning on a CPU, and the memory at its highest is the same
    (`experiments/benchmarks/freed_memory.py`).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # another C library, which has no such function
        set_option = ctypes.CDLL(None).mallopt
        for option, size in KEPT.items():
            set_option(option, size)


def rest_while_waiting() -> bool:
    """Have OpenMP's threads sleep while they wait for each other, where the user has not said how they should wait.

    By default they wait awake, for milliseconds. Where another program needs one of the cores, the thread that all wait for
    is the one that has none, and those that wait keep theirs from it: see "busy" in `experiments/benchmarks`. Read once, when
    PyTorch is imported.

    Returns:
        whether anything was set.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # of every OpenMP;
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)  # GNU's, which has a name for what lies between
    return True


def release(error: BaseException) -> None:
    """Let go of what the functions in which an error arose were working on: a kept error would keep a batch alive.

    Its traceback still tells where. Of errors that it came of likewise.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (one := waiting.pop()) is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]


def print_without_fail() -> None:
    """Have no print end the program: what the terminal's encoding lacks is escaped, and what nobody reads is dropped.

    A file's name may hold any character, or bytes that are none; a reader such as `head` goes when it has enough; a log's
    disk gets full. The results are on disk, and the other files go on.
    """
    for output in ("stdout", "stderr"):
        stream = getattr(sys, output)
        if stream is None:  # closed by who started the program
            setattr(sys, output, open(os.devnull, "w", encoding="utf-8", errors="replace"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            for name in ("write", "flush"):
                setattr(stream, name, _without_fail(getattr(stream, name), stream))


def _without_fail(method: Callable[..., Any], stream: io.TextIOWrapper) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except OSError:
            # What is buffered would be tried again, at the latest when the program ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            return len(arguments[0]) if arguments else None

    return call


def in_threads(work: Callable[[], None], threads: int) -> None:
    """Run `work` in so many threads at once, none of which shares PyTorch's operations with OpenMP's other threads."""
    with ThreadPoolExecutor(threads, initializer=leave_others_alone) as pool:
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result()


def leave_others_alone() -> None:
    """Have the PyTorch operations of this thread use no other threads.

    How many OpenMP takes is each thread's own setting; PyTorch sets it when a thread first asks.
    """
    import torch

    torch.get_num_threads()
    _openmp().limit(limits=1)


def give_way() -> None:
    """Have this thread run when others leave it time, where threads have a priority of their own."""
    if sys.platform == "linux":  # elsewhere that would be the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)


@functools.cache
def _openmp() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")


def name_limit(folder: str | os.PathLike[str]) -> int:
    """Bytes that the name of a file in a folder may have; 255 where the system can't tell."""
    try:
        return min(os.pathconf(folder, "PC_NAME_MAX"), 255)
    except (AttributeError, OSError, ValueError):  # such as Windows, which counts 255 letters
        return 255


def cores() -> int:
    """That this process may use, where the system tells, else those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this machine has, or that this process's control group may use; 0 where the system can't tell."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is none
            most = min(most, int(Path(path).read_text("ascii")))
    return most


def find_device(name: "str | torch.device | None" = None) -> "torch.device":
    """The device of that name; None for CUDA where there is one, else Apple's GPU, else the CPU.

    Raises:
        ValueError: there is none of that name, or it can't be used here.
    """
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        expected = "cpu, cuda, cuda:N or mps (Apple's GPU), of those that this machine has"
        raise ValueError(f"got device={name!r}, which can't be used here; expected {expected}") from error
    return device
