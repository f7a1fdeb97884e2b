"""Several cameras: a node for each in its namespace, or with one engine for all.

ros2 launch anomaly_seg_ros multi_camera.launch.py cameras:=front,left shared_engine:=true

With a node for each the fall of one leaves the others; one engine takes the memory of one.

Every argument has a help text: add --show-args.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)

from anomaly_seg_ros.node import launch_files
from anomaly_seg_ros.ros import launch_actions

FILE = 'multi_camera.launch.py'


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *launch_actions.declared(launch_files.CAMERAS_ARGUMENTS),
            OpaqueFunction(function=start_nodes),
        ]
    )


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The launch file of one camera, for each."""
    arguments = launch_actions.values(context, launch_files.CAMERAS_ARGUMENTS)
    one = launch_actions.launch_file(launch_files.MAIN_FILE)
    said = launch_actions.warned(FILE, context)
    return [
        *said,
        *(
            # In a scope of its own, or the values of one camera would be those of the next.
            GroupAction([IncludeLaunchDescription(one, launch_arguments=list(camera.items()))])
            for camera in launch_files.of_cameras(arguments)
        ),
    ]
