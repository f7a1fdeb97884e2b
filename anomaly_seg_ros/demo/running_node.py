"""The node as a process of its own, as on the vehicle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys

from anomaly_seg_ros.node import topics


@contextmanager
def running_node(
    namespace: str,
    checkpoint: Path,
    engine: str,
    parameters: Mapping[str, str] | None = None,
    quiet: bool = False,
    own_diagnostics: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Runs the executable of the vehicle as a process of its own, and stops it at the end.

    Args:
        namespace: Of the node.
        checkpoint: What it runs.
        engine: By which engine.
        parameters: More of them.
        quiet: Whether it logs errors alone.
        own_diagnostics: Whether its diagnostics stay in its namespace: those of a node that only
            tries something out are none of the vehicle's.
    """
    command = [sys.executable, '-m', 'anomaly_seg_ros.ros.start', '--ros-args']
    command += ['-r', f'__ns:={namespace}', '-p', f'checkpoint:={checkpoint}']
    command += ['-p', 'exit_on_failure:=true']
    for name, value in {'engine': engine, **(parameters or {})}.items():
        command += ['-p', f'{name}:={value}']
    if own_diagnostics:
        command += ['-r', f'{topics.DIAGNOSTICS}:={namespace}{topics.DIAGNOSTICS}']
    if quiet:
        command += ['--log-level', 'error']
    environment = dict(os.environ)
    # The wheels' bootstrap marks the process it has set up; the child sets itself up.
    environment.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
