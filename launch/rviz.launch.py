"""RViz on the pictures of one node: camera and overlay, with score and classes to switch on.

ros2 launch anomaly_seg_ros rviz.launch.py namespace:=camera/front
"""

import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from anomaly_seg_ros.node import launch_support, topics
from anomaly_seg_ros.node.launch_typos import check_arguments

FILE = 'rviz.launch.py'


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
                for argument in launch_support.RVIZ_ARGUMENTS
            ),
            OpaqueFunction(function=start_rviz),
        ]
    )


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz with the topics of its file remapped to those of the node."""
    arguments = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in launch_support.RVIZ_ARGUMENTS
    }
    overrides = launch_support.parameter_overrides(arguments)
    config = PathJoinSubstitution(
        [FindPackageShare(topics.PACKAGE), 'config', launch_support.RVIZ_FILE]
    )
    warnings = check_arguments(FILE, sys.argv, context.argv, context.launch_configurations)
    return [
        *(LogInfo(msg=f'WARNING: {warning}') for warning in warnings),
        Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', config],
            parameters=[overrides] if overrides else [],
            remappings=launch_support.rviz_remappings(
                arguments['namespace'], arguments['node_name'], arguments['image_topic']
            ),
            output='screen',
        ),
    ]
