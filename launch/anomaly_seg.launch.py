"""One camera on the vehicle: the node, with RViz on request.

ros2 launch anomaly_seg_ros anomaly_seg.launch.py image_topic:=/camera/image_raw rviz:=true

Every argument has a help text: add --show-args.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from anomaly_seg_ros.node import launch_support, topics


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare(topics.PACKAGE)
    defaults = {'params_file': PathJoinSubstitution([share, 'config', launch_support.PARAMS_FILE])}
    rviz = PythonLaunchDescriptionSource(PathJoinSubstitution([share, 'launch', 'rviz.launch.py']))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=defaults.get(argument.name, argument.default),
                    description=argument.help,
                    choices=argument.choices or None,
                )
                for argument in launch_support.NODE_ARGUMENTS
            ),
            OpaqueFunction(function=start_node),
            IncludeLaunchDescription(
                rviz,
                launch_arguments=[
                    (argument.name, LaunchConfiguration(argument.name))
                    for argument in launch_support.RVIZ_ARGUMENTS
                ],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments have their values: only what the user set goes to it."""
    arguments = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in launch_support.NODE_ARGUMENTS
    }
    namespace, name = arguments['namespace'], arguments['node_name']
    overrides = {
        key: ParameterValue(value, value_type=type(value))
        for key, value in launch_support.parameter_overrides(arguments).items()
    }
    profile = launch_support.shm_profile_environment(arguments['shm_profile'], os.environ)
    logger = launch_support.logger_name(namespace, name)
    node = Node(
        package=topics.PACKAGE,
        executable=topics.NODE_EXECUTABLE,
        # Both, so that the overrides get the node's full name and win over any file entry.
        name=name,
        namespace=namespace,
        parameters=[arguments['params_file'], *([overrides] if overrides else [])],
        remappings=[
            (topics.IMAGE, arguments['image_topic']),
            (topics.CAMERA_INFO, arguments['camera_info_topic']),
        ],
        # A bare level would turn on the debug output of the middleware as well.
        ros_arguments=['--log-level', f'{logger}:={arguments["log_level"]}'],
        additional_env=profile.variables,
        respawn=launch_support.to_bool('respawn', arguments['respawn']),
        respawn_delay=launch_support.to_seconds('respawn_delay', arguments['respawn_delay']),
        output='screen',
        emulate_tty=True,
    )
    warnings = [LogInfo(msg=f'WARNING: {profile.warning}')] if profile.warning else []
    return [*warnings, node]
