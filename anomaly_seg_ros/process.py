"""What the process asks of the machine: memory that it keeps, how many threads, a signal stack.

glibc gives a freed block of some megabytes straight back to the kernel and fetches a fresh,
zeroed one for the next frame or layer. Images, messages and tensors are such blocks. Only the
Python standard library is imported, because `tune_allocator` must come before torch, OpenCV and
DDS start to allocate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes
import os
import platform

# (option, value): M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX of <malloc.h>. The first two only
# help together; the third makes worker threads share what the main thread already holds.
_SETTINGS = ((-4, 0), (-1, 2**31 - 1), (-8, 1))


# What glibc starts with, but for its adaptation of the first two while the process runs.
_DEFAULTS = ((-4, 65536), (-1, 128 * 1024), (-8, 8 * (os.cpu_count() or 1)))


def tune_allocator(tuned: bool = True) -> bool:
    """Tells glibc to keep freed memory; the process then holds a few hundred megabytes more.

    Args:
        tuned: False to go back to what glibc starts with.

    Returns:
        Whether the setting took effect; False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = _SETTINGS if tuned else _DEFAULTS
    return all(mallopt(option, value) == 1 for option, value in settings)


def inference_threads() -> int:
    """Threads of one inference: all cores, but one is left to the middleware above two."""
    cores = usable_cores()
    return cores if cores <= 2 else cores - 1


def picture_threads() -> int:
    """Threads of OpenCV: what it does is short, and waking more than two takes longer."""
    return min(2, usable_cores())


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Gives this thread back, behind the block, the alternate stack that it had for signals.

    OpenVINO's CPU plugin puts in one of its own where it is loaded, and unmaps it at its end. What
    was before comes back only if the plugin ends on the same thread and in the reverse order of
    several. Else the thread is left with a stack that is no memory: the next signal that Python
    handles, as Ctrl-C, a timer or a child's end, is then a segmentation fault in whatever runs.
    """
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = signal_stack()
    try:
        yield
    finally:
        sigaltstack(before, None)


def signal_stack() -> bytes:
    """Gives what the C library says of this thread's alternate stack for signals (`stack_t`)."""
    stack = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).sigaltstack(None, stack)
    return stack.raw
