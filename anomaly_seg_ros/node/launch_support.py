"""The decisions of the launch files as plain functions, tested without ROS and without launch.

Launch hands every argument over as text; an empty text means that the user did not set it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
import os
from pathlib import Path
import re
import shutil
from string import Template
import sys
from typing import NamedTuple
from xml.etree import ElementTree

from anomaly_seg_ros.node import topics

from .config import CAMERA_KEY, parameters
from .outputs import image_outputs

OLD_PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
"""Read by Humble and Jazzy. Kilted takes it too, with a warning."""
PROFILE_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE'
"""Read from Kilted on. Jazzy ignores it without a word."""
DISTROS_WITH_OLD_VARIABLE = frozenset({'humble', 'iron', 'jazzy'})

SHARED_MEMORY = Path('/dev/shm')
SHARED_MEMORY_SPARE = 8 * 2**20
"""Bytes left free beside our segment, for the ports and segments of other participants."""

ZENOH_SHM_ON = 'transport/shared_memory/enabled=true'
ZENOH_ALLOC_SIZE = str(48 * 2**20)
"""Bytes that each process sets aside for what it sends, a multiple of 4: seven frames of 1080p. A
larger message goes through TCP."""

SHM_PROFILE = 'fastdds_shm.xml'
PARAMS_FILE = 'node.yaml'
RVIZ_FILE = 'anomaly_seg.rviz'
FOXGLOVE_FILE = 'foxglove_layout.json'


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


def config_file(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A file of `config/`: as the ament index has it, else beside the source, else as pip put it.

    Reads the index by its layout, because `ament_index_python` is a part of ROS.

    Raises:
        FileNotFoundError: No such file; names every place that was searched.
    """
    folders = [
        Path(prefix, 'share', topics.PACKAGE, 'config')
        for prefix in environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        if Path(
            prefix, 'share', 'ament_index', 'resource_index', 'packages', topics.PACKAGE
        ).is_file()
    ]
    folders.append(Path(__file__).resolve().parents[2] / 'config')
    folders.append(Path(sys.prefix, 'share', topics.PACKAGE, 'config'))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    searched = ', '.join(f"'{folder}'" for folder in folders)
    raise FileNotFoundError(
        f"no config file '{name}' in {searched}; build the package with colcon and source "
        f'install/setup.bash'
    )


def ros_distro(environ: Mapping[str, str] = os.environ) -> str:
    """The ROS distribution in lower case: of the sourced setup, else of the wheels, else empty."""
    if environ.get('ROS_DISTRO'):
        return environ['ROS_DISTRO'].lower()
    for distro in ('lyrical', 'kilted', 'jazzy'):
        try:
            metadata.version(f'ros-{distro}-rclpy')
        except metadata.PackageNotFoundError:
            continue
        return distro
    return ''


def segment_size(profile: Path) -> int:
    """Bytes of shared memory that a participant with this Fast DDS profile takes; 0 if none.

    Raises:
        ValueError: The file is no XML, or its size is no number.
    """
    try:
        root = ElementTree.parse(profile).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"'{profile}' is no Fast DDS profile: {error}; mend the XML") from error
    sizes = [element.text or '' for element in root.iter() if element.tag.endswith('segment_size')]
    try:
        return max((int(size) for size in sizes), default=0)
    except ValueError:
        raise ValueError(
            f"segment_size in '{profile}' is {sizes}; write bytes as 33554432"
        ) from None


class ProfileChoice(NamedTuple):
    """Environment variables to add for the node, and what the user must be told, or ''."""

    variables: dict[str, str]
    warning: str = ''


def _users_choice(distro: str, environ: Mapping[str, str]) -> ProfileChoice | None:
    """Nothing to add, when the user chose a transport or another middleware; None if not."""
    if environ.get(OLD_PROFILE_VARIABLE):
        return ProfileChoice({})
    if environ.get(PROFILE_VARIABLE):
        if distro in DISTROS_WITH_OLD_VARIABLE:
            return ProfileChoice(
                {},
                f"{PROFILE_VARIABLE} is '{environ[PROFILE_VARIABLE]}', but ROS 2 {distro} does "
                f'not read it; set {OLD_PROFILE_VARIABLE} instead',
            )
        return ProfileChoice({})
    if environ.get('FASTDDS_BUILTIN_TRANSPORTS'):
        return ProfileChoice({})
    middleware = environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if 'zenoh' in middleware:
        return _zenoh_choice(environ)
    return None if 'fastrtps' in middleware else ProfileChoice({})


def _zenoh_choice(environ: Mapping[str, str]) -> ProfileChoice:
    """Shared memory for Zenoh; without it each frame goes through TCP, which also delivers."""
    if environ.get('ZENOH_CONFIG_OVERRIDE') or environ.get('ZENOH_SESSION_CONFIG_URI'):
        return ProfileChoice({})
    size = environ.get('ZENOH_SHM_ALLOC_SIZE', ZENOH_ALLOC_SIZE)
    return ProfileChoice({'ZENOH_CONFIG_OVERRIDE': ZENOH_SHM_ON, 'ZENOH_SHM_ALLOC_SIZE': size})


def profile_environment(
    distro: str,
    profile: Path,
    environ: Mapping[str, str],
    shared_memory: Path = SHARED_MEMORY,
) -> ProfileChoice:
    """How to start a process so that camera frames fit through its shared memory.

    Skips the profile when its segment does not fit into shared memory: the participant could not
    be created then, and the node would not start at all.

    Args:
        distro: As from `ros_distro`. Unknown ones get both variables.
        profile: The XML file.
        environ: What the process inherits; whatever the user set there wins.
        shared_memory: The mount that Fast DDS takes its segments from.

    Raises:
        FileNotFoundError: There is no such profile; Fast DDS alone would go on with defaults.
        ValueError: The profile cannot be read.
    """
    chosen = _users_choice(distro, environ)
    if chosen is not None:
        return chosen
    if not profile.is_file():
        raise FileNotFoundError(f"no Fast DDS profile '{profile}'; give a file, or 'off'")
    needed = segment_size(profile) + SHARED_MEMORY_SPARE
    free = shutil.disk_usage(shared_memory).free if shared_memory.is_dir() else 0
    if free < needed:
        return ProfileChoice(
            {},
            f"shared-memory profile skipped: '{shared_memory}' has {free >> 20} MiB free and it "
            f'needs {needed >> 20} MiB, so frames above 0.5 MB may be lost; start the container '
            f'with --shm-size=512m or --ipc=host',
        )
    if distro in DISTROS_WITH_OLD_VARIABLE:
        return ProfileChoice({OLD_PROFILE_VARIABLE: str(profile)})
    if distro:
        return ProfileChoice({PROFILE_VARIABLE: str(profile)})
    return ProfileChoice({OLD_PROFILE_VARIABLE: str(profile), PROFILE_VARIABLE: str(profile)})


def shm_profile_environment(
    argument: str = 'auto', environ: Mapping[str, str] = os.environ
) -> ProfileChoice:
    """`profile_environment` for the launch argument `shm_profile`: `auto`, `off` or a file."""
    if argument == 'off':
        return ProfileChoice({})
    profile = config_file(SHM_PROFILE, environ) if argument == 'auto' else Path(argument)
    return profile_environment(ros_distro(environ), profile.expanduser().resolve(), environ)


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
