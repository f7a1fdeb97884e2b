"""Several cameras: a node for each in its namespace, or with one engine for all.

ros2 launch anomaly_seg_ros multi_camera.launch.py cameras:=front,left shared_engine:=true

With a node for each the fall of one leaves the others; one engine takes the memory of one.

Every argument has a help text: add --show-args.
"""

import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from anomaly_seg_ros.node import launch_files, launch_support, topics
from anomaly_seg_ros.node.launch_typos import check_arguments

FILE = 'multi_camera.launch.py'


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare(topics.PACKAGE)
    defaults = {'params_file': PathJoinSubstitution([share, 'config', launch_support.PARAMS_FILE])}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=defaults.get(argument.name, argument.default),
                    description=argument.help,
                    choices=argument.choices or None,
                )
                for argument in launch_files.CAMERAS_ARGUMENTS
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The launch file of one camera, for each."""
    arguments = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in launch_files.CAMERAS_ARGUMENTS
    }
    one = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare(topics.PACKAGE), 'launch', launch_files.MAIN_FILE])
    )
    warnings = check_arguments(FILE, sys.argv, context.argv, context.launch_configurations)
    return [
        *(LogInfo(msg=f'WARNING: {warning}') for warning in warnings),
        *(
            # In a scope of its own, or the values of one camera would be those of the next.
            GroupAction([IncludeLaunchDescription(one, launch_arguments=list(camera.items()))])
            for camera in launch_files.of_cameras(arguments)
        ),
    ]
