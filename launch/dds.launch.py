"""Large frames for all that is started behind it: include it first in the camera's launch file.

ros2 launch anomaly_seg_ros dds.launch.py --show-args

A camera driver, a bag player or a composed container started behind it in the same launch sends
frames of several megabytes through shared memory, whatever the middleware: it sets the variables
of Fast DDS, or those of Zenoh, where the user has not set any.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction, SetEnvironmentVariable

from anomaly_seg_ros.node import launch_files, launch_support, middleware_profile
from anomaly_seg_ros.ros import launch_actions

FILE = 'dds.launch.py'


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *launch_actions.declared(launch_files.DDS_ARGUMENTS),
            OpaqueFunction(function=set_variables),
        ]
    )


def set_variables(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The variables that the middleware and glibc read."""
    arguments = launch_support.expanded(launch_actions.values(context, launch_files.DDS_ARGUMENTS))
    profile = middleware_profile.shm_profile_environment(arguments['shm_profile'], os.environ)
    variables = dict(profile.variables)
    if launch_support.to_bool('allocator', arguments['allocator']):
        variables |= {
            name: value
            for name, value in launch_files.ALLOCATOR_VARIABLES.items()
            if name not in os.environ
        }
    said = launch_actions.warned(FILE, context, profile.warning)
    return [
        *said,
        *(SetEnvironmentVariable(name, value) for name, value in variables.items()),
    ]
