"""The launch files with their arguments, and what those of several cameras and of bags decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anomaly_seg_ros.node import topics

from .launch_support import (
    camera_names,
    LaunchArgument,
    NODE_ARGUMENTS,
    of_camera,
    RVIZ_ARGUMENTS,
    SWITCH,
    to_bool,
)
from .outputs import usual_outputs

MAIN_FILE = 'anomaly_seg.launch.py'

OF_ONE_CAMERA = ('namespace', 'image_topic', 'camera_info_topic', 'cameras', 'rviz')
"""Arguments of the node that follow from the camera's name where there are several."""
OF_A_REPLAY = ('use_sim_time', 'respawn', 'respawn_delay')
"""Arguments of the node that a replay sets itself."""

CAMERAS_ARGUMENTS = (
    LaunchArgument('cameras', 'front,left,right', 'names of the cameras; each is a namespace'),
    LaunchArgument('image_topics', '/{camera}/image_raw', 'image topic; {camera} is the name'),
    LaunchArgument('shared_engine', 'false', 'one node and one engine for all of them', SWITCH),
    LaunchArgument(
        'camera_info_topics',
        '',
        'likewise their calibration; empty: camera_info beside image_topics',
    ),
    *(argument for argument in NODE_ARGUMENTS if argument.name not in OF_ONE_CAMERA),
)
REPLAY_ARGUMENTS = (
    LaunchArgument('bag', '', 'the bag: a folder, or a file of one'),
    LaunchArgument('rate', '1.0', 'how many times as fast as it was recorded'),
    LaunchArgument('delay', '3.0', 'seconds before it begins, for the node to be found'),
    LaunchArgument('record', '', "folder for a bag of the node's outputs; empty: none"),
    *(argument for argument in NODE_ARGUMENTS if argument.name not in OF_A_REPLAY),
)
DDS_ARGUMENTS = (
    *(argument for argument in NODE_ARGUMENTS if argument.name == 'shm_profile'),
    LaunchArgument('allocator', 'true', 'keep freed memory in processes: cheap images', SWITCH),
)

LAUNCH_FILES = {
    MAIN_FILE: NODE_ARGUMENTS,
    'dds.launch.py': DDS_ARGUMENTS,
    'multi_camera.launch.py': CAMERAS_ARGUMENTS,
    'replay.launch.py': REPLAY_ARGUMENTS,
    'rviz.launch.py': RVIZ_ARGUMENTS,
}
"""What each file takes."""

ALLOCATOR_VARIABLES = {
    'MALLOC_MMAP_THRESHOLD_': str(32 << 20),
    'MALLOC_TRIM_THRESHOLD_': str(256 << 20),
    'MALLOC_TOP_PAD_': str(64 << 20),
}
"""What glibc reads; the node itself needs none of it (`tune_allocator`), a camera driver does."""


def of_cameras(arguments: Mapping[str, str]) -> list[dict[str, str]]:
    """Gives the arguments of `MAIN_FILE` for each camera of `multi_camera.launch.py`.

    Raises:
        ValueError: No camera, one twice, or a name that is none of ROS.
    """
    names = camera_names(arguments)
    if not names:
        raise ValueError("cameras is ''; write their names with commas between, as front,left")
    of_node = {argument.name for argument in NODE_ARGUMENTS}
    handed = {name: text for name, text in arguments.items() if name in of_node}
    images, infos = arguments['image_topics'], arguments['camera_info_topics']
    if to_bool('shared_engine', arguments['shared_engine']):
        return [{**handed, 'image_topic': images, 'camera_info_topic': infos}]
    return [
        {
            **handed,
            'cameras': '',
            'namespace': name,
            'image_topic': of_camera(images, name),
            'camera_info_topic': of_camera(infos, name),
        }
        for name in names
    ]


def given_bag(text: str) -> Path:
    """Gives the bag that a replay plays.

    Raises:
        ValueError: None was given.
        FileNotFoundError: There is no such bag.
    """
    if not text:
        raise ValueError('no bag was given; add bag:=FOLDER')
    if not Path(text).exists():
        raise FileNotFoundError(f"there is no bag '{text}'; check bag:=")
    return Path(text)


def play_command(bag: Path, rate: float, delay_s: float) -> list[str]:
    """Gives how to play a bag so that the node sees all of it, at the bag's own time."""
    return [
        *('ros2', 'bag', 'play', str(bag)),
        *('--clock', '200', '--rate', f'{rate}', '--delay', f'{delay_s}'),
        *('--read-ahead-queue-size', '200', '--disable-keyboard-controls'),
    ]


def of_replay(arguments: Mapping[str, str]) -> dict[str, str]:
    """Gives the arguments of `MAIN_FILE` for a replay: on the time of the bag, started once."""
    own = {argument.name for argument in NODE_ARGUMENTS}
    handed = {name: text for name, text in arguments.items() if name in own}
    return {**handed, 'use_sim_time': 'true', 'respawn': 'false'}


def record_commands(arguments: Mapping[str, str], distro: str) -> list[list[str]]:
    """Gives how to record the node's outputs in a replay, pictures for eyes excepted; or nothing.

    Raises:
        ValueError: The folder is there already; rosbag2 would say so when the bag has begun.
    """
    if not arguments['record']:
        return []
    out = Path(arguments['record'])
    if out.exists():
        raise ValueError(f"'{out}' is there already; choose another folder for record:=")
    node = arguments['namespace'], arguments['node_name']
    names = [
        topics.resolve(topics.of_camera(topic, camera), *node)
        for camera in camera_names(arguments) or ['']
        for topic in recorded()
    ]
    # Without the word the topics are deprecated from Jazzy on; with it Humble refuses them.
    word = [] if distro == 'humble' else ['--topics']
    command = ['ros2', 'bag', 'record', '-s', 'mcap', '-o', str(out), '--use-sim-time']
    return [[*command, *word, *names]]


def recorded() -> Sequence[str]:
    """Gives the topics that a replay records."""
    return [topic for topic in usual_outputs() if topic != topics.OVERLAY]
