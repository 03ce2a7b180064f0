"""The process's memory: that none of it is written to disk when the process dies; and its allocators, where they cost.

glibc gives large blocks back to the system the moment they are freed, and gets them again page by page, zeroed. For work
that frees and takes such blocks all the time that is a third of its time (measured on counting 10 million rows);
elsewhere than on glibc nothing is done about it. Arrow's own allocator does worse than the system's where threads read and
write hundreds of small files (a sixth of the time of one more day).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

# Parameters of mallopt(3) and their defaults, in bytes. Setting one ends their adjustment by themselves.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT = {_TRIM_THRESHOLD: 1 << 30, _MMAP_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}
_USUAL = {_TRIM_THRESHOLD: 1 << 17, _MMAP_THRESHOLD: 1 << 17, _TOP_PAD: 1 << 17}


def keep_out_of_core_dumps() -> None:
    """From now on this process, and what it starts, leaves no core dump: it would hold addresses, log lines and the key. A
    program of the system that is piped core dumps to is told that none is wanted, but may think otherwise."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it the process keeps what it frees, to use it again; at its end that goes back to the system."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    for parameter, value in _KEPT.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


@contextmanager
def system_allocator() -> Iterator[None]:
    """Within it Arrow takes its memory from the system's allocator, whoever asks."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
