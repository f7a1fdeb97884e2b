"""The boundary between the node's transitions and rclpy, which would hide what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
import functools
import traceback
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def logged_transition(callback: Transition) -> Transition:
    """Logs what a transition raises: rclpy itself would swallow it without a word.

    What a user can mend (`ValueError`, `FileNotFoundError`, `ImportError`) is one error line and
    FAILURE; anything else is logged with its traceback and ERROR.
    """

    @functools.wraps(callback)
    def wrapper(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except (ValueError, FileNotFoundError, ImportError) as error:
            node.get_logger().error(f'{callback.__name__}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:  # noqa: BLE001 - the boundary to rclpy, which would hide it
            node.get_logger().error(f'{callback.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return wrapper
