"""What every launch file does alike: its arguments, their values, other files, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
import sys
from typing import TYPE_CHECKING

from anomaly_seg_ros.node import launch_support, package_files, topics
from anomaly_seg_ros.node.launch_typos import check_arguments

if TYPE_CHECKING:
    from launch.actions import DeclareLaunchArgument, LogInfo
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.substitutions import PathJoinSubstitution


def declared(arguments: Sequence[launch_support.LaunchArgument]) -> list[DeclareLaunchArgument]:
    """Gives the declarations of a table; `params_file` is the file that is installed."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=installed('config', package_files.PARAMS_FILE)
            if argument.name == 'params_file'
            else argument.default,
            description=argument.help,
            choices=argument.choices or None,
        )
        for argument in arguments
    ]


def values(
    context: LaunchContext, arguments: Sequence[launch_support.LaunchArgument]
) -> dict[str, str]:
    """Gives what the arguments of a table are in this launch."""
    from launch.substitutions import LaunchConfiguration

    return {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in arguments
    }


def installed(folder: str, name: str) -> PathJoinSubstitution:
    """Gives the path of a file of this package."""
    from launch.substitutions import PathJoinSubstitution
    from launch_ros.substitutions import FindPackageShare

    return PathJoinSubstitution([FindPackageShare(topics.PACKAGE), folder, name])


def launch_file(name: str) -> PythonLaunchDescriptionSource:
    """Gives another launch file of this package, to be included."""
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    return PythonLaunchDescriptionSource(installed('launch', name))


def warned(file: str, context: LaunchContext, *more: str) -> list[LogInfo]:
    """Says what looks wrong in the arguments of a file, and whatever else is not empty.

    Raises:
        ValueError: An argument that the file does not have.
    """
    from launch.actions import LogInfo

    found = check_arguments(file, sys.argv, context.argv, context.launch_configurations)
    return [LogInfo(msg=f'WARNING: {text}') for text in (*found, *filter(None, more))]
