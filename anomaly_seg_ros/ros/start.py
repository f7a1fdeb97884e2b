"""The executable `anomaly_seg_node`: whatever ends it is at most one line and a status.

Nothing heavy is imported before the signals are in hand: rclpy and OpenCV take a second.
"""

from __future__ import annotations

import os
import signal
import sys


def _leave(*_: object) -> None:
    """Ends the process at a signal that comes before `StopSignals` is there."""
    os._exit(0)


if __name__ == '__main__' or os.path.basename(sys.argv[0]).startswith('anomaly_seg_node'):
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _leave)

from collections.abc import Sequence  # noqa: E402 - from here on imports take time
from typing import TYPE_CHECKING  # noqa: E402

from anomaly_seg_ros.node.start_checks import check_start, parameter_files, USAGE  # noqa: E402
from anomaly_seg_ros.process.allocator import tune_allocator  # noqa: E402
from anomaly_seg_ros.process.cores import picture_threads  # noqa: E402
from anomaly_seg_ros.process.path_errors import explain, is_bad_path  # noqa: E402
from anomaly_seg_ros.process.stop_signals import held_signals, StopSignals  # noqa: E402

if TYPE_CHECKING:
    from .node import AnomalySegNode


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until a signal ends it.

    Returns:
        0 after Ctrl-C or SIGTERM, at any moment; 2 where something given to it does not fit; 1
        where it could not start and `exit_on_failure` is set.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    if arguments in (['-h'], ['--help']):
        sys.stdout.write(f'{USAGE}\n')
        return 0
    status = guarded(arguments, is_own_process=args is None)
    if args is None:
        # Launch repeats the Ctrl-C of its terminal, and Python's own end is as good as done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def guarded(arguments: Sequence[str], is_own_process: bool) -> int:
    """Runs the node; makes one line and a status of what ends it."""
    # Launch files and the demo end a node by SIGINT, also one in the background of a shell.
    with StopSignals(is_own_process, hears_ignored=True) as signals:
        try:
            check_start(arguments, os.environ)
            return run(arguments, signals)
        except (Exception, KeyboardInterrupt) as error:
            # A library that was cut short may have made another error of the signal.
            if signals.caught or isinstance(error, KeyboardInterrupt):
                return 0
            if isinstance(error, OSError):
                say(explain(error, None))
                return 2 if is_bad_path(error) else 1
            if isinstance(error, ImportError):
                say(f'{error}; source the setup file of ROS and that of the workspace')
            elif isinstance(error, ValueError):
                say(str(error))
            else:
                raise
            return 2


def run(arguments: Sequence[str], signals: StopSignals) -> int:
    """Imports what the node is made of and runs it; gives its status.

    Args:
        arguments: Of the process.
        signals: Those that ended it before ROS took them over.

    Raises:
        ValueError: ROS does not start, or a parameter does not fit.
    """
    # Before DDS makes its threads, so before the parameter can be read where a file sets it.
    tuned = 'tune_allocator:=false' not in arguments and tune_allocator()
    import cv2
    import rclpy

    from .node import spin

    cv2.setNumThreads(picture_threads())
    try:
        node = make_node(arguments)
        signals.check()
        if tuned and not node.config.tune_allocator:
            tune_allocator(tuned=False)
        with held_signals():
            spin(node)
    finally:
        rclpy.try_shutdown()
    return int(node.gave_up())


def make_node(arguments: Sequence[str]) -> AnomalySegNode:
    """Joins ROS and makes the node.

    Raises:
        ValueError: One of the two does not work, with what is wrong and the way out.
    """
    from .compat import start_up_values
    from .joining import join_ros, plain_errors
    from .node import AnomalySegNode

    join_ros(arguments)
    with plain_errors():
        node = AnomalySegNode()
    files = parameter_files(arguments)
    if files and not start_up_values(node):
        node.get_logger().warning(
            f'{", ".join(files)} has nothing for {node.get_fully_qualified_name()!r}; write this '
            "name or '/**' above ros__parameters"
        )
    return node


def say(text: str) -> None:
    """Prints one line on stderr."""
    sys.stderr.write(f'anomaly_seg_node: {" ".join(text.split())}\n')


if __name__ == '__main__':
    sys.exit(main())
