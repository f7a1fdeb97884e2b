"""Starts and ends the processes that load samples, by a server and not by a fork of this process.

A fork copies every lock that another thread holds just then, and middleware, inference engines and
OpenCV all run threads. The server is a fresh interpreter that does nothing but import what loads a
sample; a fork of it takes milliseconds.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver, resource_tracker
import os
import signal
import threading

from anomaly_seg_ros.process.allocator import tune_allocator

START_METHOD = 'forkserver'

_LOADS_SAMPLES = ('training.feeding.loading', 'training.feeding.pasting')
_LOOK_EVERY_S = 1.0


def start_server() -> None:
    """Starts the server beside what this process does next; there is one for all loaders.

    Whoever ends a whole process group (a terminal, `timeout`, Slurm, systemd) also signals the
    server and the loading processes. They are born with those signals blocked: the training
    process stops behind its step, saves, and ends them.
    """
    multiprocessing.get_context(START_METHOD).set_forkserver_preload(list(_LOADS_SAMPLES))
    resource_tracker.ensure_running()  # starting it later would unblock these signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_up(worker: int) -> None:
    """Makes a loading process keep its memory, as `anomaly_seg` does, and end with its parent."""
    tune_allocator()
    threading.Thread(target=_end_with_parent, name='end_with_parent', daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that asked for it is gone, or sends it a SIGTERM."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while parent.is_alive():
        asked = signal.sigtimedwait({signal.SIGTERM}, _LOOK_EVERY_S)
        if asked is not None and asked.si_pid == parent.pid:
            break
    os._exit(0)
