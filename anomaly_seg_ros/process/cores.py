"""How many threads the process takes, so that jobs share the machine's cores."""

from __future__ import annotations

import os


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
