"""The decisions of the launch files as plain functions, tested without ROS and without launch.

Launch hands every argument over as text; an empty text means that the user did not set it.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import re
from string import Template
from typing import NamedTuple

from anomaly_seg_ros.node import topics

from .config import CAMERA_KEY, parameters
from .outputs import image_outputs


class LaunchArgument(NamedTuple):
    """One argument of a launch file; an empty default leaves the choice to the node."""

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()


SWITCH = ('true', 'false')
PARAMETER_ARGUMENTS = ('checkpoint', 'engine', 'autostart', 'exit_on_failure')
"""The node parameters that are launch arguments too."""


def _parameter_argument(name: str) -> LaunchArgument:
    """A launch argument for a node parameter, with help and choices from the node's table."""
    row = next(row for row in parameters() if row.name == name)
    choices = SWITCH if isinstance(row.default, bool) else row.choices
    text = f'{row.help}; not given: as in params_file'
    return LaunchArgument(name, '', text, ('', *choices) if choices else ())


RVIZ_ARGUMENTS = (
    LaunchArgument('namespace', '', 'namespace of the node, for example camera/front'),
    LaunchArgument('node_name', topics.NODE_NAME, 'name of the node'),
    LaunchArgument(
        'image_topic', topics.IMAGE, 'camera image; a relative name gets the namespace'
    ),
    LaunchArgument('use_sim_time', '', 'take the time from /clock', ('', *SWITCH)),
    LaunchArgument(
        'cameras',
        '',
        'several cameras on one engine, as front,left; in both topics {camera} is the name then, '
        'and RViz shows the first',
    ),
)
NODE_ARGUMENTS = (
    *RVIZ_ARGUMENTS,
    LaunchArgument(
        'camera_info_topic', '', 'camera calibration; empty: camera_info beside image_topic'
    ),
    LaunchArgument('params_file', '', 'parameter file; arguments win over what it says'),
    *(_parameter_argument(name) for name in PARAMETER_ARGUMENTS),
    LaunchArgument('log_level', 'info', 'of this node alone', ('debug', 'info', 'warn', 'error')),
    LaunchArgument('respawn', 'true', 'start the node again when it ends', SWITCH),
    LaunchArgument('respawn_delay', '5.0', 'seconds before that'),
    LaunchArgument(
        'shm_profile',
        'auto',
        'Fast DDS profile for large frames: auto (of this package, where /dev/shm has room), '
        'off, or a file',
    ),
    LaunchArgument('rviz', 'false', 'start RViz with it', SWITCH),
)


def parameter_overrides(arguments: Mapping[str, str]) -> dict[str, bool | str | list[str]]:
    """The node parameters that the user set by launch arguments, with their types.

    Raises:
        ValueError: A switch is neither `true` nor `false`.
    """
    switches = {row.name for row in parameters() if isinstance(row.default, bool)}
    switches.add('use_sim_time')
    overrides: dict[str, bool | str | list[str]] = {}
    if names := camera_names(arguments):
        overrides['cameras'] = names
    for name in (*PARAMETER_ARGUMENTS, 'use_sim_time'):
        text = arguments.get(name, '')
        if text:
            overrides[name] = to_bool(name, text) if name in switches else text
    return overrides


def camera_names(arguments: Mapping[str, str]) -> list[str]:
    """The cameras that share a node, or the namespaces of a node each; none where it has one.

    Raises:
        ValueError: One stands twice, or a name is none of ROS.
    """
    text = arguments.get('cameras', '')
    names = [name.strip() for name in text.split(',') if name.strip()]
    bad = [name for name in names if not re.fullmatch(CAMERA_KEY, name)]
    if bad or len(set(names)) != len(names):
        raise ValueError(
            f"cameras is '{text}'; write different names of letters, digits and _ with commas "
            'between, as front,left'
        )
    return names


def of_camera(text: str, camera: str) -> str:
    """A topic with the camera's name in place of {camera}."""
    return text.replace('{camera}', camera)


