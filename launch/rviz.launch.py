"""RViz on the pictures of one node: camera and overlay, with score and classes to switch on.

ros2 launch anomaly_seg_ros rviz.launch.py namespace:=camera/front
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from anomaly_seg_ros.node import launch_support, package_files
from anomaly_seg_ros.ros import launch_actions

FILE = 'rviz.launch.py'


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *launch_actions.declared(launch_support.RVIZ_ARGUMENTS),
            OpaqueFunction(function=start_rviz),
        ]
    )


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz with the topics of its file remapped to those of the node."""
    arguments = launch_actions.values(context, launch_support.RVIZ_ARGUMENTS)
    overrides = launch_support.parameter_overrides({'use_sim_time': arguments['use_sim_time']})
    config = launch_actions.installed('config', package_files.RVIZ_FILE)
    said = launch_actions.warned(FILE, context)
    return [
        *said,
        Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', config],
            parameters=[overrides] if overrides else [],
            remappings=launch_support.rviz_remappings(arguments),
            output='screen',
        ),
    ]
