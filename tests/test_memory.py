"""Freed memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

from a2i.memory import keep_freed_memory

FREED = """
import ctypes, os, sys
from a2i.memory import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if sys.argv[1] == "keep":
    keep_freed_memory()
blocks = [libc.malloc(10 << 20) for _ in range(10)]
for block in blocks:
    libc.memset(block, 1, 10 << 20)
full = resident()
for block in blocks:
    libc.free(block)
print((full - resident()) // (1 << 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_what_is_freed_stays() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FREED, mode], check=True, capture_output=True, text=True).stdout)
        for mode in ("give back", "keep")
    )
    assert given_back > 75, "MB of 100"
    assert kept < 10, "MB of 100"


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("looked for"))
    keep_freed_memory()
