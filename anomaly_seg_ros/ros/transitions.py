"""The boundary between the node's transitions and rclpy, which would hide what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
import functools
import traceback
from typing import Protocol, TypeVar

from rclpy.context import Context
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from anomaly_seg_ros.node.watchdog import cut
from anomaly_seg_ros.process.out_of_memory import is_out_of_memory, OUT_OF_MEMORY_SAID
from anomaly_seg_ros.process.stop_signals import stop_is_asked


class Reporting(Protocol):
    """A lifecycle node that tells others why a transition failed.

    Attributes:
        problem: Of the last transition to configure or activate; '' where it went well.
    """

    problem: str

    @property
    def context(self) -> Context:
        """What a signal shuts down."""

    def get_logger(self) -> RcutilsLogger:
        """Gives the node's logger."""


NodeType = TypeVar('NodeType', bound=Reporting)
Transition = Callable[[NodeType, LifecycleState], TransitionCallbackReturn]


def logged_transition(callback: Transition[NodeType]) -> Transition[NodeType]:
    """Logs and keeps what a transition raises: rclpy itself would swallow it without a word.

    What a user can mend (`ValueError`, `FileNotFoundError`, `ImportError`, no memory left) is one
    error line and FAILURE; anything else is logged with its traceback and ERROR. At a signal
    nothing is said: what it has cut short fails in many ways.
    """

    @functools.wraps(callback)
    def wrapper(node: NodeType, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except KeyboardInterrupt:
            return TransitionCallbackReturn.ERROR
        except Exception as error:  # noqa: BLE001 - the boundary to rclpy, which would hide it
            if stop_is_asked() or not node.context.ok():
                return TransitionCallbackReturn.ERROR
            if isinstance(error, (ValueError, FileNotFoundError, ImportError)):
                node.problem = str(error)
                node.get_logger().error(cut(f'{callback.__name__}: {error}'))
                return TransitionCallbackReturn.FAILURE
            if is_out_of_memory(error):
                node.problem = f'{OUT_OF_MEMORY_SAID} ({str(error).strip()})'
                node.get_logger().error(cut(f'{callback.__name__}: {node.problem}'))
                return TransitionCallbackReturn.FAILURE
            node.problem = f'{type(error).__name__}: {error}'
            node.get_logger().error(f'{callback.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return wrapper
