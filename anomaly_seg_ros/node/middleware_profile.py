"""What the middleware is told so that camera frames fit through its shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
import os
from pathlib import Path
import shutil
from typing import NamedTuple
from xml.etree import ElementTree

from .package_files import config_file, SHM_PROFILE

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
