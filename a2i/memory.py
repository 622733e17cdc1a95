"""How the process deals with memory that it has freed, or could."""

import ctypes
import sys
import traceback

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE = 32 << 20  # bytes; what is larger goes back to the kernel at once, as ever, or holes would be left
KEPT = 128 << 20  # bytes, of each thread's arena


def keep_freed_memory() -> None:
    """Have the process keep up to 128 MB of what it frees, blocks of up to 32 MB, for what it needs next.

    Batches are large and short-lived. glibc gives such memory back to the kernel and gets it anew, 4 KB at a time, at the
    first write to each; `experiments/benchmarks` tells what that costs. PyTorch's tuning guide has another allocator
    preloaded instead, which a program can't do for itself. Where the C library is not glibc nothing happens. It is for
    programs to call, not for libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, KEPT)


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
