"""What keeps ROS from starting, said in words that help; ROS itself names lines of its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
import re

from anomaly_seg_ros.process.path_errors import explain, try_out

USAGE = (
    'usage: anomaly_seg_node [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]]; '
    'config/node.yaml shows all parameters'
)
MOST_DOMAIN = 232
"""Above it the ports of Fast DDS do not exist, and it ends the process."""

WAYS_OUT = {
    'parse params file': 'check the path and the YAML; config/node.yaml shows the form',
    'parse remap rule': 'write FROM:=TO; names hold letters, digits and _ alone',
    'parse parameter override rule': 'write -p NAME:=VALUE',
    "expecting type 'BOOL'": 'write true or false',
    "'use_sim_time' is not initialized": 'write use_sim_time:=true or false',
    'parse log level': 'choose one of: debug, info, warn, error, fatal',
    'unknown ROS arguments': USAGE,
    'SECURITY ERROR': 'make the keys of this enclave with ros2 security create_enclave',
    'security libraries': 'the wheels of PyPI have none: take ROS of apt, or unset '
    'ROS_SECURITY_ENABLE',
}
"""What a user can do, by a part of what ROS says."""


def check_start(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Refuses what ROS could only say badly, or not at all.

    Raises:
        ValueError: One line that names the value and the way out.
    """
    if extra := _own_arguments(arguments):
        raise ValueError(f'unknown argument {extra[0]!r}; {USAGE}')
    for file in parameter_files(arguments):
        if not Path(file).is_file():
            raise ValueError(f'there is no parameter file {file!r}; check the path')
    domain = environ.get('ROS_DOMAIN_ID', '')
    if domain and not (domain.isascii() and domain.isdigit() and int(domain) <= MOST_DOMAIN):
        raise ValueError(
            f'ROS_DOMAIN_ID is {domain!r}; set a whole number from 0 to {MOST_DOMAIN}, or unset it'
        )
    if _is_secured(environ) and not environ.get('ROS_SECURITY_KEYSTORE'):
        raise ValueError(
            'ROS_SECURITY_STRATEGY is Enforce and ROS_SECURITY_KEYSTORE is not set; set it to the '
            'folder that ros2 security create_keystore has made'
        )
    _check_log_folder(environ)


def _is_secured(environ: Mapping[str, str]) -> bool:
    """Whether ROS is to start with the keys of an enclave or not at all."""
    enabled = environ.get('ROS_SECURITY_ENABLE') == 'true'
    return enabled and environ.get('ROS_SECURITY_STRATEGY') == 'Enforce'


def parameter_files(arguments: Sequence[str]) -> list[str]:
    """Gives the parameter files among the arguments."""
    return [file for option, file in pairwise(arguments) if option == '--params-file']


def explained(kind: str, text: str) -> str:
    """Gives what ROS says of a failed start without its source lines, and with a way out.

    Args:
        kind: Name of its error.
        text: Of its error.
    """
    if kind == 'UnknownROSArgsError':
        text = f'unknown ROS arguments {text}'
    plain = re.sub(r', at [^ ,]+:\d+', '', text).strip()
    plain = re.sub(r'^failed to initialize \w+: ', '', plain)
    plain = re.sub(r': [\w.]+$', '', plain) if 'Parameter' in kind else plain
    ways = [way for part, way in WAYS_OUT.items() if part in plain]
    return f'ROS does not start: {"; ".join([plain, *ways])}'


def _own_arguments(arguments: Sequence[str]) -> list[str]:
    """Gives the arguments that are not meant for ROS."""
    own, of_ros = [], False
    for word in arguments:
        if word == '--ros-args':
            of_ros = True
        elif of_ros and word == '--':
            of_ros = False
        elif not of_ros:
            own.append(word)
    return own


def _check_log_folder(environ: Mapping[str, str]) -> None:
    home = environ.get('HOME', '')
    folder = environ.get('ROS_LOG_DIR') or str(Path(environ.get('ROS_HOME') or '~/.ros', 'log'))
    if folder.startswith('~') and not home:
        raise ValueError(
            'HOME is not set, and ROS keeps its logs below it; set HOME or ROS_LOG_DIR'
        )
    if folder.startswith('~'):
        folder = home + folder[1:]
    try:
        try_out(Path(folder))
    except OSError as error:
        raise ValueError(
            f'ROS cannot write its logs: {explain(error, None)}, or set ROS_LOG_DIR'
        ) from None
