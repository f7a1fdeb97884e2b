"""Memory that the process keeps instead of giving it back.

glibc gives a freed block of some megabytes straight back to the kernel and fetches a fresh,
zeroed one for the next frame or layer. Images, messages and tensors are such blocks. Nothing
beyond the Python standard library is imported, because `tune_allocator` must come before torch,
OpenCV and DDS start to allocate.
"""

from __future__ import annotations

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