def input_remappings(arguments: Mapping[str, str]) -> list[tuple[str, str]]:
    """From the node's names of its inputs to those of the cameras, none where they are the same.

    Raises:
        ValueError: Several cameras would read one topic.
    """
    cameras = camera_names(arguments) or ['']
    image = arguments['image_topic']
    info = arguments['camera_info_topic'] or topics.beside(image)
    wanted = {topics.IMAGE: image, topics.CAMERA_INFO: info}
    if len(cameras) > 1 and not arguments['camera_info_topic'] and '{camera}' not in info:
        del wanted[topics.CAMERA_INFO]  # images in one folder have no calibration of each
    given = {name: topic for name, topic in wanted.items() if topic != name}
    for topic in given.values() if len(cameras) > 1 else ():
        if '{camera}' not in topic:
            raise ValueError(
                f"'{topic}' is one topic for {len(cameras)} cameras; write {{camera}} where a "
                "camera's name stands, as /{camera}/image_raw"
            )
    return [
        (topics.of_camera(name, camera), of_camera(topic, camera))
        for camera in cameras
        for name, topic in given.items()
    ]


PATHS = ('params_file', 'checkpoint', 'shm_profile', 'bag', 'record')
"""The arguments that are, or may be, paths."""


def expanded(
    arguments: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The arguments with `~` and environment variables put in where they are paths.

    Raises:
        ValueError: A variable is not set.
        FileNotFoundError: There is no such parameter file.
    """
    found = {name: _expand(name, text, environ) for name, text in arguments.items()}
    file = found.get('params_file', '')
    if file and not Path(file).is_file():
        raise FileNotFoundError(f"there is no parameter file '{file}'; check params_file:=")
    return found


def _expand(name: str, text: str, environ: Mapping[str, str]) -> str:
    if name not in PATHS:
        return text
    try:
        text = Template(text).substitute(environ)
    except KeyError as error:
        raise ValueError(
            f"{name} is '{text}', and the variable {error} is not set; set it or write the path"
        ) from None
    except ValueError:
        pass  # a $ that names no variable is a part of the path
    home = environ.get('HOME', '')
    return f'{home}{text[1:]}' if text == '~' or (text.startswith('~/') and home) else text


def to_bool(name: str, text: str) -> bool:
    """A launch switch as a boolean.

    Raises:
        ValueError: It is neither `true` nor `false`.
    """
    if text.lower() not in SWITCH:
        raise ValueError(f"{name} is '{text}'; write true or false")
    return text.lower() == 'true'


def to_seconds(name: str, text: str) -> float:
    """A launch argument as a duration.

    Raises:
        ValueError: It is no number, or a negative one.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float('inf'):
        raise ValueError(f"{name} is '{text}'; write seconds, for example 5.0")
    return seconds


def logger_name(namespace: str, node_name: str) -> str:
    """The name of a node's logger, so that a log level can be set for it alone."""
    return topics.resolve('~', namespace, node_name).strip('/').replace('/', '.')


def rviz_remappings(arguments: Mapping[str, str]) -> list[tuple[str, str]]:
    """From the names in the RViz file, which stand for no namespace, to the real ones.

    Of several cameras they are those of the first. RViz asks for a compressed topic by its own
    full name, so that one is remapped too.

    Raises:
        ValueError: As of `input_remappings`.
    """
    node = arguments['namespace'], arguments['node_name']
    camera = (camera_names(arguments) or [''])[0]
    inputs = dict(input_remappings({**arguments, 'camera_info_topic': topics.CAMERA_INFO}))
    image = topics.of_camera(topics.IMAGE, camera)
    pairs = [(topics.resolve(topics.IMAGE), topics.resolve(inputs.get(image, image), *node))]
    pairs += [
        (topics.resolve(name), topics.resolve(topics.of_camera(name, camera), *node))
        for name in image_outputs()
    ]
    suffix = topics.COMPRESSED_SUFFIX
    pairs += [(source + suffix, target + suffix) for source, target in pairs]
    return [(source, target) for source, target in pairs if source != target]
