"""How many threads the process takes, so that jobs share the machine's cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import math
import os

from .cpu_quota import cpu_quota

THREADS = 'ANOMALY_SEG_THREADS'
"""The environment variable that carries `--threads` to child processes."""


@contextmanager
def shared_cores(threads: int | None = None, processes: int = 1) -> Iterator[None]:
    """Sets what torch and its children read at their start, so that jobs share the machine.

    A thread of OpenMP that has nothing to do spins as it is shipped: of two jobs on the same cores
    each then waits for threads of its own that the other's spinning keeps from running.

    Args:
        threads: Of a network; None: what `inference_threads` gives, and training its share.
        processes: That train at once, each with so many threads.

    Raises:
        ValueError: Less than one.
    """
    if threads is not None and threads < 1:
        raise ValueError(f'threads is {threads}; it must be 1 or more')
    before = dict(os.environ)
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    if threads is not None:
        os.environ[THREADS] = os.environ['OMP_NUM_THREADS'] = str(threads)
    share = max(usable_cores() // max(processes, 1), 1)
    os.environ.setdefault('OMP_NUM_THREADS', str(share))
    try:
        yield
    finally:
        for name in ('OMP_WAIT_POLICY', 'OMP_NUM_THREADS', THREADS):
            os.environ.pop(name, None)
            os.environ.update({name: before[name]} if name in before else {})


def inference_threads() -> int:
    """Threads of one inference: all cores, but one is left to the middleware above two."""
    asked = os.environ.get(THREADS)
    if asked:
        return int(asked)
    cores = usable_cores()
    return cores if cores <= 2 else cores - 1


def picture_threads() -> int:
    """Threads of OpenCV: what it does is short, and waking more than two takes longer."""
    return min(2, usable_cores())


def usable_cores() -> int:
    """Cores that this process may run on: by its affinity, and by the quota of its cgroup."""
    return math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota()))
