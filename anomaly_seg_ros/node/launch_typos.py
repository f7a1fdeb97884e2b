"""What is said of launch arguments that mean nothing: launch itself takes any without a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from anomaly_seg_ros.registry import did_you_mean

from .config import parameters
from .launch_files import LAUNCH_FILES

OF_LAUNCH = ('launch-prefix', 'launch-prefix-filter')
"""What `ros2 launch` hands on beside the user's arguments."""
VERY_LIKE = 0.8
"""Of two names, 0..1: hardly ever two that are both meant."""


def check_arguments(
    file: str, command: Sequence[str], given: Iterable[str], set_names: Iterable[str]
) -> list[str]:
    """Refuses arguments that none of our launch files has; gives warnings of likely ones.

    A file that the user's own launch file includes meets the arguments of that one too: there,
    only a name that is very like one of ours is a fault, and never for certain.

    Args:
        file: Name of our launch file.
        command: Of this process; names the launch file that the user runs.
        given: The arguments on it, as `name:=value`.
        set_names: All names that have a value in launch.

    Raises:
        ValueError: The user runs this very file with an argument that it does not have.
    """
    known = {argument.name for argument in LAUNCH_FILES[file]}
    if any(Path(word).name == file for word in command):
        names = [text.partition(':=')[0] for text in given]
        said = [_unknown(name, known) for name in names if name not in {*known, *OF_LAUNCH}]
        if said:
            raise ValueError('; '.join(said))
        return []
    ours = {argument.name for arguments in LAUNCH_FILES.values() for argument in arguments}
    guesses = {name: did_you_mean(name, known, VERY_LIKE) for name in set_names}
    return [
        f'{file} has no argument {name!r}{guess}'
        for name, guess in guesses.items()
        if guess and name not in ours  # one file includes another, and its arguments go along
    ]


def _unknown(name: str, known: Iterable[str]) -> str:
    of_node = [row.name for row in parameters()]
    if name in of_node:
        return (
            f'{name!r} is a parameter of the node and no launch argument; write it into a file '
            'and give params_file:=FILE'
        )
    guess = did_you_mean(name, known)
    if not guess and (guess := did_you_mean(name, of_node)):
        guess += ' That is a parameter of the node: give params_file:=FILE'
    return f'unknown launch argument {name!r}{guess or "; --show-args lists all"}'
