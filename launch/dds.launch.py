"""Large frames for all that is started behind it: include it first in the camera's launch file.

ros2 launch anomaly_seg_ros dds.launch.py --show-args

A camera driver, a bag player or a composed container started behind it in the same launch sends
frames of several megabytes through shared memory, whatever the middleware: it sets the variables
of Fast DDS, or those of Zenoh, where the user has not set any.
"""

import os
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration

from anomaly_seg_ros.node import launch_files, launch_support
from anomaly_seg_ros.node.launch_typos import check_arguments

FILE = 'dds.launch.py'


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.help,
                    choices=argument.choices or None,
                )
                for argument in launch_files.DDS_ARGUMENTS
            ),
            OpaqueFunction(function=set_variables),
        ]
    )


def set_variables(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The variables that the middleware and glibc read."""
    arguments = launch_support.expanded(
        {
            argument.name: LaunchConfiguration(argument.name).perform(context)
            for argument in launch_files.DDS_ARGUMENTS
        }
    )
    profile = launch_support.shm_profile_environment(arguments['shm_profile'], os.environ)
    variables = dict(profile.variables)
    if launch_support.to_bool('allocator', arguments['allocator']):
        variables |= {
            name: value
            for name, value in launch_files.ALLOCATOR_VARIABLES.items()
            if name not in os.environ
        }
    warnings = check_arguments(FILE, sys.argv, context.argv, context.launch_configurations)
    warnings += [profile.warning] if profile.warning else []
    return [
        *(LogInfo(msg=f'WARNING: {warning}') for warning in warnings),
        *(SetEnvironmentVariable(name, value) for name, value in variables.items()),
    ]
