"""The stack on which a thread handles signals, kept from a library that takes it along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes


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
