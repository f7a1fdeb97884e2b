"""One camera on the vehicle: the node, with RViz on request.

ros2 launch anomaly_seg_ros anomaly_seg.launch.py image_topic:=/camera/image_raw rviz:=true

Every argument has a help text: add --show-args.
"""

from collections.abc import Callable
import os
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from anomaly_seg_ros.node import launch_support, topics
from anomaly_seg_ros.node.launch_typos import check_arguments
from anomaly_seg_ros.node.respawn import Respawn

FILE = 'anomaly_seg.launch.py'


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

    def node() -> Node:
        return Node(
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
            output='screen',
            emulate_tty=True,
        )

    warnings = check_arguments(FILE, sys.argv, context.argv, context.launch_configurations)
    warnings += [profile.warning] if profile.warning else []
    said = [LogInfo(msg=f'WARNING: {warning}') for warning in warnings]
    if not launch_support.to_bool('respawn', arguments['respawn']):
        return [*said, node()]
    delay_s = launch_support.to_seconds('respawn_delay', arguments['respawn_delay'])
    return [*said, *kept_running(node, Respawn(delay_s))]


def kept_running(make: Callable[[], Node], respawn: Respawn) -> list[LaunchDescriptionEntity]:
    """A node that is started again when it ends, until that is given up."""

    def again(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if context.is_shutdown:
            return []
        if why_not := respawn.why_not_again():
            return [LogInfo(msg=f'ERROR: {why_not}')]
        return [TimerAction(period=respawn.delay_s, actions=kept_running(make, respawn))]

    node = make()
    respawn.started()
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=again)), node]
